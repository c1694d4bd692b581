"""Trainings whose steps the workers of a Ray cluster take.

This process keeps the run directory: it sends the state to begin with, asks for one
step after the other, and writes the metrics, states and adapter that come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from neuron_opsd.cluster.training import END, Line, Team
from neuron_opsd.cluster.worker import Reply
from neuron_opsd.errors import NeuronOpsdError, TrainingError, TryAgainError
from neuron_opsd.models.load import load_model
from neuron_opsd.processes.process_group import PATIENCE, ProcessGroup
from neuron_opsd.records import StepMetrics
from neuron_opsd.runs.courses import Course, Job
from neuron_opsd.runs.fingerprint import model_fingerprint
from neuron_opsd.runs.jobs import Order, order_text, read_order
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


class TeamCourse:
    """A training under way in the workers of a team."""

    def __init__(self, job: Job, team: Team) -> None:
        """Begin where the model is."""
        self.job = job
        self.team = team
        self.num_bytes: int = team.ask("size")
        """Size of what is trained."""
        self.num_ranks = team.size
        """How many processes take its steps."""

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go back to what `state` returned."""
        self.team.ask("load", save(dict(state)))

    def take(self, earlier: Earlier) -> Iterator[StepMetrics]:
        """Take the steps that are left."""
        known = [asdict(split) for split in earlier.splits.known]
        begun = (earlier.num_steps, earlier.num_skipped, known)
        self.team.ask("begin", begun)
        for _ in range(earlier.num_steps, self.job.config.distill.steps):
            entry, notes = self.team.ask("step")
            for splits, said in notes:
                earlier.splits.known[:] = [Split(**split) for split in splits]
                earlier.splits.note(earlier.splits.known, said)
            yield StepMetrics(**entry)

    def state(self) -> dict[str, Tensor]:
        """Return all that a checkpoint must hold."""
        return load(self.team.ask("state"))

    def save_adapter(self, folder: Path) -> None:
        """Write what training made."""
        for name, data in self.team.ask("adapter").items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


@contextmanager
def team_course(team: Team, job: Job, tokens: int) -> Iterator[Course]:
    """Begin a training in workers; `tokens` is what passes may hold to begin with."""
    refuse_unsupported(job.config)
    known = model_fingerprint(job.config.model)
    place = {"name": place_text(job.config.model.name)}
    model = job.config.model.model_copy(update=place)
    told = replace(job, config=job.config.model_copy(update={"model": model}))
    try:
        team.begin(work, order_text(Order(told, tokens, known, team.share.cpus)))
        yield TeamCourse(job, team)
    finally:
        team.close()


def work(line: Line, text: str) -> None:
    """Do what each worker of a team does: the first answers, the others follow it."""
    order = read_order(text)
    torch.set_num_threads(order.threads)
    group = ProcessGroup(PATIENCE)
    with taking_steps(), unless_lost():
        if group.rank > 0:
            follow_course(order, group)
        else:
            answer_all(line, order, group)


def answer_all(line: Line, order: Order, group: ProcessGroup) -> None:
    """Answer what is asked for until nothing is, in the first worker."""
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
    """Return an error of which nothing is lost on the way to another process."""
    again = error.exit_status == TryAgainError.exit_status
    return (TryAgainError if again else TrainingError)(str(error))


class Desk:
    """What the first worker answers."""

    def __init__(self, order: Order, group: ProcessGroup) -> None:
        """Begin the training."""

        def made() -> Any:
            return load_model(order.job.config.model)

        self.course = LedCourse(order.job, begin(order, made, group), group)
        self.notes: list[tuple[list[dict[str, int]], str]] = []
        """Splits that were found since the last step, and what was said."""
        self.steps: Iterator[StepMetrics] = iter(())
        self.answers: Mapping[str, Callable[[Any], Any]] = {
            "size": lambda _: self.course.num_bytes,
            "load": lambda data: self.course.load_state(load(data)),
            "begin": self.begin,
            "step": lambda _: self.step(),
            "state": lambda _: save(self.course.state()),
            "adapter": lambda _: self.adapter(),
        }

    def begin(self, begun: tuple[int, int, list[dict[str, int]]]) -> None:
        """Begin the steps that are left."""
        num_steps, num_skipped, known = begun

        def note(splits: Any, said: str) -> None:
            self.notes.append(([asdict(split) for split in splits], said))

        splits = Splits([Split(**split) for split in known], note)
        self.steps = self.course.take(Earlier(num_steps, num_skipped, splits))

    def step(self) -> tuple[dict[str, Any], list[tuple[list[dict[str, int]], str]]]:
        """Take a step; return its metrics, and the splits that were found in it."""
        entry = asdict(next(self.steps))
        notes, self.notes = self.notes, []
        return entry, notes

    def adapter(self) -> dict[str, bytes]:
        """Return the files of what training made, by name."""
        with TemporaryDirectory(prefix="neuron-opsd-") as home:
            folder = Path(home)
            self.course.save_adapter(folder)
            return {
                path.relative_to(folder).as_posix(): path.read_bytes()
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            }
