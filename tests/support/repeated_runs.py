"""A run, its resumption, its report and an evaluation, over and over in one process.

What a process holds between two rounds should not grow: memory, open files, children.
"""

from __future__ import annotations

import gc
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from neuron_opsd.answers.readers import READERS
from neuron_opsd.comparison.compare import rebuild_page
from neuron_opsd.config import AnswersConfig
from neuron_opsd.progress import Silent
from neuron_opsd.runs.testing import evaluate
from neuron_opsd.storage.status import RunStatus, read_status
from tiny_runs import KINDS, outcome_of, tiny_config, tiny_request, tiny_run

PROC = Path("/proc/self")


class StoppedError(Exception):
    """Stands for whatever stops a run half-way."""


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    memory: int
    """Bytes that are resident."""
    descriptors: int
    children: int
    threads: int


def held() -> Held:
    """Return what this process holds now; Linux alone says so."""
    gc.collect()
    pages = int((PROC / "statm").read_text().split()[1])
    tasks = list((PROC / "task").iterdir())
    children = [(task / "children").read_text().split() for task in tasks]
    return Held(
        memory=pages * resource.getpagesize(),
        descriptors=len(os.listdir(PROC / "fd")),  # noqa: PTH208 - one is of the listing
        children=sum(map(len, children)),
        threads=len(tasks),
    )


class Halting(Silent):
    """Stops a run after some units of one stage."""

    def __init__(self, stage: str, units: int) -> None:
        """Take where to stop."""
        super().__init__()
        self.halt = stage
        self.units = units

    @contextmanager
    def stage(
        self, name: str, total: int, unit: str
    ) -> Iterator[Callable[[int], None]]:
        """Count the units of a stage, and stop when they are enough."""
        done: list[int] = []

        def count(units: int) -> None:
            done.append(units)
            if name == self.halt and sum(done) >= self.units:
                raise StoppedError

        with super().stage(name, total, unit):
            yield count


def one_round(folder: Path, model: Path, number: int) -> dict[str, bytes]:
    """Stop a run half-way, resume it, look at it, and test its adapter.

    Args:
        folder: Gets the run, which is deleted at the end.
        model: The tiny one.
        number: Of the round; odd ones ask for free answers.

    Returns:
        What the run ended with.
    """
    kind = KINDS[number % len(KINDS)]
    request = tiny_request(folder / kind, kind=kind)
    config = tiny_config(model)
    latex = READERS["latex"].make(AnswersConfig(reader="latex"))
    assert latex.same(
        rf"\frac{{{number + 1}}}{{2}}", rf"\frac{{{2 * number + 2}}}{{4}}"
    )
    with suppress(StoppedError):
        tiny_run(request, config, Halting("distillation", 3))
    done = tiny_run(request, config)
    status = read_status(done.folder, verify=True)
    assert isinstance(status, RunStatus)
    assert status.finished
    rebuild_page(done.folder, Silent())
    tiny_run(request, config)
    tested = folder / "evaluation.json"
    evaluate(request.tests, config, tested, Silent(), done.folder / "adapter")
    outcome = dict(outcome_of(done.folder))
    shutil.rmtree(done.folder)
    return outcome
