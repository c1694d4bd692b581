"""Trainings whose steps run in Ray cluster workers.

This process owns the run directory: it sends the first state, requests steps one by
one, and writes the metrics, states and adapter that return.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from safetensors.torch import load, save
from torch import Tensor

from neuron_opsd.cluster.training import END, Line, Team
from neuron_opsd.cluster.worker import Reply
from neuron_opsd.errors import NeuronOpsdError, TrainingError, TryAgainError
from neuron_opsd.models.load import load_model
from neuron_opsd.processes.process_group import ProcessGroup
from neuron_opsd.records import StepMetrics
from neuron_opsd.runs.courses import Course, Job, Order, order_text, read_order
from neuron_opsd.runs.fingerprint import model_fingerprint
from neuron_opsd.runs.ranked import (
    LedCourse,
    begin,
    follow_course,
    refuse_unsupported,
    taking_steps,
    unless_lost,
)
from neuron_opsd.stages.splitting import Split, Splits
from neuron_opsd.stages.training import Earlier
from neuron_opsd.storage.manifest import place_text

PART: Final = 64 << 20
"""Bytes of state sent at once; full tuning has billions."""


def in_parts(state: Mapping[str, Tensor], num_bytes: int) -> list[dict[str, Tensor]]:
    """Split a state into parts of `num_bytes`, or of one tensor."""
    parts: list[dict[str, Tensor]] = []
    room = 0
    for name, value in state.items():
        if value.nbytes > room:
            parts.append({})
            room = num_bytes
        parts[-1][name] = value
        room -= value.nbytes
    return parts


class TeamCourse:
    """A training in a team's workers."""

    def __init__(self, job: Job, team: Team) -> None:
        self.job = job
        self.team = team
        self.num_bytes: int = team.ask("size")
        self.num_ranks = team.size

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        for part in in_parts(state, PART):
            self.team.ask("take", save(part))
        self.team.ask("load")

    def take(self, earlier: Earlier) -> Iterator[StepMetrics]:
        """Take the remaining steps."""
        begun = (earlier.num_steps, earlier.num_skipped, earlier.splits.known)
        self.team.ask("begin", begun)
        for _ in range(earlier.num_steps, self.job.config.distill.steps):
            entry, notes = self.team.ask("step")
            for splits, said in notes:
                earlier.splits.known[:] = splits
                earlier.splits.note(earlier.splits.known, said)
            yield entry

    def state(self) -> dict[str, Tensor]:
        """Return everything a checkpoint must hold."""
        found: dict[str, Tensor] = {}
        for _ in range(self.team.ask("state", PART)):
            found |= load(self.team.ask("part"))
        return found

    def save_adapter(self, folder: Path) -> None:
        """Write the trained adapter."""
        self.team.ask("adapter", PART)
        while piece := self.team.ask("piece"):
            name, data = piece
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(data)


@contextmanager
def team_course(team: Team, job: Job, tokens: int) -> Iterator[Course]:
    """Begin a training in workers; `tokens` limits a pass."""
    refuse_unsupported(job.config)
    known = model_fingerprint(job.config.model)
    place = {"name": place_text(job.config.model.name)}
    told = replace(job, config=job.config.changed(model=place))
    try:
        team.begin(work, order_text(Order(told, tokens, known, team.share.cpus)))
        yield TeamCourse(job, team)
    finally:
        team.close()


def work(line: Line, text: str) -> None:
    """Run a worker: the first answers, the others follow it."""
    order = read_order(text)
    torch.set_num_threads(order.threads)
    patience = timedelta(seconds=order.job.config.cluster.step_timeout)
    group = ProcessGroup(patience)
    with taking_steps(), unless_lost():
        if group.rank > 0:
            follow_course(order, group)
        else:
            answer_all(line, order, group)


def answer_all(line: Line, order: Order, group: ProcessGroup) -> None:
    """Answer requests in the first worker until they end."""
    desk: Desk | None = None
    while (asked := line.hear())[0] != END:
        what, data = asked
        try:
            desk = desk or Desk(order, group)
            line.answer(Reply(desk.answers[what](data)))
        except NeuronOpsdError as error:
            line.answer(Reply(error=plain(error)))
    if desk is not None:
        desk.course.end()


def plain(error: NeuronOpsdError) -> NeuronOpsdError:
    """Return an error that can be sent to another process."""
    again = error.exit_status == TryAgainError.exit_status
    return (TryAgainError if again else TrainingError)(str(error))


class Desk:
    """The first worker's request handlers."""

    def __init__(self, order: Order, group: ProcessGroup) -> None:
        def made() -> Any:
            return load_model(order.job.config.model)

        self.course = LedCourse(order.job, begin(order, made, group), group)
        self.notes: list[tuple[list[Split], str]] = []
        """Splits and messages since the last step."""
        self.steps: Iterator[StepMetrics] = iter(())
        self.parts: list[dict[str, Tensor]] = []
        """Of an incoming state."""
        self.pieces: Iterator[tuple[str, bytes]] = iter(())
        """Of the trained files."""
        self.answers: Mapping[str, Callable[[Any], Any]] = {
            "size": lambda _: self.course.num_bytes,
            "take": lambda data: self.parts.append(load(data)),
            "load": lambda _: self.load(),
            "begin": self.begin,
            "step": lambda _: self.step(),
            "state": self.state,
            "part": lambda _: save(self.parts.pop(0)),
            "adapter": self.adapter,
            "piece": lambda _: next(self.pieces, None),
        }

    def begin(self, begun: tuple[int, int, list[Split]]) -> None:
        """Begin the remaining steps."""
        num_steps, num_skipped, known = begun

        def note(splits: Sequence[Split], said: str) -> None:
            self.notes.append((list(splits), said))

        splits = Splits(list(known), note)
        self.steps = self.course.take(Earlier(num_steps, num_skipped, splits))

    def step(self) -> tuple[StepMetrics, list[tuple[list[Split], str]]]:
        """Take a step; return its metrics and new splits."""
        entry = next(self.steps)
        notes, self.notes = self.notes, []
        return entry, notes

    def load(self) -> None:
        """Restore a state whose parts have all arrived."""
        parts, self.parts = self.parts, []
        self.course.load_state(dict(ChainMap(*parts)))

    def state(self, num_bytes: int) -> int:
        """Split the checkpoint state; return how many parts."""
        self.parts = in_parts(self.course.state(), num_bytes)
        return len(self.parts)

    def adapter(self, num_bytes: int) -> None:
        """Begin to send the adapter's files in pieces."""
        self.pieces = self.read(num_bytes)

    def read(self, num_bytes: int) -> Iterator[tuple[str, bytes]]:
        """Yield pieces of files with their names."""
        with TemporaryDirectory(prefix="neuron-opsd-") as home:
            folder = Path(home)
            self.course.save_adapter(folder)
            for path in sorted(filter(Path.is_file, folder.rglob("*"))):
                with path.open("rb") as file:
                    for data in iter(partial(file.read, num_bytes), b""):
                        yield path.relative_to(folder).as_posix(), data
