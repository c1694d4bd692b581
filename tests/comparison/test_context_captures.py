"""What the methods of a comparison read of questions, they read once for all."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd import known
from neuron_opsd.analysis.analyse import analyse
from neuron_opsd.comparison.compare import compare
from neuron_opsd.comparison.comparison import Comparison
from neuron_opsd.comparison.forecast import forecast
from neuron_opsd.comparison.variants import parse_variant
from neuron_opsd.progress import Silent
from neuron_opsd.results.comparison import BASE
from tiny_runs import POOL_SIZE, parity_rows, pool_rows, tiny_config, write_rows

METHODS = (
    "every=neuron-opsd:contexts.rule=question-neurons,selection.rule=all",
    "some=neuron-opsd:contexts.rule=question-neurons,selection.rule=random",
    "gated=neuron-opsd:contexts.rule=question-neurons,selection.rule=random,"
    "neurons.value=gated",
    "state=neuron-opsd:contexts.rule=hidden-state,selection.rule=all,"
    "contexts.answer=neuron-medoid",
    "same=neuron-opsd:contexts.rule=same-answer,selection.rule=random,"
    "contexts.answer=neuron-medoid",
)
READING = ("capture_questions", "read_states", "find_medoids")


def comparison(folder: Path) -> Comparison:
    pool = write_rows(folder / "pool.jsonl", pool_rows("choices"))
    test = write_rows(folder / "test.jsonl", parity_rows(range(100, 104)))
    return Comparison(
        sources={"own": str(pool)},
        tests={"own": str(test)},
        variants=tuple(map(parse_variant, METHODS)),
        num_seeds=1,
        starts=(BASE,),
        out=folder / "out",
        command="a command",
    )


def test_arms_share_what_they_read_of_questions(
    tmp_path: Path, tiny_llama_plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[str, int] = dict.fromkeys(READING, 0)

    def counted(name: str, usual: Callable[..., Any]) -> Callable[..., Any]:
        def reading(model: Any, items: Sequence[Any], **more: Any) -> Any:
            read[name] += len(items)
            return usual(model, items, **more)

        return reading

    for name in READING:
        monkeypatch.setattr(known, name, counted(name, getattr(known, name)))
    short = ("distill.steps=1", "evaluation.num_resamples=20")
    config = tiny_config(tiny_llama_plain, *short, "evaluation.prompted=false")
    wanted, progress = comparison(tmp_path), Silent()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        left = forecast(wanted, config, progress)
        first = compare(wanted, config, progress)
        once = dict(read)
        again = compare(wanted, config, progress)
    assert left.seconds
    assert not first.failures
    assert not again.failures
    # Two of three share; the third reads another value of a neuron.
    assert once == {
        "capture_questions": 2 * POOL_SIZE,
        "read_states": POOL_SIZE,
        "find_medoids": POOL_SIZE,
    }
    assert read == once
    assert not [text for text in progress.warnings if "made from another" in text]
    found = [path.name for path in (tmp_path / "out").rglob("*")]
    for name in (
        "question-neurons.parquet",
        "question-neurons-value-gated.parquet",
        "hidden-states.parquet",
        "medoids.json",
    ):
        assert found.count(name) == 1


def test_a_run_that_shows_medoids_is_analysed(
    tmp_path: Path, tiny_llama_plain: Path
) -> None:
    from tiny_runs import read_json, tiny_request, tiny_run

    told = ("contexts.answer=neuron-medoid", "distill.steps=1")
    run = tiny_run(tiny_request(tmp_path), tiny_config(tiny_llama_plain, *told))
    (found,) = analyse((run.folder,), tmp_path / "out", Silent()).runs
    shown = {
        one["question_id"]: one["answer"]
        for context in read_json(run.folder / "contexts.json")
        for one in context["demonstrations"]
    }
    assert found.cases
    for case in found.cases:
        for one in case.demonstrations:
            # Of choices, what is shown is what was read of the captured rollout.
            assert shown[one.question_id] == one.answer == one.shown
