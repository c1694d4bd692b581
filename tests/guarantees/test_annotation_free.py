"""No label of the pool reaches training: shown by bytes, and by what can be held."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from neuron_opsd import records
from neuron_opsd.pipeline import Prepared
from neuron_opsd.records import GoldAnswers, TrainingExample
from neuron_opsd.runs.context import RunContext
from neuron_opsd.stages.training import train
from tiny_runs import (
    KINDS,
    FinishedRun,
    Row,
    pool_rows,
    tiny_config,
    tiny_request,
    tiny_run,
    with_wrong_answers,
    without_answers,
    write_rows,
)

CHANGES: dict[str, Callable[[Sequence[Row]], list[Row]]] = {
    "removed": without_answers,
    "wrong": with_wrong_answers,
}


@pytest.fixture(scope="module")
def labelled(
    tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, FinishedRun]:
    """Give runs on pools whose answers are there and right."""
    config = tiny_config(tiny_llama)
    return {
        kind: tiny_run(tiny_request(tmp_path_factory.mktemp(kind), kind=kind), config)
        for kind in KINDS
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", CHANGES)
def test_the_answers_of_the_pool_change_no_byte(
    change: str, kind: str, labelled: dict[str, FinishedRun], tmp_path: Path
) -> None:
    rows = CHANGES[change](pool_rows(kind))
    assert [row.get("answer") for row in rows] != [
        row["answer"] for row in pool_rows(kind)
    ]
    write_rows(tmp_path / "pool.jsonl", rows)
    other = tiny_run(tiny_request(tmp_path, kind=kind), labelled[kind].config)
    assert other.adapter() == labelled[kind].adapter()
    assert other.evaluation() == labelled[kind].evaluation()
    for name in ("rollouts.parquet", "contexts.json", "train/metrics.jsonl"):
        one, two = (run.folder / name for run in (other, labelled[kind]))
        assert one.read_bytes() == two.read_bytes()


def test_wrong_answers_are_all_wrong() -> None:
    for kind in KINDS:
        rows = pool_rows(kind)
        for right, wrong in zip(rows, with_wrong_answers(rows), strict=True):
            assert right["answer"] != wrong["answer"]
            assert wrong["answer"] in right.get("choices", [wrong["answer"]])


def held(kind: object, seen: set[object] | None = None) -> Iterator[type]:
    """Yield every class that a value of a type can hold, at any depth."""
    seen = set() if seen is None else seen
    for part in typing.get_args(kind):
        yield from held(part, seen)
    if isinstance(kind, type) and kind not in seen:
        seen.add(kind)
        yield kind
        if dataclasses.is_dataclass(kind):
            for hint in typing.get_type_hints(kind).values():
                yield from held(hint, seen)


def test_what_is_trained_on_has_no_room_for_a_gold_answer() -> None:
    for kind in (Prepared, TrainingExample, RunContext):
        assert GoldAnswers not in set(held(kind))
        assert not [name for name in names_in(kind) if "gold" in name]
    assert records.Question in set(held(Prepared))
    assert records.Prompt in set(held(TrainingExample))


def names_in(kind: type) -> Iterator[str]:
    """Yield the names of all fields that a record holds, at any depth."""
    for one in held(kind):
        if dataclasses.is_dataclass(one):
            yield from (field.name for field in dataclasses.fields(one))


def test_the_search_for_gold_answers_finds_them_where_they_are() -> None:
    @dataclasses.dataclass
    class Leak:
        inner: dict[str, tuple[GoldAnswers | None, ...]]

    # Hints of a class in a function cannot be looked up by name.
    Leak.__annotations__ = {"inner": dict[str, tuple[GoldAnswers | None, ...]]}
    assert GoldAnswers in set(held(Leak))


def test_training_takes_nothing_that_holds_a_gold_answer() -> None:
    for hint in typing.get_type_hints(train).values():
        assert GoldAnswers not in set(held(hint))
