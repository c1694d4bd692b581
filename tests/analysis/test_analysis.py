"""The analysis of runs: numbers by hand, what it writes, and what it refuses."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cyclopts import App

from neuron_opsd.analysis.analyse import analyse
from neuron_opsd.analysis.cases import Findings, same_label, sharing
from neuron_opsd.analysis.columns import (
    PoolColumns,
    Verdicts,
    labelled_measures,
    told_apart,
    unlabelled_measures,
    vote_readers,
)
from neuron_opsd.analysis.inputs import (
    LabelledPool,
    PreparedRun,
    assign_answers,
)
from neuron_opsd.analysis.places import named_runs
from neuron_opsd.answers.readers import Reader
from neuron_opsd.cli.neurons import analyse as analyse_command
from neuron_opsd.config import Config
from neuron_opsd.config.tables import load_config
from neuron_opsd.data.csv_rows import cell
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.method.beliefs import jensen_shannon
from neuron_opsd.method.contexts.search import jaccard_distance
from neuron_opsd.method.labels import LabelColumns
from neuron_opsd.method.statistics import pearson, spearman
from neuron_opsd.progress import Silent
from neuron_opsd.records import (
    Demonstration,
    GoldAnswers,
    Message,
    Question,
    SelectionEntry,
    TeacherContext,
    Vote,
)
from neuron_opsd.records.scores import Interval
from neuron_opsd.results.analysis import (
    ACCURACY,
    CAPTURED,
    GROUPS,
    NEAREST,
    PAIRS,
    RIVALS,
    AnalysisData,
    RunAnalysis,
    area_gain_name,
    area_name,
    correlation_name,
    shared_name,
    vote_name,
)
from neuron_opsd.storage.codecs import BELIEFS, NEURONS, ROLLOUTS
from tiny_runs import (
    files_of,
    pool_rows,
    read_json,
    read_sealed,
    tiny_config,
    tiny_request,
    tiny_run,
    write_rows,
    write_sealed,
)

GOLD = {row["id"]: row["answer"] for row in pool_rows("choices")}


@dataclass(frozen=True)
class Analysed:
    """An analysis of one run with its pool's answers."""

    data: AnalysisData
    out: Path
    run: Path
    pool: Path
    before: dict[str, bytes]

    @property
    def only(self) -> RunAnalysis:
        """What was found of the run."""
        (found,) = self.data.runs
        return found


def analysed(out: Path, *runs: Path, answers: tuple[str, ...] = ()) -> AnalysisData:
    """Analyse some runs quietly."""
    return analyse(runs, out, Silent(), answers, "a command")


@pytest.fixture(scope="module")
def labelled(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Analysed:
    """Give an analysis with answers; tests must leave it as it is."""
    out = tmp_path_factory.mktemp("analysis")
    # Greedy answers of this model are all of one length.
    config = tiny_config(tiny_llama, "contexts.answer=first")
    done = tiny_run(tiny_request(tmp_path_factory.mktemp("analysed")), config)
    run, pool = done.folder, Path(done.request.pool)
    before = files_of(run)
    data = analysed(out, run, answers=(str(pool),))
    return Analysed(data, out, run, pool, before)


def value(measures: Mapping[str, Interval], name: str) -> float:
    """Return a measure without its interval."""
    return measures[name].value


def sampled_answers(run: Path) -> dict[str, list[str | None]]:
    """Return by question the answers of its sampled rollouts."""
    answers: dict[str, list[str | None]] = {}
    for rollout in ROLLOUTS.load(run / "rollouts.parquet"):
        if rollout.temperature > 0:
            answers.setdefault(rollout.question_id, []).append(rollout.answer)
    return answers


def pool_accuracy(run: Path) -> dict[str, float]:
    """Return by question the share of sampled rollouts that are right, slowly."""
    found = sampled_answers(run)
    return {name: some.count(GOLD[name]) / len(some) for name, some in found.items()}


def voted(answers: list[str | None]) -> str | None:
    """Return the most frequent answer, of equals the one that was given first."""
    return Counter(answers).most_common(1)[0][0]


def kept_questions(run: Path) -> list[str]:
    """Return the ids of the questions that were selected."""
    entries = read_json(run / "selection.json")
    return [entry["question_id"] for entry in entries if entry["kept"]]


def test_the_count_is_correlated_with_accuracy(labelled: Analysed) -> None:
    accuracy = pool_accuracy(labelled.run)
    sets = NEURONS.load(labelled.run / "neurons.parquet")
    count = [entry.neuron_count or 0 for entry in sets]
    assert all(count)
    right = [accuracy[entry.question_id] for entry in sets]
    found = labelled.only.measures
    for kind, twin in (("pearson", pearson), ("spearman", spearman)):
        interval = found[correlation_name(kind, "accuracy")]
        assert interval.value == pytest.approx(twin(count, right))
        assert interval.low <= interval.value <= interval.high
    groups = [one.num_questions for one in labelled.only.bins["accuracy"]]
    assert sum(groups) == len(sets) == labelled.only.num_questions


def test_votes_are_told_for_selected_other_and_all_questions(
    labelled: Analysed,
) -> None:
    accuracy = pool_accuracy(labelled.run)
    answers = sampled_answers(labelled.run)
    kept = kept_questions(labelled.run)
    found = labelled.only.measures
    average = value(found, vote_name("selected", "avg_at_k"))
    assert average == pytest.approx(np.mean([accuracy[i] for i in kept]))
    majority = np.mean([voted(answers[i]) == GOLD[i] for i in kept])
    assert value(found, vote_name("selected", "maj_at_k")) == pytest.approx(majority)
    gap = value(found, vote_name("selected", "maj_minus_avg"))
    assert gap == pytest.approx(majority - average)
    agreement = np.mean([max(Counter(a).values()) / len(a) for a in answers.values()])
    assert value(found, vote_name("all", "agreement")) == pytest.approx(agreement)
    assert all(vote_name(group, "unanimity") in found for group in GROUPS)


def test_every_rival_has_an_area_and_a_paired_difference(labelled: Analysed) -> None:
    found = labelled.only.measures
    for target in ("captured", "vote"):
        own = value(found, area_name(target, "count"))
        assert area_name(target, "shift") not in found  # the rule did not ask for it
        for name in RIVALS.keys() - {"shift", "divergence"}:
            area = value(found, area_name(target, name))
            assert 0 <= area <= 1
            if name != "count":
                gain = value(found, area_gain_name(target, name))
                assert gain == pytest.approx(own - area)


def test_what_the_teacher_changes_is_a_rival_where_a_rule_read_it(
    tiny_llama_plain: Path, tmp_path: Path
) -> None:
    short = ["distill.steps=1", "evaluation.num_samples=2", "evaluation.prompted=false"]
    rule = "selection.rule=belief-shift"
    config = tiny_config(tiny_llama_plain, *short, rule, "teacher_check.action=off")
    done = tiny_run(tiny_request(tmp_path), config)
    data = analysed(tmp_path / "analysis", done.folder, answers=(done.request.pool,))
    (found,) = data.runs
    beliefs = BELIEFS.load(done.folder / "beliefs.json")
    shifts = [-jensen_shannon(one.student, one.teacher) for one in beliefs]
    far = [-(one.divergence or 0.0) for one in beliefs]
    rollouts = ROLLOUTS.load(done.folder / "rollouts.parquet")
    first = {r.question_id: r.answer for r in rollouts if r.index == 0}
    right = [first[one.question_id] == GOLD[one.question_id] for one in beliefs]
    for name, scores in (("shift", shifts), ("divergence", far)):
        wins = [
            (a > b) + (a == b) / 2
            for a, good in zip(scores, right, strict=True)
            for b, bad in zip(scores, right, strict=True)
            if good and not bad
        ]
        area = value(found.measures, area_name("captured", name))
        assert area == pytest.approx(np.mean(wins))


def test_distances_are_those_of_all_pairs(labelled: Analysed) -> None:
    sets = [e.neuron_ids for e in NEURONS.load(labelled.run / "neurons.parquet")]
    table = np.array([[jaccard_distance(a, b) for b in sets] for a in sets])
    others = table[~np.eye(len(sets), dtype=bool)].reshape(len(sets), -1)
    found = labelled.only.measures
    assert value(found, PAIRS) == pytest.approx(others.mean())
    assert value(found, NEAREST) == pytest.approx(others.min(axis=1).mean())
    assert labelled.only.distances_of == len(sets)


def test_cases_show_demonstrations_nearest_first(labelled: Analysed) -> None:
    cases = labelled.only.cases
    assert len(cases) == len(kept_questions(labelled.run)) <= 40
    for case in cases:
        assert case.question.startswith("Is ")
        assert case.gold == GOLD[case.question_id]
        assert case.correct == (case.answer == case.gold)
        distances = [d for s in case.demonstrations if (d := s.distance) is not None]
        assert len(distances) == len(case.demonstrations)
        assert distances == sorted(distances)
        for shown in case.demonstrations:
            assert shown.gold == GOLD[shown.question_id]
            assert shown.shares_gold == (shown.gold == case.gold)
            assert shown.shares_answer == (shown.answer == case.answer)


def test_sharing_is_counted_against_random_questions() -> None:
    def context(name: str, *shown: str) -> TeacherContext:
        return TeacherContext(
            name, tuple(Demonstration(i, "text", 0.5, "why") for i in shown)
        )

    labels = {"a": "Yes", "b": "yes ", "c": "no", "d": None, "e": "yes"}
    asked = [context("a", "b", "c"), context("d", "a")]
    near, random = sharing(asked, labels, frozenset(labels))
    assert near.tolist() == [0.5, 0.0]
    assert random.tolist() == [2 / 4, 0.0]
    # A question that can be no demonstration is none of the random ones either.
    _, random = sharing(asked, labels, frozenset("bce"))
    assert random.tolist() == [2 / 3, 0.0]
    assert not same_label(None, None)


def found_with(config: Config, labels: LabelledPool | None = None) -> Findings:
    """Return findings of which nothing but settings and texts is known."""
    nothing: Any = None
    run = PreparedRun("r", nothing, config, (), (), (), (), None)
    return Findings(run, nothing, labels, None)


def test_under_letters_answers_are_alike_whose_letters_are() -> None:
    questions = tuple(
        Question(name, (Message("user", "?"),), choices=choices)
        for name, choices in {"a": ("x", "y"), "b": ("v", "w")}.items()
    )
    labels = LabelledPool(questions, GoldAnswers({}))
    letters = load_config(None, ["prompts.list_choices=letters"])
    answers = {"a": "y", "b": None}
    assert found_with(letters, labels).as_written(answers) == {"a": "B", "b": None}
    assert found_with(letters).as_written(answers) == answers
    assert found_with(Config(), labels).as_written(answers) == answers


def test_without_texts_votes_are_held_as_the_run_held_them() -> None:
    entries = (SelectionEntry("q", 1, 1, kept=True, reason="why"),)

    def readers(reader: str) -> Mapping[str, Reader] | None:
        config = load_config(None, [f"answers.reader={reader}", "answers.pattern=x"])
        run = replace(found_with(config).run, selection=entries)
        return vote_readers(run, None)

    assert readers("auto") is None
    found = readers("number")
    assert found is not None
    assert found["q"].same("1.0", "1")


def test_so_few_right_answers_are_nothing_to_go_by() -> None:
    few, enough = np.zeros(40), np.zeros(40)
    few[:4], enough[:5] = 1.0, 1.0
    assert not told_apart(few).any()
    assert not told_apart(1 - few).any()
    assert told_apart(enough) is enough


@pytest.mark.parametrize("num_rollouts", [1, 4])
def test_a_pool_that_was_answered_once_has_no_vote_share(num_rollouts: int) -> None:
    size = 40
    source = np.random.default_rng(0)
    ids = tuple(map(str, range(size)))
    columns = PoolColumns(
        ids=ids,
        captured={},
        votes={i: Vote(i, "a", {"a": num_rollouts}, num_rollouts) for i in ids},
        captured_greedy=False,
        agreement=np.where(source.random(size) < 0.8, 1.0, 0.0),
        unanimous=source.random(size) < 0.8,
        selected=source.random(size) < 0.5,
        **{
            name: source.random(size)
            for name in (
                *("count", "length", "mean_length", "entropy", "logprob"),
                *("shift", "divergence"),
            )
        },
    )
    right = source.random(size) < 0.5
    unknown = np.full(size, np.nan)
    labels = LabelColumns(np.empty((size, 0)), np.empty((size, 0)), unknown, unknown)
    verdicts = Verdicts({}, {}, right.astype(np.float64), right, right, labels)
    weights = np.ones((1, size))
    found = {
        **unlabelled_measures(columns)(weights),
        **labelled_measures(columns, verdicts)(weights),
    }
    of_votes = {name for name in found if "agreement" in name or "unanimity" in name}
    assert bool(of_votes) is (num_rollouts > 1)
    partial = found[correlation_name("partial", ACCURACY)]
    assert np.isfinite(partial).all()


def test_files_hold_every_number_and_the_run_is_left_alone(labelled: Analysed) -> None:
    assert sorted(files_of(labelled.out)) == [
        "analysis.csv",
        "analysis.html",
        "analysis.json",
        f"atlas/{labelled.run.name}.html",
        f"atlas/{labelled.run.name}.json",
    ]
    assert files_of(labelled.run) == labelled.before
    table = read_json(labelled.out / "analysis.json")
    assert table["runs"][0]["name"] == labelled.run.name
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    text = (labelled.out / "analysis.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert {row["run"] for row in rows} == {labelled.run.name}
    numbers = {row["quantity"]: row["value"] for row in rows}
    assert len(numbers) == len(rows)
    for name, interval in labelled.only.measures.items():
        written = numbers[name]
        assert (float(written) if written else math.nan) == pytest.approx(
            interval.value, nan_ok=True
        )
    assert "bin.accuracy.1" in numbers
    assert "teacher_check.teacher_entropy" in numbers


def test_the_same_analysis_gives_the_same_files(
    labelled: Analysed, tmp_path: Path
) -> None:
    analysed(tmp_path, labelled.run, answers=(str(labelled.pool),))
    assert files_of(tmp_path) == files_of(labelled.out)


def test_without_answers_what_needs_no_label_is_told(
    labelled: Analysed, tmp_path: Path
) -> None:
    (found,) = analysed(tmp_path, labelled.run).runs
    assert not found.labelled
    assert set(found.bins) == {"agreement"}
    assert correlation_name("spearman", "agreement") in found.measures
    assert shared_name("answer", "excess") in found.measures
    for target in (ACCURACY, CAPTURED):
        assert not any(target in name for name in found.measures)
    assert shared_name("gold", "excess") not in found.measures
    assert all(c.gold is None and c.question == "" for c in found.cases)
    assert "No true answers were given" in (tmp_path / "analysis.html").read_text()


def test_runs_of_one_pool_are_averaged_on_the_same_resamples(
    labelled: Analysed, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(labelled.run, other)
    out = tmp_path / "out"
    data = analysed(out, labelled.run, other, answers=(str(labelled.pool),))
    assert [run.name for run in data.runs] == [labelled.run.name, "other"]
    for name, interval in labelled.only.measures.items():
        mean = data.overall[name]
        assert (mean.value, mean.low, mean.high) == pytest.approx(
            (interval.value, interval.low, interval.high), nan_ok=True
        )
    assert data.between[0][0] == data.runs[0].measures[PAIRS].value
    between = data.between[0][1]
    assert between is not None
    assert between == data.between[1][0]
    assert 0 < between < data.between[0][0]  # 20 of the pairs are copies
    assert f"{labelled.run.name} to other," in (out / "analysis.csv").read_text()


def test_other_questions_in_the_file_and_their_order_do_not_matter(
    labelled: Analysed, tmp_path: Path
) -> None:
    rows = [{"question": "More?", "answer": "no", "id": "more"}]
    rows += pool_rows("choices")[::-1]
    file = write_rows(tmp_path / "all.jsonl", rows)
    name = labelled.run.name
    data = analysed(tmp_path / "out", labelled.run, answers=(f"{name}={file}",))
    assert data.runs == labelled.data.runs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "elsewhere"}, "not 1 of the 20 that run run answered, first p0"),
        ({"question": "Is 0 odd?"}, "are not those that the run was asked"),
        ({"answer": None}, "1 of the 20 questions of run run have no answer, first p0"),
    ],
)
def test_answers_to_other_questions_are_refused(
    labelled: Analysed, tmp_path: Path, change: dict[str, str | None], message: str
) -> None:
    rows = pool_rows("choices")
    rows[0] |= change
    rows[0] = {name: part for name, part in rows[0].items() if part is not None}
    file = write_rows(tmp_path / "pool.jsonl", rows)
    with pytest.raises(DataError, match=message):
        analysed(tmp_path / "out", labelled.run, answers=(str(file),))
    assert not (tmp_path / "out").exists()


def test_rows_without_ids_are_found_by_their_places(
    labelled: Analysed, tmp_path: Path
) -> None:
    rows = [{**row, "id": f"other-{n}"} for n, row in enumerate(pool_rows("choices"))]
    file = write_rows(tmp_path / "labelled.jsonl", rows)
    data = analysed(tmp_path / "out", labelled.run, answers=(str(file),))
    assert data.runs[0].measures == labelled.only.measures
    swapped = write_rows(tmp_path / "swapped.jsonl", [*rows[1:], rows[0]])
    with pytest.raises(DataError, match="its questions or choices are not those"):
        analysed(tmp_path / "no", labelled.run, answers=(str(swapped),))


def test_a_part_of_a_comparison_is_named_as_such(
    labelled: Analysed, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(labelled.run, run)
    manifest = read_sealed(run / "manifest.json")
    manifest["outputs"]["methods/lmsi"] = manifest["outputs"]["rollouts"]
    write_sealed(run / "manifest.json", manifest)
    with pytest.raises(DataError, match=r"is a part of a comparison.*name the folder"):
        analysed(tmp_path / "out", run)


def test_a_run_that_is_not_prepared_or_was_changed_is_refused(
    labelled: Analysed, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(labelled.run, run)
    (run / "contexts.json").write_text("[]")
    with pytest.raises(DataError, match=r"contexts\.json is not as the run wrote it"):
        analysed(tmp_path / "out", run)
    (run / "contexts.json").unlink()
    with pytest.raises(DataError, match=r"no contexts\.json: the run is not prepared"):
        analysed(tmp_path / "out", run)
    with pytest.raises(DataError, match="is not a run directory"):
        analysed(tmp_path / "out", tmp_path)


def test_nothing_is_written_into_a_run(labelled: Analysed) -> None:
    for out in (labelled.run, labelled.run / "analysis"):
        with pytest.raises(ConfigError, match="which is in the run directory"):
            analysed(out, labelled.run)


def test_runs_are_told_apart_by_the_names_of_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert named_runs([Path("a/x"), Path("b")]) == {"x": Path("a/x"), "b": Path("b")}
    monkeypatch.chdir(tmp_path)
    assert list(named_runs([Path()])) == [tmp_path.name]
    with pytest.raises(ConfigError, match="two runs are named 'x': a/x and b/x"):
        named_runs([Path("a/x"), Path("b/x")])
    with pytest.raises(ConfigError, match="no run is given"):
        named_runs([])


def test_answers_are_for_one_run_or_for_all(tmp_path: Path) -> None:
    names = ("a", "b")
    assert assign_answers((), names) == {"a": None, "b": None}
    assert assign_answers(("f", "b=g"), names) == {"a": "f", "b": "g"}
    odd = tmp_path / "seed=1.jsonl"
    odd.touch()
    assert assign_answers((str(odd),), names) == {"a": str(odd), "b": str(odd)}
    with pytest.raises(ConfigError, match=r"'c=f', but it must be NAME=FILE .* a, b"):
        assign_answers(("c=f",), names)
    with pytest.raises(ConfigError, match="names 'a' twice, for f and g"):
        assign_answers(("a=f", "a=g"), names)
    with pytest.raises(ConfigError, match="2 files without a name, f and g"):
        assign_answers(("f", "g"), names)


def test_names_are_no_formulas_in_a_spreadsheet() -> None:
    assert cell("run") == "run"
    for start in ("=1+1", "-x", "+x", "@SUM(A1)", "\t=x", "\r=x", "\n=x", "\uff1dx"):
        assert cell(start) == f"'{start}"


def test_the_command_says_where_everything_is(
    labelled: Analysed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = App()
    app.command(analyse_command)
    words = ["analyse", str(labelled.run), "--answers", str(labelled.pool), "--quiet"]
    app([*words, "--out", str(tmp_path)], result_action="return_value")
    shown = capsys.readouterr()
    assert "rank correlation with accuracy" in " ".join(shown.out.split())
    assert f"report: {tmp_path / 'analysis.html'}" in shown.out
    assert shown.err == ""
    app([*words, "--json", "--out", str(tmp_path)], result_action="return_value")
    document = json.loads(capsys.readouterr().out)
    found = document["runs"][labelled.run.name]
    name = correlation_name("spearman", "accuracy")
    assert found[name]["value"] == labelled.only.measures[name].value
    assert document["overall"] == {}
    assert document["csv"] == str(tmp_path / "analysis.csv")
