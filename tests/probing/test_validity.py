"""Whether the score predicted what training gained, and what is done with that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import probe_validity
from neuron_opsd.config.tables import toml_values
from neuron_opsd.methods import method_named
from neuron_opsd.probing.summary import recommend
from neuron_opsd.probing.validity import ScoredArms, known_validity
from neuron_opsd.records.scores import Interval
from neuron_opsd.results.probe import ContextResult, PairResult, Validity
from neuron_opsd.results.run import OURS

NAN = float("nan")


def arms(scores: Any, gains: Any) -> ScoredArms:
    return ScoredArms(np.array(scores, float), np.array(gains, float))


def test_the_correlation_is_within_sources() -> None:
    # The second source gains more by any arm; that says nothing about the score.
    scores = [[1, 2, 3, 4], [1, 2, 3, 4]]
    gains = [[0.1, 0.2, 0.3, 0.4], [0.8, 0.7, 0.6, 0.5]]
    assert arms(scores, gains).correlation().value == pytest.approx(0.0)
    assert arms(scores, [gains[0]] * 2).correlation().value == pytest.approx(1.0)


def test_spearman_by_hand() -> None:
    # Ranks 1 2 3 4 against 2 1 4 3: squared differences sum to 4.
    found = arms([[1, 2, 3, 4]], [[0.2, 0.1, 0.4, 0.3]]).correlation()
    assert found.value == pytest.approx(1 - 6 * 4 / (4 * 15))
    assert found.low < found.value < found.high


def test_a_source_without_an_arm_counts_with_the_others() -> None:
    scores = [[1, 2, 3, 4], [1, NAN, 3, 4]]
    gains = [[0.1, 0.2, 0.3, 0.4], [0.4, 0.9, 0.2, 0.1]]
    assert arms(scores, gains).correlation().value == pytest.approx(0.0)


def test_too_few_arms_say_nothing() -> None:
    found = arms([[1, 2]], [[0.1, 0.2]]).correlation()
    assert np.isnan(found.value)
    assert not Validity(found).predicts


def test_the_interval_narrows_with_arms() -> None:
    rng = np.random.default_rng(0)
    gains = rng.normal(size=(2, 40))
    scores = gains + rng.normal(scale=0.5, size=gains.shape)
    many = arms(scores, gains).correlation()
    few = arms(scores[:, :6], gains[:, :6]).correlation()
    assert many.high - many.low < few.high - few.low
    assert Validity(many).predicts


def test_the_record_says_that_nothing_was_measured_or_what() -> None:
    found = known_validity()
    assert (found.correlation is None) == (not found.command)
    assert (found.num_arms == 0) == (found.correlation is None)


def pair(selection: str, score: float) -> PairResult:
    interval = Interval(score, score - 0.1, score + 0.1)
    return PairResult(
        selection=selection, contexts="words", num_questions=20, score=interval
    )


PAIRS = (pair("random", 0.1), pair("all", 0.3))


def teacher(rule: str, accuracy: float, low: float, random: float) -> ContextResult:
    return ContextResult(
        rule=rule,
        help=f"by {rule}",
        num_draws=1,
        measures={"accuracy": Interval(accuracy, 0.0, 1.0)},
        over_student={"accuracy": Interval(accuracy - 0.5, low, 0.3)},
        over_random={"accuracy": Interval(0.02, random, 0.1)},
        settings=(f"contexts.rule={rule}",),
    )


def test_by_a_score_that_nobody_measured_nothing_is_recommended() -> None:
    found = recommend((), PAIRS, Validity())
    assert (found.settings, found.by) == ((), "")
    assert "has not been measured yet" in found.text


def test_by_a_score_that_did_not_predict_nothing_is_recommended() -> None:
    poor = Validity(Interval(0.2, -0.1, 0.5), 14, 5)
    found = recommend((), PAIRS, poor)
    assert (found.settings, found.by) == ((), "")
    assert "was not seen to predict" in found.text
    assert "14 arms of 5 sources" in found.text


def test_by_a_score_that_predicts_the_best_pair_is_recommended() -> None:
    good = Validity(Interval(0.6, 0.3, 0.8), 14, 5)
    found = recommend((), PAIRS, good)
    assert found.settings == ("selection.rule=all", "contexts.rule=words")
    assert found.by == "score"
    assert "+0.60" in found.text


def test_right_answers_win_over_the_score() -> None:
    good = Validity(Interval(0.6, 0.3, 0.8), 14, 5)
    both = teacher("near", 0.6, 0.01, 0.01), teacher("far", 0.7, 0.05, 0.01)
    found = recommend(both, PAIRS, good)
    assert found.settings == ("contexts.rule=far",)
    assert found.by == "accuracy"
    assert "the best of 2, which flatters it" in found.text


def test_a_teacher_that_is_not_seen_to_be_better_is_not_recommended() -> None:
    found = recommend([teacher("near", 0.6, -0.01, 0.01)], (), Validity())
    assert found.settings == ()
    assert "No teacher is seen to be better than the student" in found.text
    held = recommend([teacher("near", 0.6, 0.01, -0.01)], (), Validity())
    assert held.settings == ("contexts.rule=near",)
    assert "No rule is seen to be better than random" in held.text


def write(path: Path, table: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table))


TAUGHT = {"contexts.answer": "greedy", "selection.balance": False}


def compared(folder: Path, seed: int, arms: Mapping[str, tuple[Any, Any]]) -> None:
    """Write what a comparison of one seed leaves: settings and scores."""
    lines = [
        {
            "name": name,
            "summary": f"{method_named(settings.pop('method', OURS)).summary} (x)",
            "settings": toml_values(settings),
        }
        for name, (settings, _) in arms.items()
    ]
    shared = toml_values({"contexts.answer": "greedy", "distill.steps": 4})
    write(folder / "comparison.json", {"settings": shared, "methods": lines})
    after = {name: accuracy[seed] for name, (_, accuracy) in arms.items()}
    rows = [
        {
            "start": "base",
            "source": "science",
            "method": name,
            "seed": seed,
            "steps": steps,
            "test": test,
            "num_correct": round(10 * accuracy),
            "num_rollouts": 10,
        }
        for name, steps, accuracy in (
            ("base", 0, 0.5),
            *((name, 1, 0.0) for name in after),
            *((name, 4, accuracy) for name, accuracy in after.items()),
        )
        for test, accuracy in (("science", accuracy), ("other", 0.9))
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "scores.parquet")


def arm(selection: str, contexts: str, **more: Any) -> Any:
    return {"selection.rule": selection, "contexts.rule": contexts, **more}


def test_the_script_pairs_arms_of_a_comparison_with_their_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    balance = {"selection.balance": True}
    for seed in range(2):
        wanted = {
            "one": (arm("all", "nearest"), (0.6, 0.8)),
            "two": (arm("all", "words"), (0.5, 0.5)),
            "three": (arm("random", "words"), (0.4, 0.6)),
            "balanced": (arm("random", "words", **balance), (0.9, 0.9)),
            "everything": (arm("all", "random", **balance), (0.3, 0.3)),
            "lmsi": (arm("all", "words", method="lmsi"), (0.9, 0.9)),
        }
        compared(tmp_path / "compared" / str(seed), seed, wanted)
    scores = {
        ("all", "nearest"): 0.3,
        ("all", "words"): 0.2,
        ("random", "words"): 0.1,
        ("all", "random"): 0.0,
    }
    pairs = [
        {"selection": s, "contexts": c, "score": {"value": value}}
        for (s, c), value in scores.items()
    ]
    probe = {"model": "tiny", "taught": TAUGHT, "pairs": pairs}
    write(tmp_path / "probed" / "probe.json", probe)
    gained = {one.arm: one for one in probe_validity.gains_in(tmp_path / "compared")}
    assert set(gained) == {"one", "two", "three", "balanced", "everything"}
    assert gained["one"].gain == pytest.approx(0.2)
    assert gained["one"].num_seeds == 2
    probes = probe_validity.read_probes([f"science={tmp_path / 'probed'}"])
    found = {name: probe_validity.score_of(one, probes) for name, one in gained.items()}
    # Balance changes nothing where all are kept, and is another arm where not.
    assert found == {
        "one": 0.3,
        "two": 0.2,
        "three": 0.1,
        "balanced": None,
        "everything": 0.0,
    }
    argv = [str(tmp_path / "compared"), f"science={tmp_path / 'probed'}"]
    assert probe_validity.main(argv) == 0
    said = json.loads("{" + capsys.readouterr().out.partition("\n{")[2])
    # Gains .2, 0, 0, -.2 for scores .3, .2, .1, 0: ranks 4, 2.5, 2.5, 1.
    assert said["correlation"]["value"] == pytest.approx(4.5 / np.sqrt(5 * 4.5))
    assert (said["num_arms"], said["num_sources"]) == (4, 1)
    assert str(tmp_path) not in said["command"]
    assert said["model"] == "tiny"
    assert all(probe_validity.score_of(one, {}) is None for one in gained.values())


def test_what_was_measured_is_read_as_it_was_written() -> None:
    from pydantic import TypeAdapter

    found = Validity(Interval(0.5, 0.2, 0.7), 14, 5, "tiny", "a command")
    adapter = TypeAdapter(Validity)
    text = json.dumps(adapter.dump_python(found))
    assert adapter.validate_python(json.loads(text)) == found
    assert replace(found, correlation=None).predicts is False
