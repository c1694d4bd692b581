"""The probe of a pool: what it finds, keeps, resumes, borrows and refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neuron_opsd as no
import places
from neuron_opsd.cli import main
from neuron_opsd.cli.probe import Extent
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.known import NAMES
from neuron_opsd.method.contexts import CONTEXT_RULES
from neuron_opsd.method.selection import SELECTION_RULES
from neuron_opsd.probing import probe as probing
from neuron_opsd.probing.arms import reordered
from neuron_opsd.probing.request import Choices, request_of
from neuron_opsd.progress import Silent
from neuron_opsd.records import Demonstration, TeacherContext
from neuron_opsd.results.probe import ContextResult, ProbeData, SelectionResult
from neuron_opsd.stages import probing as hearing
from tiny_runs import (
    KINDS,
    SETTINGS,
    FinishedRun,
    files_of,
    parity_rows,
    pool_rows,
    read_json,
    tiny_config,
    with_wrong_answers,
    without_answers,
    write_rows,
)

FEW: Choices = {"questions": 12, "draws": 2}


@dataclass(frozen=True)
class Probed:
    """A probe of a tiny pool."""

    data: ProbeData
    out: Path
    pool: Path
    told: Silent


def probed(
    folder: Path,
    model: Path,
    kind: str = "choices",
    *assignments: str,
    out: str = "probe",
    **choices: Any,
) -> Probed:
    """Probe a pool of one kind, which is written if it is missing."""
    pool = folder / f"{kind}.jsonl"
    if not pool.exists():
        write_rows(pool, pool_rows(kind))
    told = Silent()
    config = tiny_config(model, *assignments)
    wanted: Any = {**FEW, **choices}
    data = no.probe(pool, folder / out, config, told, **wanted)
    return Probed(data, folder / out, pool, told)


@pytest.fixture(scope="module")
def labelled(
    tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Probed]:
    """Give a probe of each kind of pool, with its answers; tests only read it."""
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        pool = write_rows(folder / f"{kind}.jsonl", pool_rows(kind))
        found[kind] = probed(folder, tiny_llama, kind, answers=pool)
    return found


def of_rule(
    results: Sequence[ContextResult] | Sequence[SelectionResult], rule: str
) -> Any:
    """Return the result of a rule."""
    return next(one for one in results if one.rule == rule)


def values(measures: Any) -> dict[str, float]:
    """Return measures without their intervals."""
    return {name: interval.value for name, interval in measures.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_is_tried(kind: str, labelled: dict[str, Probed]) -> None:
    data = labelled[kind].data
    assert {one.rule for one in data.contexts} == set(CONTEXT_RULES)
    assert {one.rule for one in data.selections} == set(SELECTION_RULES)
    assert not data.skipped
    assert data.num_questions == 12
    assert data.num_ranked == data.num_library == data.num_pool == 20
    assert data.heard == ("choices" if kind == "choices" else "scored")


@pytest.mark.parametrize("kind", KINDS)
def test_measures_are_what_they_say(kind: str, labelled: dict[str, Probed]) -> None:
    data = labelled[kind].data
    for one in data.contexts:
        found = values(one.measures)
        shares = ("agreement", "fix", "break", "stability", "accuracy", "support")
        assert all(0.0 <= found[name] <= 1.0 for name in shares), one.rule
        assert found["score"] == pytest.approx(found["fix"] - found["break"])
        above = one.over_student["agreement"].value
        assert above == pytest.approx(found["score"])
        student = data.student["agreement"].value
        assert found["agreement"] - student == pytest.approx(above)
        if one.rule != "random":
            random = values(of_rule(data.contexts, "random").measures)
            over = values(one.over_random)
            assert over["shift"] == pytest.approx(found["shift"] - random["shift"])


def test_rules_that_draw_are_known_by_their_demonstrations(
    labelled: dict[str, Probed],
) -> None:
    contexts = labelled["choices"].data.contexts
    assert of_rule(contexts, "random").num_draws == 2
    assert of_rule(contexts, "nearest").num_draws == 1
    assert of_rule(contexts, "words").num_draws == 1
    out = labelled["choices"].out
    assert (out / "probe" / "nearest-order.json").exists()
    assert not (out / "probe" / "random-order.json").exists()
    selections = labelled["choices"].data.selections
    assert of_rule(selections, "all").num_draws == 1
    assert of_rule(selections, "random").num_draws == 2


def test_what_is_kept_of_all_is_everything(labelled: dict[str, Probed]) -> None:
    data = labelled["choices"].data
    everyone = of_rule(data.selections, "all")
    assert everyone.num_kept == data.num_ranked
    half = of_rule(data.selections, "random")
    assert half.num_kept == 10  # selection.keep_fraction is a half
    lead = everyone.measures["accuracy over the student"]
    assert lead.low <= lead.value <= lead.high


def test_all_with_a_context_rule_scores_as_that_rule_alone(
    labelled: dict[str, Probed],
) -> None:
    data = labelled["choices"].data
    for pair in data.pairs:
        if pair.selection == "all":
            alone = of_rule(data.contexts, pair.contexts).measures["score"]
            assert pair.score.value == pytest.approx(alone.value)
            assert pair.num_questions == data.num_questions
    assert len({pair.selection for pair in data.pairs}) == len(SELECTION_RULES)


def test_the_teacher_is_the_one_that_a_run_would_have(
    labelled: dict[str, Probed], tiny_llama: Path
) -> None:
    """Its demonstrations are those of the pipeline, for the same settings."""
    from neuron_opsd.runs.preview import preview

    out = labelled["choices"].out
    contexts = read_json(out / "probe" / "nearest-0.contexts.json")
    config = tiny_config(tiny_llama)
    for context in contexts[:3]:
        name = context["question_id"]
        seen = preview(str(labelled["choices"].pool), name, config, Silent())
        shown = [d["question_id"].removeprefix("p") for d in context["demonstrations"]]
        places = [seen.teacher_prompt.index(f"Is {n} odd") for n in shown]
        assert places == sorted(places)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [without_answers, with_wrong_answers])
def test_without_answers_no_gold_answer_changes_a_byte(
    kind: str, change: Any, tmp_path: Path, tiny_llama: Path
) -> None:
    one = probed(tmp_path, tiny_llama, kind, out="one")
    assert not one.data.labelled
    assert "accuracy" not in one.data.student
    write_rows(one.pool, change(pool_rows(kind)))
    other = probed(tmp_path, tiny_llama, kind, out="other")
    for name in ("probe.json", "probe.csv", "probe.html"):
        assert (one.out / name).read_bytes() == (other.out / name).read_bytes()


def test_without_answers_nobody_reads_a_label(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a gold answer was asked for")

    monkeypatch.setattr(probing, "judge_of", refuse)
    probed(tmp_path, tiny_llama)
    with pytest.raises(AssertionError, match="asked for"):
        probed(tmp_path, tiny_llama, answers=tmp_path / "choices.jsonl")


def test_accuracy_is_the_probability_of_the_right_answer(
    labelled: dict[str, Probed],
) -> None:
    found = labelled["choices"]
    heard = read_json(found.out / "probe" / "student.json")
    asked = {
        c["question_id"]
        for c in read_json(found.out / "probe" / "words-0.contexts.json")
    }
    gold = {
        row["id"]: row["choices"].index(row["answer"]) for row in pool_rows("choices")
    }
    right = [
        np.exp(one["logprobs"][gold[one["question_id"]]])
        for one in heard
        if one["question_id"] in asked
    ]
    assert len(right) == 12
    accuracy = found.data.student["accuracy"].value
    assert accuracy == pytest.approx(float(np.mean(right)))


def test_answers_that_are_not_of_the_pool_are_refused_before_any_work(
    tmp_path: Path, tiny_llama: Path
) -> None:
    rows = pool_rows("choices")
    rows[3] = rows[3] | {"question": "Is 33 odd or even?"}
    answers = write_rows(tmp_path / "answers.jsonl", rows)
    with pytest.raises(DataError, match="does not ask question p3 as the pool does"):
        probed(tmp_path, tiny_llama, answers=answers)
    write_rows(answers, without_answers(pool_rows("choices")))
    with pytest.raises(DataError, match="no gold answer"):
        probed(tmp_path, tiny_llama, answers=answers)
    assert not (tmp_path / "probe").exists()


def test_a_probe_that_was_stopped_goes_on(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle of a teacher, it asks nothing again that is kept."""
    whole = probed(tmp_path, tiny_llama, out="whole")
    asked: list[int] = []
    listen = hearing.hear

    def stop(model: Any, probes: Any, *more: Any, **named: Any) -> Any:
        asked.append(len(probes))
        if len(asked) == 5:
            raise KeyboardInterrupt
        return listen(model, probes, *more, **named)

    monkeypatch.setattr("neuron_opsd.probing.arms.hear", stop)
    with pytest.raises(KeyboardInterrupt):
        probed(tmp_path, tiny_llama, out="stopped")
    before = asked.copy()
    resumed = probed(tmp_path, tiny_llama, out="stopped")
    for name in ("probe.json", "probe.csv", "probe.html"):
        one, other = (found.out / name for found in (whole, resumed))
        assert one.read_bytes() == other.read_bytes()
    again = len(asked)
    probed(tmp_path, tiny_llama, out="stopped")
    assert len(asked) == again, "a finished probe asks nothing"
    total = sum(asked) - before[-1]
    heard = [
        len(read_json(f))
        for f in (whole.out / "probe").glob("*.json")
        if not f.name.endswith(".contexts.json")
    ]
    assert total == sum(heard), "what was heard before the stop is not asked again"


def test_a_probe_that_was_killed_ends_with_the_same_bytes(
    tmp_path: Path, tiny_llama: Path, labelled: dict[str, Probed]
) -> None:
    whole = labelled["free"]
    out = tmp_path / "out"
    argv = ["probe", "--model", str(tiny_llama), "--pool", str(whole.pool)]
    argv += ["--answers", str(whole.pool), "--out", str(out), "--quiet"]
    argv += ["--questions", "12", "--draws", "2", "--set", *SETTINGS]
    command = [sys.executable, "-W", "ignore", "-m", "neuron_opsd", *argv]
    environment = os.environ | {"PYTHONPATH": str(places.SOURCES)}
    with subprocess.Popen(command, env=environment) as process:
        while not (out / "probe" / "nearest-0.json").exists():
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        process.kill()
    assert not (out / "probe.json").exists()
    assert main(argv) == 0
    one, other = (read_json(folder / "probe.json") for folder in (out, whole.out))
    assert one["contexts"] == other["contexts"]
    assert one["selections"] == other["selections"]
    kept, asked = (folder / "questions.csv" for folder in (out, whole.out))
    assert kept.read_bytes() == asked.read_bytes()


def test_other_selections_are_looked_at_in_the_same_folder(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed(tmp_path, tiny_llama)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something was asked anew")

    monkeypatch.setattr("neuron_opsd.probing.arms.hear", refuse)
    found = probed(tmp_path, tiny_llama, "choices", "selection.keep_fraction=0.25")
    assert of_rule(found.data.selections, "random").num_kept == 5


def test_another_extent_is_refused_in_the_same_folder(
    tmp_path: Path, tiny_llama: Path
) -> None:
    probed(tmp_path, tiny_llama)
    with pytest.raises(ConfigError, match=r"probe\.questions"):
        probed(tmp_path, tiny_llama, questions=8)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_run_has_made_is_taken_from_it(
    kind: str,
    tmp_path: Path,
    tiny_llama: Path,
    labelled: dict[str, Probed],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tiny_runs import tiny_request, tiny_run

    request = tiny_request(tmp_path, kind=kind)
    run = tiny_run(request, tiny_config(tiny_llama))
    before = files_of(run.folder)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the pool was asked again")

    monkeypatch.setattr("neuron_opsd.pipeline.sample_rollouts", refuse)
    monkeypatch.setattr("neuron_opsd.pipeline.capture.capture_answers", refuse)
    config = tiny_config(tiny_llama)
    found = no.probe(
        request.pool,
        tmp_path / "out",
        config,
        Silent(),
        run=run.folder,
        questions=12,
        draws=2,
    )
    assert files_of(run.folder) == before
    assert found.run == str(run.folder)
    if kind == "free":
        return  # the run has a test with choices, for which reasoning was turned off
    alone = labelled[kind].data
    for one, other in zip(found.contexts, alone.contexts, strict=True):
        assert one.rule == other.rule
        for name, interval in one.measures.items():
            assert interval == other.measures[name], (one.rule, name)


def test_a_method_of_a_comparison_lends_what_its_group_has_made(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = write_rows(tmp_path / "pool.jsonl", pool_rows("choices"))
    test = write_rows(tmp_path / "test.jsonl", parity_rows(range(100, 104), "a"))
    more = ("distill.steps=1", "distill.checkpoint_every=1")
    arm = "words=neuron-opsd:contexts.rule=words,contexts.answer=greedy"
    no.compare(
        {"parity": pool},
        {"parity": test},
        tmp_path / "compared",
        tiny_config(tiny_llama, *more),
        Silent(),
        methods=[arm],
        seeds=1,
    )
    group = tmp_path / "compared" / "blocks" / "parity" / "seed-0" / "base"

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the pool was asked again")

    monkeypatch.setattr("neuron_opsd.pipeline.sample_rollouts", refuse)
    monkeypatch.setattr("neuron_opsd.pipeline.capture.capture_answers", refuse)
    method = group / "methods" / "words"
    found = no.probe(pool, tmp_path / "out", {}, Silent(), run=method, questions=6)
    assert found.base_rule == "words"
    assert found.taught["contexts.answer"] == "greedy"
    assert {one.rule for one in found.contexts} == set(CONTEXT_RULES)


def test_a_run_with_other_settings_or_another_pool_is_refused(
    tmp_path: Path, tiny_llama: Path, finished_run: FinishedRun
) -> None:
    pool, run = finished_run.request.pool, finished_run.folder
    named: Choices = {"run": run, **FEW}
    config = tiny_config(tiny_llama, "rollouts.temperature=0.9")
    with pytest.raises(ConfigError, match=r"other settings for rollouts\.temperature"):
        no.probe(pool, tmp_path / "out", config, **named)
    other = write_rows(tmp_path / "pool.jsonl", pool_rows("choices")[:-1])
    with pytest.raises(DataError, match="does not hold the questions"):
        no.probe(other, tmp_path / "out", {}, **named)
    with pytest.raises(ConfigError, match="has answered its whole pool"):
        no.probe(pool, tmp_path / "out", {}, run=run, library=10)
    assert not (tmp_path / "out").exists()


def test_a_part_of_the_pool_may_be_all_that_is_answered(
    tmp_path: Path, tiny_llama: Path
) -> None:
    found = probed(tmp_path, tiny_llama, library=9)
    assert (found.data.num_pool, found.data.num_library) == (20, 9)
    assert found.data.num_questions == 9
    shown = {
        d["question_id"]
        for context in read_json(found.out / "probe" / "random-0.contexts.json")
        for d in context["demonstrations"]
    }
    assert len(shown) <= 9


def test_named_rules_alone_are_tried(tmp_path: Path, tiny_llama: Path) -> None:
    found = probed(
        tmp_path, tiny_llama, context_rules=["words"], selection_rules=["all"]
    ).data
    # The teacher of the settings is asked as well, for selections are seen by it.
    assert [one.rule for one in found.contexts] == ["nearest", "words"]
    assert [one.rule for one in found.selections] == ["all"]
    assert not any(one.over_random for one in found.contexts)
    assert found.model == tiny_llama.name  # not the folders of this machine
    with pytest.raises(ConfigError, match="--context-rules has 'wrds', but there are"):
        probed(tmp_path, tiny_llama, out="b", context_rules=["wrds"])


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"questions": 1}, "--questions is 1, but it must be 2 or more"),
        ({"draws": 1}, "--draws is 1, but it must be 2 or more"),
        ({"completions": 0}, "--completions is 0"),
        ({"write": -1}, "--write is -1"),
    ],
)
def test_numbers_that_cannot_be_are_refused(
    choice: Any, message: str, tmp_path: Path, tiny_llama: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        probed(tmp_path, tiny_llama, **choice)


def test_rules_that_read_neurons_are_left_out_where_there_are_none(
    tmp_path: Path, tiny_gpt2: Path
) -> None:
    found = probed(tmp_path, tiny_gpt2).data
    assert {one.rule for one in found.skipped if one.section == "contexts"} == {
        name for name, rule in CONTEXT_RULES.items() if rule.reads_neurons
    }
    assert "nearest" not in {one.rule for one in found.contexts}
    assert found.contexts


def test_free_answers_may_be_written_anew(tmp_path: Path, tiny_llama: Path) -> None:
    found = probed(tmp_path, tiny_llama, "free", write=2, context_rules=["random"])
    assert found.data.heard == "written"
    heard = read_json(found.out / "probe" / "random-0.json")
    assert {len(one["answers"]) for one in heard} == {2}
    assert all(
        not one["answers"] for one in read_json(found.out / "probe" / "student.json")
    )


def test_which_written_answers_are_equal_is_settled_and_kept(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verdicts take a solver minutes, and a resumed probe must not ask again."""
    asked: list[tuple[str, Any, int]] = []

    def note(_: Any, source: str, some: Any, judge: Any, made_from: Any) -> None:
        asked.append((source, made_from, len(judge(some))))

    monkeypatch.setattr(probing, "settle_equality", note)
    few: Any = {"context_rules": ["random"], "questions": 6}
    probed(tmp_path, tiny_llama, "free", out="scored", **few)
    assert not asked
    probed(tmp_path, tiny_llama, "free", write=2, **few)
    names = ["probe/nearest-0", "probe/random-0", "probe/random-1"]
    assert asked == [("probe/written", names, 20)]


def test_by_default_no_free_answer_is_written(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("an answer was written")

    monkeypatch.setattr("neuron_opsd.stages.probing.sample_rollouts", refuse)
    probed(tmp_path, tiny_llama, "free")


def test_another_order_is_never_the_same() -> None:
    shown = tuple(Demonstration(f"q{n}", "a", None, "") for n in range(2))
    for name in "abcdefgh":
        turned = reordered(TeacherContext(name, shown), 0)
        assert turned.demonstrations == shown[::-1]
    alone = TeacherContext("a", shown[:1])
    assert reordered(alone, 0) == alone


def test_the_command_and_the_library_say_the_same(
    tmp_path: Path,
    tiny_llama: Path,
    labelled: dict[str, Probed],
    capsys: pytest.CaptureFixture[str],
) -> None:
    pool = labelled["choices"].pool
    argv = ["probe", "--model", str(tiny_llama), "--pool", str(pool)]
    argv += ["--answers", str(pool), "--out", str(tmp_path / "out")]
    argv += ["--questions", "12", "--draws", "2", "--set", *SETTINGS, "--quiet"]
    assert main([*argv, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    kept = read_json(tmp_path / "out" / "probe.json")
    alone = read_json(labelled["choices"].out / "probe.json")
    assert shown["contexts"] == kept["contexts"] == alone["contexts"]
    assert kept["command"].startswith("neuron-opsd probe")
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert all(rule in text for rule in (*CONTEXT_RULES, *SELECTION_RULES))
    assert "report: " in text
    assert main(["status", str(tmp_path / "out")]) == 0
    assert "state: finished" in capsys.readouterr().out


def test_what_it_costs_is_said_and_nothing_is_written(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in KINDS:
        pool = write_rows(tmp_path / f"{kind}.jsonl", pool_rows(kind))
        argv = ["probe", "--model", str(tiny_llama), "--pool", str(pool), "--dry-run"]
        argv += ["--questions", "8", "--set", *SETTINGS, "--quiet"]
        assert main(argv) == 0
        text = capsys.readouterr().out
        assert all(f"teachers, {rule}" in text for rule in CONTEXT_RULES)
        # Rules that read the questions take passes over the whole pool.
        assert all(f"\n{name} " in text for name in NAMES.values())
        assert "time: " in text
    assert {p.name for p in tmp_path.iterdir()} == {f"{k}.jsonl" for k in KINDS}


def test_a_dry_run_with_a_run_does_not_count_what_is_there(
    finished_run: FinishedRun,
) -> None:
    pool, run = finished_run.request.pool, finished_run.folder
    plan = no.plan_probe(pool, {}, Silent(), run=run, questions=12)
    names = {stage.name for stage in plan.stages}
    assert not names & {"rollouts", "neurons"}
    assert "student" in names


def test_without_a_folder_the_command_says_so(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = write_rows(tmp_path / "pool.jsonl", pool_rows("choices"))
    assert main(["probe", "--model", str(tiny_llama), "--pool", str(pool)]) == 2
    assert "--out is missing" in capsys.readouterr().err


def test_the_command_has_the_defaults_of_the_library() -> None:
    request = request_of("pool", "out", {})
    extent = Extent()
    assert extent.questions == request.questions
    assert extent.draws == request.draws
    assert extent.library == request.library
    assert extent.completions == request.completions
    assert extent.write == request.write
