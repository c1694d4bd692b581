"""No label of the pool reaches training: shown by bytes, and by what can be held."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from neuron_opsd import records
from neuron_opsd.comparison.run_group import method_for
from neuron_opsd.comparison.variants import Variant
from neuron_opsd.config import Config
from neuron_opsd.errors import ConfigError
from neuron_opsd.methods import METHODS, Oracle, Target, Targets, method_of
from neuron_opsd.pipeline import Prepared
from neuron_opsd.records import GoldAnswers, TrainingExample
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.resolution import settled
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


@pytest.mark.parametrize("name", METHODS)
def test_no_method_but_an_oracle_takes_what_oracles_are_told(name: str) -> None:
    method = METHODS[name]
    taken = list(inspect.signature(method).parameters)
    if issubclass(method, Oracle):
        assert taken == ["config", "targets"]
        return
    assert taken == ["config"]
    parts = (method.__init__, method.examples, method.roll_out, method.loss)
    for part in parts:
        for hint in typing.get_type_hints(part).values():
            assert not {GoldAnswers, Target} & set(held(hint))


def told() -> Targets:
    return {"q": Target("yes", "yes")}


@pytest.mark.parametrize("name", METHODS)
def test_telling_a_method_that_is_no_oracle_is_an_error(name: str) -> None:
    method: typing.Any = METHODS[name]
    config = settled(Config(method=name))
    if issubclass(method, Oracle):
        assert method(config, told()).targets == told()
        with pytest.raises(TypeError, match="targets"):
            method(config)
        with pytest.raises(ConfigError, match="learns from gold answers"):
            method_of(config)
        return
    with pytest.raises(TypeError, match="takes 2 positional arguments"):
        method(config, told())
    assert not {"targets", "told"} & set(vars(method_of(config)))


def test_a_comparison_tells_no_method_but_an_oracle() -> None:
    for name, method in METHODS.items():
        own = method_for(Variant(name, name), settled(Config(method=name)), told())
        assert isinstance(own, method)
        assert ("targets" in vars(own)) == issubclass(method, Oracle)
