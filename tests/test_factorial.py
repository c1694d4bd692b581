"""The factorial experiment's own arithmetic, sources and order; nothing is trained."""

from __future__ import annotations

import argparse
import io
import json
import lzma
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.factorial import __main__ as command
from benchmarks.factorial import (
    design,
    guarding,
    keeping,
    page,
    rates,
    sources,
    tables,
)
from benchmarks.factorial.answers import Answers
from benchmarks.factorial.effects import (
    POOLED,
    Estimate,
    Hypothesis,
    Scores,
    contrast,
    difference,
    estimate,
    factors,
    interaction,
    mean,
    power,
    results_of,
    verdict,
)
from neuron_opsd.comparison.compare import SCORE_SCHEMA
from neuron_opsd.demo.benchmarks import Item, SplitSizes, split_items
from neuron_opsd.errors import DataError, TryAgainError
from neuron_opsd.method.statistics import FloatArray
from neuron_opsd.progress import QUIET
from neuron_opsd.records import Look, Reading, StepMetrics
from neuron_opsd.results.run import ModelSummary
from neuron_opsd.runs.metrics import append_metrics

SEEDS, QUESTIONS = 3, 400
RUNS = 200


def planted(
    rng: np.random.Generator,
    effect: float,
    *,
    seed_deviation: float = 0.01,
    question_deviation: float = 0.25,
) -> FloatArray:
    """Return what seeds and questions say of an effect that is known, ``(S, Q)``."""
    by_seed = rng.normal(0.0, seed_deviation, (SEEDS, 1))
    by_question = rng.normal(0.0, question_deviation, (1, QUESTIONS))
    both = rng.normal(0.0, 0.1, (SEEDS, QUESTIONS))
    return effect + by_seed + by_question + both


def share_seen(
    effect: float, num_sources: int = 1, *, seed_deviation: float = 0.01
) -> float:
    """Return in how many simulated experiments an effect is seen at 5 %."""
    rng = np.random.default_rng(1)
    seen = 0
    for _ in range(RUNS):
        parts = [
            planted(rng, effect, seed_deviation=seed_deviation)
            for _ in range(num_sources)
        ]
        seen += estimate(parts, rng, num_resamples=300).p_value < 0.05
    return seen / RUNS


@pytest.mark.parametrize("seed_deviation", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("num_sources", [1, 5])
def test_false_alarms_are_as_rare_as_said(
    seed_deviation: float, num_sources: int
) -> None:
    # A share of 5 % varies by 1.3 points in so many runs.
    assert share_seen(0.0, num_sources, seed_deviation=seed_deviation) < 0.085


def test_the_error_is_what_repeated_experiments_vary_by() -> None:
    """Seeds that are not moved apart first would give two thirds of the variance."""
    rng = np.random.default_rng(12)
    found = [
        estimate([planted(rng, 0.0, seed_deviation=0.05)], rng, num_resamples=300)
        for _ in range(2 * RUNS)
    ]
    varied = np.var([one.value for one in found])
    assert np.mean([one.error**2 for one in found]) == pytest.approx(varied, rel=0.2)


def test_a_bootstrap_of_few_seeds_alone_would_raise_false_alarms() -> None:
    """The reason for Student's interval and for moving seeds apart."""
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(RUNS):
        part = planted(rng, 0.0, seed_deviation=0.05)
        means = part.mean(axis=1)
        drawn = means[rng.integers(SEEDS, size=(400, SEEDS))].mean(axis=1)
        low, high = np.percentile(drawn, [2.5, 97.5])
        alarms += not low <= 0.0 <= high
    assert alarms / RUNS > 0.15


def test_a_planted_effect_is_seen_as_often_as_the_power_says() -> None:
    for effect, num_sources in ((0.03, 1), (0.02, 5), (0.01, 5)):
        told = power(0.01, 0.25, (num_sources, SEEDS, QUESTIONS), effect)
        assert share_seen(effect, num_sources) == pytest.approx(told, abs=0.1)
    assert share_seen(0.04, 5) > 0.95


def test_intervals_hold_the_truth_and_narrow_with_questions() -> None:
    rng = np.random.default_rng(3)
    held = sum(
        found.low <= 0.02 <= found.high
        for found in (
            estimate([planted(rng, 0.02)], rng, num_resamples=300) for _ in range(RUNS)
        )
    )
    assert held / RUNS > 0.92
    part = planted(rng, 0.02, seed_deviation=0.0)
    few = estimate([part[:, :100]], rng)
    assert estimate([part], rng).error < few.error


def cells(rng: np.random.Generator, effects: dict[str, float]) -> Scores:
    """Return scores of arms that share questions and seeds, with planted effects."""
    common = rng.normal(0.5, 0.3, QUESTIONS)
    return {
        arm: {
            seed: common + effect + rng.normal(0.0, 0.1, QUESTIONS)
            for seed in range(SEEDS)
        }
        for arm, effect in effects.items()
    }


def test_main_effects_and_interaction_are_taken_apart() -> None:
    rng = np.random.default_rng(4)
    planted_cells = {
        "shift-nearest": 0.10,  # 0.02 + 0.03 alone, 0.05 together
        "shift-random": 0.02,
        "random-nearest": 0.03,
        "random-random": 0.0,
    }
    scores = cells(rng, planted_cells)
    both = interaction(*planted_cells)
    shown = mean(
        factors(["shift", "random"], ["nearest"]),
        factors(["shift", "random"], ["random"]),
    )
    rows = results_of(
        [Hypothesis("a", "both", both), Hypothesis("a", "shown", shown)],
        {"one": scores, "two": cells(rng, planted_cells)},
        rng,
    )
    pooled = {one.name: result for one, where, result in rows if where == POOLED}
    assert pooled["both"].value == pytest.approx(0.05, abs=0.01)
    assert pooled["shown"].value == pytest.approx(0.055, abs=0.01)
    assert pooled["both"].low > 0.0
    with pytest.raises(ValueError, match="takes four arms"):
        interaction("a", "a", "b", "c")


def test_additive_effects_show_no_interaction() -> None:
    seen = 0
    names = ("shift-nearest", "shift-random", "random-nearest", "random-random")
    values = (0.05, 0.02, 0.03, 0.0)
    rng = np.random.default_rng(5)
    for _ in range(100):
        scores = cells(rng, dict(zip(names, values, strict=True)))
        part = contrast(scores, interaction(*names))
        assert part is not None
        seen += estimate([part], rng, num_resamples=200).p_value < 0.05
    assert seen <= 10


def test_a_contrast_takes_the_seeds_that_all_its_arms_have() -> None:
    ones = np.ones(4)
    scores = {"a": {0: ones, 1: 3 * ones, 2: ones}, "b": {1: ones, 2: ones}}
    part = contrast(scores, difference("a", "b"))
    assert part is not None
    assert part.tolist() == [[2.0] * 4, [0.0] * 4]
    assert contrast(scores, difference("a", "c")) is None


def test_questions_and_seeds_stay_paired() -> None:
    """What arms share cancels, whatever it is worth."""
    rng = np.random.default_rng(6)
    common = {seed: rng.normal(0.0, 10.0, QUESTIONS) for seed in range(SEEDS)}
    scores = {
        "a": {s: row + 0.01 for s, row in common.items()},
        "b": dict(common),
    }
    part = contrast(scores, difference("a", "b"))
    assert part is not None
    found = estimate([part], rng)
    assert found.error < 1e-9
    assert found.low == pytest.approx(0.01)


def test_holm_is_within_a_family_and_apart_for_what_is_pooled() -> None:
    rng = np.random.default_rng(7)
    scores = cells(rng, {"a": 0.0, "b": 0.005, "c": 0.01})
    two = [
        Hypothesis("one", "b", difference("b", "a")),
        Hypothesis("one", "c", difference("c", "a")),
        Hypothesis("other", "c", difference("c", "a")),
    ]
    rows = results_of(two, {"x": scores, "y": scores}, rng)
    by = {(h.family, h.name, where): e for h, where, e in rows}
    alone = by["other", "c", POOLED]
    assert alone.p_adjusted == alone.p_value
    first, second = sorted(
        (by["one", name, POOLED] for name in "bc"), key=lambda one: one.p_value
    )
    assert first.p_adjusted == pytest.approx(min(1.0, 2 * first.p_value))
    assert second.p_adjusted >= second.p_value
    singles = [e for (f, _, where), e in by.items() if (f, where) == ("other", "x")]
    assert singles[0].p_adjusted == pytest.approx(
        min(1.0, 2 * singles[0].p_value), rel=0.2
    )


def test_what_a_result_is_called() -> None:
    def found(value: float, error: float) -> Estimate:
        part = np.array([[value - error, value + error]] * 2)
        rng = np.random.default_rng(8)
        one = Hypothesis("f", "n", {"a": 1.0, "b": -1.0})
        scores: Scores = {
            "a": {0: part[0], 1: part[1]},
            "b": {0: 0 * part[0], 1: 0 * part[1]},
        }
        return results_of([one], {"x": scores}, rng)[0][2]

    wide = np.random.default_rng(9).normal(0.0, 0.001, (5, 400))

    def of(value: float) -> Estimate:
        rng = np.random.default_rng(10)
        rows = {"a": dict(enumerate(wide + value)), "b": dict(enumerate(0.0 * wide))}
        return results_of(
            [Hypothesis("f", "n", difference("a", "b"))], {"x": rows}, rng
        )[0][2]

    assert verdict(of(0.02), 0.01) == "better"
    assert verdict(of(-0.02), 0.01) == "worse"
    assert verdict(of(0.0), 0.01) == "no difference that matters"
    assert verdict(of(0.004), 0.01) == "no difference that matters"
    assert verdict(found(0.0, 0.5), 0.01) == "no difference seen"


def test_an_archive_member_is_found_and_a_missing_one_is_told() -> None:
    def member(name: str, data: bytes) -> bytes:
        head = f"{name + '/':<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(data):<10}`\n"
        return head.encode() + data + b"\n" * (len(data) % 2)

    archive = b"!<arch>\n" + member("debian-binary", b"2.0") + member("x.tar", b"data")
    assert sources.ar_member(archive, "x.tar") == b"data"
    with pytest.raises(DataError, match=r"no y\.tar"):
        sources.ar_member(archive, "y.tar")


def packed(files: dict[str, str]) -> bytes:
    """Return a tar archive of some texts."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, text in files.items():
            data = text.encode("latin-1")
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return held.getvalue()


QUESTION = "T0A01 (B) [97.1]\nWhich  one?\nA. first\nB. second\nC. third\nD. {}\n"


def test_examinations_are_read_without_figures_and_talk_of_other_choices() -> None:
    files = {
        "./usr/share/hamexam/T/T0A01": QUESTION.format("fourth"),
        "./usr/share/hamexam/T/T0A02": QUESTION.format(
            "All of these choices are right"
        ),
        "./usr/share/hamexam/G/G0A01": QUESTION.replace("one?", "in figure 1?"),
        "./usr/share/hamexam/README": "no question",
    }
    inside = lzma.compress(packed(files))
    head = f"{'data.tar.xz':<48}{len(inside):<10}`\n".encode()
    items = list(sources.radio_items(b"!<arch>\n" + head + inside))
    choices = ("first", "second", "third", "fourth")
    assert items == [Item("T0A01", "Which one?", choices, 1)]


def test_reviews_are_read() -> None:
    rows = json.dumps([{"text": "Good  one.", "class": 1}])
    files = {f"package/test/fixtures/{kind}.json": rows for kind in ("amazon", "yelp")}
    items = list(sources.review_items(packed(files)))
    assert [item.key for item in items] == ["amazon-0", "yelp-0"]
    assert items[0].choices[items[0].gold] == "positive"
    assert items[0].text == "Good one."


def test_tests_begin_where_earlier_results_ended(tmp_path: Path) -> None:
    words = ["some", "other", "number", "of", "a", "kind", "like", "nothing", "more"]
    items = [
        Item(str(i), f"{' '.join(words[: i % 9])} {i} {i * i}", ("yes", "no"), i % 2)
        for i in range(3000)
    ]
    split = split_items("arc-easy", items, SplitSizes(600, 6000))
    test = sources.chosen_test("arc-easy", split)
    assert [q.id for q in test] == [q.id for q in split.test[600:1000]]
    shorter = split_items("csqa", items[:1300], SplitSizes(529, 6000))
    wrapped = [q.id for q in sources.chosen_test("csqa", shorter)]
    late = [q.id for q in shorter.test[600:]]
    early = [q.id for q in shorter.test[200 : 600 - len(late)]]
    assert wrapped == late + early
    assert len(late) < sources.TEST
    sources.write_source(tmp_path, "arc-easy", split)
    pool = sources.file_of(tmp_path, "arc-easy", "pool").read_text()
    assert "answer" not in pool.splitlines()[0]
    spare = sources.file_of(tmp_path, "arc-easy", "spare").read_text().splitlines()
    later = [q.id for q in split.test[1000 : 1000 + sources.SPARE]]
    assert [json.loads(row)["id"] for row in spare] == later
    told = sources.file_of(tmp_path, "arc-easy", "pool-answers").read_text()
    assert told.count('"answer"') == pool.count("\n") == sources.POOL


def test_a_changed_archive_is_not_used(tmp_path: Path) -> None:
    (tmp_path / sources.REVIEWS.file_name).write_bytes(b"something else")
    reading = sources.Reading(tmp_path, QUIET, tmp_path)
    with pytest.raises(DataError, match="SHA-256"):
        reading.archive(sources.REVIEWS)


def votes(answers: str, share: float) -> rates.Votes:
    """Return votes on questions 0, 1, 2 and so on."""
    named = dict(enumerate(answers))
    return rates.Votes(
        {str(k): answer for k, answer in named.items()},
        {str(k): share for k in named},
    )


def test_a_rate_is_chosen_by_sureness_among_sound_ones() -> None:
    before = votes("aabbcaabbc", 0.6)
    low, high = votes("aabbcaabbc", 0.7), votes("aabbcaabba", 0.8)
    gone = votes("aaaaaaaaaa", 1.0)
    drifted = votes("bbaabaabbc", 0.99)
    assert rates.own_rate({1e-5: low, 1e-4: high, 3e-4: gone}, before) == 1e-4
    assert rates.own_rate({1e-5: low, 1e-4: drifted}, before) == 1e-5
    assert rates.own_rate({1e-5: gone, 1e-4: drifted}, before) == 1e-5
    assert rates.name_of("lmsi", 3e-4) == "lmsi-3e-4"


def score(
    arm: str, seed: int, question: int, correct: int, **more: object
) -> dict[str, object]:
    """Return a row of a comparison's scores."""
    row: dict[str, object] = dict.fromkeys(SCORE_SCHEMA.names)
    return row | {
        "start": "base",
        "source": "sst2",
        "method": arm,
        "seed": seed,
        "steps": 0 if arm == "base" else 40,
        "test": "sst2",
        "question_id": f"q{question}",
        "num_correct": correct,
        "num_rollouts": 8,
        "majority_correct": correct > 4,
        "agreement": max(correct, 8 - correct) / 8,
        **more,
    }


def test_tables_are_made_of_what_parts_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(11)
    arms = {"base": 4, "form-only": 3, "all-nearest": 6, "all-random": 4}
    rows = [
        score(arm, seed, q, int(np.clip(right + rng.integers(-2, 3), 0, 8)))
        for arm, right in arms.items()
        for seed in range(SEEDS)
        for q in rng.permutation(60)
    ]
    rows += [
        {**row, "steps": steps, "num_correct": 0, "majority_correct": False}
        for steps in (5, 10)
        for row in rows
        if row["method"] != "base"
    ]
    rows += [
        {**row, "test": test, "question_id": f"{test}{row['question_id']}"}
        for row in rows
        for test in sources.CROSS_DOMAIN
    ]
    place = tmp_path / "main" / "sst2"
    place.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, SCORE_SCHEMA), place / "scores.parquet")
    lead = {"value": 0.4, "low": 0.3, "high": 0.5}
    probed = {"contexts": [{"rule": "nearest", "over_random": {"accuracy": lead}}]}
    (tmp_path / "probe" / "sst2").mkdir(parents=True)
    (tmp_path / "probe" / "sst2" / "probe.json").write_text(json.dumps(probed))
    monkeypatch.setattr(sys, "argv", ["tables", str(tmp_path)])
    tables.main()
    shown = capsys.readouterr().out
    assert "| trained on sst2 | Avg@32 |" in shown
    effects = json.loads((tmp_path / "effects.json").read_text())
    found = {row["name"]: row for row in effects}
    assert found["nearest above random"]["value"] == pytest.approx(0.25, abs=0.03)
    assert found["all-nearest above base"]["low"] > 0.0
    assert "| sst2 | nearest | +40.0 (+30.0 to +50.0) | +2" in shown
    assert "| nearest above random | sst2 | +2" in shown
    kept = [row for row in effects if row["family"] == "other sets"]
    assert {row["name"] for row in kept} == {
        "all-nearest above base",
        "all-random above base",
    }
    table = shown[shown.index("| along training") :].splitlines()
    headings, nearest = (line.strip("| ").split(" | ") for line in (table[0], table[3]))
    along = dict(zip(headings, nearest, strict=True))
    assert along["along training"] == "all-nearest"
    assert along["after 10"] == "0.0"
    assert along["40 steps above 10"].startswith(f"+{along['after 40']} (")
    assert along["above lmsi-1e-4, 40 steps"] == ""
    assert f"| {along['after 40']} | {along['ECE after 40']} |" in shown
    sure = [
        float(str(row["agreement"])) for row in rows if row["method"] == "all-nearest"
    ]
    assert along["ECE after 10"] == f"{np.mean(sure):.3f}"
    assert pq.read_table(tmp_path / "scores.parquet").num_rows == len(rows)


def keep_block(kept: Path, source: str, right: int, seconds: float) -> None:
    """Keep a block in which one arm gives some answers more rightly than the base."""
    rows = [
        score(arm, 0, q, q % 4 + more, source=source, test=test)
        for arm, more in (("base", 0), ("all-nearest", right))
        for test in (source, *sources.CROSS_DOMAIN)
        for q in range(40)
    ]
    lines = [
        {"name": name, "summary": "", "trained": name != "base"}
        for name in ("base", "all-nearest")
    ]
    spent = {"prompts": 8.0, "generated_tokens": 9.0, "trained_tokens": 9.0}
    place = {"start": "base", "source": source, "method": "all-nearest"}
    whole = dict.fromkeys(keeping.ENTRIES, ()) | {
        "num_samples": 8,
        "methods": lines,
        "settings": {"distill.steps": "40"},
        "budgets": [{**place, **spent, "seconds": seconds}],
        "missing": 0,
        "versions": {},
        "data_hashes": {f"pool {source}": "0" * 64},
    }
    folder = kept / "main" / f"{source}-0"
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text(json.dumps(whole))
    table = pa.Table.from_pylist(rows, SCORE_SCHEMA).select(list(keeping.COLUMNS))
    pq.write_table(table, folder / "scores.parquet")


def test_one_page_is_drawn_over_all_blocks(tmp_path: Path) -> None:
    keep_block(tmp_path, "sst2", 2, seconds=60.0)
    keep_block(tmp_path, "csqa", 4, seconds=180.0)
    model = ModelSummary("tiny", "llama", 1, 1, 1, "cpu", "float32")
    text = page.page_of(tmp_path, "main", model)
    assert "The factorial experiment: main" in text
    assert "+25.0" in text  # two of eight answers
    assert "+50.0" in text
    assert "+37.5" in text  # their mean over sources
    assert "unread" not in text  # which is not kept
    with pytest.raises(SystemExit, match="no block of long in"):
        page.page_of(tmp_path, "long", model)


def test_a_recipe_is_chosen_on_other_questions_than_it_is_judged_by() -> None:
    good, bad = np.tile([1.0, 0.0], 10), np.tile([0.0, 1.0], 10)
    arms = {arm: {0: np.zeros(20)} for arm in design.CANDIDATES}
    scores: dict[str, Scores] = {
        name: arms | {"all-nearest": {0: good}, "all-question": {0: bad}}
        for name in ("x", "y")
    }
    first, second = (design.every_second(scores, place) for place in (0, 1))
    assert design.chosen_recipe(first) == "all-nearest"
    assert second["x"]["all-nearest"][0].mean() == 0.0
    scores["y"] = {arm: row for arm, row in arms.items() if arm != "all-nearest"}
    assert design.chosen_recipe(design.every_second(scores, 0)) != "all-nearest"


def test_every_hypothesis_names_arms_of_the_recipe() -> None:
    methods = tomllib.loads(command.RECIPE.read_text())["methods"]
    known = {"base", "prompted", *methods}
    recipes = [one for arm in design.CANDIDATES for one in design.of_recipe(arm)]
    for one in (*design.hypotheses(), *design.of_forgetting(), *recipes):
        assert set(one.effect) <= known
        assert sum(one.effect.values()) == pytest.approx(0.0)
    wanted = {*command.FINALISTS, *command.SECOND_ARMS}
    assert wanted | {*command.REDUCED_ARMS, *design.RIVALS.values()} <= known


def test_alarms_are_held_against_what_became_of_the_model(tmp_path: Path) -> None:
    agree = "all rollouts of a question agree in the last steps"
    gone = "the entropy is gone on the guard's questions"
    warnings = [
        f"x seed 0, good, bad: step 9: {agree} (0, limit 0.1); fewer steps",
        f"x seed 0, bad: step 19: {gone} (0, limit 0.1); fewer steps",
        "x seed 0, bad: step 21: the loss grows (3, limit 1); fewer steps",
        "x seed 1, quiet: step 3: the loss is 9, 7 times that of the steps before",
        "x seed 1: pool: 3 questions were left out",
    ]
    (tmp_path / "main" / "x-0").mkdir(parents=True)
    text = json.dumps({"warnings": warnings})
    (tmp_path / "main" / "x-0" / "comparison.json").write_text(text)
    signs = guarding.signs_in(tmp_path, "main")
    assert signs == {
        ("x", 0, "good"): {agree: 9},
        ("x", 0, "bad"): {agree: 9, gone: 19, "the loss grows": 21},
    }

    def answers(share: float) -> Answers:
        row = np.full(10, share)
        return Answers(row, row, row > 0.5)

    accuracy = {
        ("base", 0): 0.6,
        ("good", 0): 0.595,
        ("bad", 0): 0.5,
        ("prompted", 0): 0.1,
        ("base", 1): 0.7,
        ("quiet", 1): 0.6,
        ("good", 1): 0.67,
    }
    table = {("x", arm, seed): answers(a) for (arm, seed), a in accuracy.items()}
    rows = [*guarding.guard_rows(signs, guarding.changes_of({"x": table}))]
    said = ["1", "1", "2", "1", "1", f"{agree} (1)"]
    assert rows == [["x", *said], ["all sources", *said]]


def test_todays_limits_are_held_against_what_the_guard_measured_then(
    tmp_path: Path,
) -> None:
    folder, kept = tmp_path / "run", tmp_path / "main" / "x-3"
    training = folder / "blocks" / "x" / "seed-3" / "base" / "methods" / "arm" / "train"
    training.mkdir(parents=True)
    reading = Reading(2.0, 0.0, 0.0, 0.5, 0.7, 0.4, 0.5, 0.6, 0.0, 0.0)
    bad = replace(reading, entropy=0.2, base_agreement=0.3, surprise=2.0)
    step = StepMetrics(0, 0.1, 1.0, 1e-4, 8, 2.0, 0.0, 0.5, 0.4)
    looks = [None, Look(reading, reading), Look(bad, reading), Look(bad, reading)]
    for n, look in enumerate(looks):
        append_metrics(training, replace(step, step=n, look=look))
    kept.mkdir(parents=True)
    keeping.write_looks(folder, kept / keeping.LOOKS)
    gone = "the loss grows"
    told = [
        f"x seed 3, arm: step 1: {gone} (3, limit 1); fewer steps",
        "x seed 3, arm: step 1: a sign of old on the guard's questions (3, limit 1)",
    ]
    (kept / "comparison.json").write_text(json.dumps({"warnings": told}))
    said = "the student rules out what the base model says on the guard's questions"
    found = guarding.signs_today(tmp_path, "main")
    assert found == {("x", 3, "arm"): {gone: 1, said: 2}}
    # A block whose looks are lost has no signs that could be counted.
    (kept / keeping.LOOKS).unlink()
    with pytest.raises(FileNotFoundError, match=keeping.LOOKS):
        guarding.signs_today(tmp_path, "main")


def options_of(out: Path, keep: Path | None = None) -> argparse.Namespace:
    """Return the options of a call that runs everything."""
    return argparse.Namespace(
        out=out,
        keep=keep,
        parts=("main", "probe", "long", "second", "ideas"),
        sources=sources.EXPERIMENT,
        seeds=None,
        methods=None,
        reduced=False,
        second_model=Path("second"),
        dry_run=False,
    )


def test_a_block_that_is_in_use_is_run_again_after_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {"a": 1, "b": 0, "c": 2}
    made: list[str] = []

    def run(words: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        name = Path(words[-1]).name
        made.append(name)
        held[name] -= 1
        status = TryAgainError.exit_status if held[name] >= 0 else 0
        return subprocess.CompletedProcess(list(words), status)

    monkeypatch.setattr(subprocess, "run", run)
    options = options_of(tmp_path)
    blocks = [command.Block(name, []) for name in "abc"]
    assert command.share(blocks, options) == 0
    assert made == ["a", "b", "c", "a", "c", "c"]
    held["a"] = 9
    assert command.share(blocks[:1], options) == TryAgainError.exit_status


def test_results_of_a_block_are_kept_and_it_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def run(words: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        out = Path(words[-1])
        made.append(out.name)
        out.mkdir(parents=True)
        keys = [*keeping.ENTRIES, "contrasts"]
        whole = {key: {"model.name": "/a", "steps": 4} for key in keys}
        (out / "comparison.json").write_text(json.dumps(whole))
        pq.write_table(pa.Table.from_pylist([], SCORE_SCHEMA), out / "scores.parquet")
        return subprocess.CompletedProcess(list(words), int(out.name == "b"))

    monkeypatch.setattr(subprocess, "run", run)
    kept = tmp_path / "kept"
    blocks = [command.Block(f"main/{name}", []) for name in "abc"]
    assert command.share(blocks, options_of(tmp_path / "one", kept)) == 1
    found = json.loads((kept / "main" / "a" / "comparison.json").read_text())
    assert tuple(found) == keeping.ENTRIES
    assert found["settings"] == {"steps": 4}
    names = pq.read_schema(kept / "main" / "a" / "scores.parquet").names
    assert names == list(keeping.COLUMNS)
    assert not (kept / "main" / "b").exists()
    other = options_of(tmp_path / "other", kept)
    assert command.share([blocks[0], blocks[2]], other) == 0
    assert made == ["a", "b", "c"]


def test_what_is_kept_of_a_probe_names_no_path(tmp_path: Path) -> None:
    folder, kept = tmp_path / "probe" / "sst2", tmp_path / "kept"
    folder.mkdir(parents=True)
    whole = {"model": "/a", "run": "/b", "command": "probe /b", "contexts": [1]}
    (folder / "probe.json").write_text(json.dumps(whole))
    keeping.keep(folder, kept)
    text = (kept / "probe.json").read_text()
    assert json.loads(text) == {"contexts": [1], "model": "SmolLM2-135M-Instruct"}


def test_a_block_is_one_source_with_one_seed_and_the_arms_that_it_has(
    tmp_path: Path,
) -> None:
    blocks = command.blocks_of(options_of(tmp_path), Path("model"), tmp_path)
    names = [block.folder for block in blocks]
    assert names[:6] == [
        *(f"main/{source}-0" for source in sources.EXPERIMENT),
        "main/sst2-1",
    ]
    assert len(names) == len(set(names)) == 25 + 5 + 5 + 1 + 5
    arms = {
        block.folder: block.words[block.words.index("--methods") + 1 :]
        for block in blocks
        if "--methods" in block.words
    }
    sizes = [arms[f"main/sst2-{seed}"].index("--set") for seed in range(5)]
    assert sizes == [22, 20, 20, 10, 10]
    assert "ttrl-3e-5" not in arms["main/csqa-1"]
    assert not {*design.BESIDE} & {*arms["main/sst2-0"]}
    assert {*design.IDEAS} < {*arms["ideas/sst2-0"]}
    assert all(found[0] == "form-only" for found in arms.values())
    options = options_of(tmp_path)
    options.parts = ("second-1e-4",)
    slower = command.blocks_of(options, Path("model"), tmp_path)
    assert [block.folder for block in slower] == [
        f"second-1e-4/sst2-{seed}" for seed in range(3)
    ]
    for block in slower:
        assert block.words[block.words.index("--model") + 1] == "second"
        assert "distill.learning_rate=1e-4" in block.words
    options.parts = ("more-selections",)
    for block in command.blocks_of(options, Path("model"), tmp_path):
        assert {*design.MORE_SELECTIONS} < {*block.words}
        assert not {*design.IDEAS} & {*block.words}
    options.parts = ("follow-up",)
    more = command.blocks_of(options, Path("model"), tmp_path)
    assert {block.folder for block in more} == {
        f"follow-up/{source}-{seed}"
        for source in sources.EXPERIMENT
        for seed in range(1, 5)
    }
    assert all(design.FOLLOW_UP in block.words for block in more)
    options.parts = ("selection-follow-up",)
    more = command.blocks_of(options, Path("model"), tmp_path)
    assert {block.folder for block in more} == {
        f"selection-follow-up/{source}-{seed}"
        for source in sources.EXPERIMENT
        for seed in (1, 2)
    }
    assert all(design.BEST_SELECTION in block.words for block in more)
