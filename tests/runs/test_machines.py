"""A run does not depend on who works on its chunks, nor on who is done first."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from neuron_opsd.cluster.worker import Worker
from neuron_opsd.errors import NotFiniteError
from neuron_opsd.runs import run as running
from neuron_opsd.runs.machines import ThisMachine
from neuron_opsd.storage.manifest import read_manifest
from neuron_opsd.storage.stored_rollouts import Answered
from tiny_runs import KINDS, files_of, tiny_config, tiny_request, tiny_run


def sent(value: Any) -> Any:
    """Return what another process would get."""
    return pickle.loads(pickle.dumps(value))


class LastFirst(ThisMachine):
    """Two workers, the second of whom is always done first."""

    def map(
        self,
        model: Any,
        function: Callable[[Any, Sequence[Any]], Sequence[Any]],
        chunks: Iterable[tuple[int, Sequence[Any]]],
        keeping: object = None,
    ) -> Iterator[tuple[int, Sequence[Any]]]:
        """Work on two chunks at a time, on what came over the network."""
        del keeping
        source = iter(chunks)
        while pair := list(islice(source, 2)):
            for number, chunk in reversed(pair):
                yield number, sent(sent(function)(model, sent(list(chunk))))


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_the_same_whoever_is_done_first(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    own = ["rollouts.centre_choices=true"] if kind == "choices" else []
    config = tiny_config(tiny_llama, *own, "rollouts.block_size=3")
    here = tiny_run(tiny_request(tmp_path, "here", kind=kind), config)

    @contextmanager
    def last_first(*_: Any) -> Iterator[LastFirst]:
        yield LastFirst()

    monkeypatch.setattr(running, "machines_for", last_first)
    there = tiny_run(tiny_request(tmp_path, "there", kind=kind), config)
    one, other = files_of(here.folder), files_of(there.folder)
    differ = {name for name in one if one[name] != other.get(name)}
    assert differ <= {"manifest.json", "report.html", "report.json"}
    assert here.warnings == there.warnings


def test_where_a_command_runs_is_no_setting_of_a_run(
    tiny_llama: Path, tmp_path: Path
) -> None:
    run = tiny_run(tiny_request(tmp_path), tiny_config(tiny_llama))
    settings = read_manifest(run.folder).settings
    assert not [name for name in settings if name.startswith("cluster.")]


def test_completions_are_read_when_a_chunk_is_gone_over() -> None:
    read: list[Sequence[str]] = []

    class Known:
        def completions(self, ids: Sequence[str]) -> list[Any]:
            read.append(ids)
            return [f"of {name}" for name in ids]

    known: Any = Known()
    answered = Answered("abcd", ["q0", "q1", "q2", "q3"], known)
    chunk = answered[1:3]
    assert (len(chunk), read) == (2, [])
    pairs: list[Any] = list(chunk)
    assert pairs == [("b", "of q1"), ("c", "of q2")]
    assert read == [["q1", "q2"]]
    pairs.append(answered[3])
    assert pairs[2] == ("d", "of q3")


def test_what_a_worker_says_of_its_fault_arrives_whole() -> None:
    worker, fault = Worker({}, 1), NotFiniteError("the loss is nan", [0], ["q1"])

    def spoil(_: None, __: Sequence[int]) -> list[int]:
        raise fault

    reply = sent(worker.work(spoil, [1]))
    assert str(reply.error) == str(fault)
    assert reply.error.among(["q0"]).questions == ("q0",)
