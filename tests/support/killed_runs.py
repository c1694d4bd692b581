"""Tiny runs in processes of their own, which are killed and then go on.

The parent has imported all that a run needs and has started no thread, so each child
is forked from it at once. Called as a script it kills runs in several ways and
prints what came of them as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias

import torch

from neuron_opsd.config import Config
from neuron_opsd.progress import Silent
from neuron_opsd.records import StepMetrics
from neuron_opsd.runs import training
from neuron_opsd.runs.metrics import METRICS, append_metrics
from neuron_opsd.runs.run import Request
from tiny import tiny_model
from tiny_runs import outcome_of, run_command, tiny_config, tiny_request, tiny_run

KILLED = -signal.SIGKILL
EVERY = 14
"""Renames after which a run is killed again and again; enough for some progress."""

Arm: TypeAlias = Callable[[], None]
"""Prepares the end of the process that calls it."""


@dataclass(frozen=True)
class Workshop:
    """A tiny model, settings, and how a run of them ends when nothing stops it."""

    folder: Path
    config: Config
    outcome: Mapping[str, bytes]
    seconds: float

    def request(self, name: str) -> Request:
        """Ask for a run in a directory of that name."""
        return tiny_request(self.folder, name)

    def start(self, name: str, arm: Arm | None = None) -> int:
        """Begin a run, or go on with one, in a child; return its process id."""

        def work() -> None:
            if arm is not None:
                arm()
            note = self.folder / f"{name}.stage"
            tiny_run(self.request(name), self.config, StageNote(note))

        return fork(work)

    def stage(self, name: str) -> str:
        """Return the last stage that a run of this name has come to."""
        note = self.folder / f"{name}.stage"
        return note.read_text() if note.exists() else "start"

    def is_whole(self, name: str) -> bool:
        """Say whether a run has ended as the one did that nothing stopped."""
        return outcome_of(self.folder / name) == self.outcome


class StageNote(Silent):
    """Writes down which stage a run is in."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @contextmanager
    def stage(
        self, name: str, total: int, unit: str
    ) -> Iterator[Callable[[int], None]]:
        """Take a note and go on."""
        self.path.write_text(name)
        with super().stage(name, total, unit) as done:
            yield done


def open_workshop(folder: Path, *assignments: str) -> Workshop:
    """Make a model and run it twice to the end, each time in a child.

    Raises:
        RuntimeError: If a run fails, or the two differ.
    """
    model, used = folder / "model", folder / "modules.txt"
    config = tiny_config(model, *assignments)

    def work() -> None:
        before = set(sys.modules)
        tiny_model(model)
        tiny_run(tiny_request(folder, "whole"), config)
        used.write_text("\n".join(sorted(set(sys.modules) - before)))

    status = wait(fork(work))
    if status != 0:
        raise RuntimeError(f"a run that nothing stopped ended with status {status}")
    import_all(used.read_text().split())
    start = time.perf_counter()
    shop = Workshop(folder, config, outcome_of(folder / "whole"), 0.0)
    wait(shop.start("twin"))
    if not shop.is_whole("twin"):
        raise RuntimeError("two runs that nothing stopped ended with different bytes")
    return replace(shop, seconds=time.perf_counter() - start)


def import_all(names: list[str]) -> None:
    """Import what a run imports late, so that no child has to."""
    for name in names:
        with suppress(ImportError):
            importlib.import_module(name)


def fork(work: Callable[[], object]) -> int:
    """Do some work in a child; return its process id at once."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    try:
        torch.set_num_threads(1)
        work()
        os._exit(0)
    finally:
        traceback.print_exc()
        os._exit(1)


def wait(child: int) -> int:
    """Return how a child ended: its exit status, or minus the signal's number."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_after(child: int, seconds: float) -> int:
    """Kill a child after a time, unless it ends before; return how it ended."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return wait(child)


def die() -> NoReturn:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody outlives SIGKILL")


def at_rename(
    target: str, moment: Literal["before", "after"], act: Callable[[], object] = die
) -> Arm:
    """Act when something is about to get, or has just got, the name `target`."""

    def arm() -> None:
        for name in ("replace", "rename"):
            setattr(os, name, watch(os.__dict__[name]))

    def watch(real: Callable[..., None]) -> Callable[..., None]:
        def call(source: Any, destination: Any) -> None:
            hit = str(destination).endswith(f"/{target}")
            if hit and moment == "before":
                act()
            real(source, destination)
            if hit and moment == "after":
                act()

        return call

    return arm


def at_count(count: int) -> Arm:
    """Die before the rename of this number, counted from 1."""
    calls: list[int] = []

    def arm() -> None:
        for name in ("replace", "rename"):
            setattr(os, name, watch(os.__dict__[name]))

    def watch(real: Callable[..., None]) -> Callable[..., None]:
        def call(source: Any, destination: Any) -> None:
            calls.append(1)
            if len(calls) == count:
                die()
            real(source, destination)

        return call

    return arm


def in_metrics(step: int) -> Arm:
    """Die when half of the line of a step is written."""

    def arm() -> None:
        def append(work: Path, entry: StepMetrics) -> None:
            if entry.step < step:
                append_metrics(work, entry)
                return
            with (work / METRICS).open("a") as file:
                file.write('{"step": 3, "loss": 0.1')
            die()

        vars(training)["append_metrics"] = append

    return arm


PLACES: Mapping[str, Arm] = {
    "before the first block": at_rename("parts/rollouts/00000.parquet", "before"),
    "between a block and its ticket": at_rename(
        "parts/rollouts/00001.parquet", "after"
    ),
    "between an output and the manifest": at_rename("rollouts.parquet", "after"),
    "in a test set": at_rename("parts/tests/sums/before/00000.done", "after"),
    "inside a checkpoint": at_rename("checkpoint.json", "after"),
    "after a checkpoint": at_rename("step-000002", "after"),
    "in a line of the metrics": in_metrics(3),
    "before the adapter": at_rename("adapter", "before"),
    "between the adapter and the manifest": at_rename("adapter", "after"),
    "between the evaluation and the report": at_rename("evaluation.json", "after"),
}
"""Where a run is killed, for the reader, in the order in which it gets there."""

FRACTIONS = (0.4, 0.7)
"""Of the time of a whole run: when SIGKILL comes from outside."""


def killed_at_places(shop: Workshop, name: str) -> dict[str, Any]:
    """Kill one run at every place in turn, let it end, and say how all ended."""
    ends = {place: wait(shop.start(name, arm)) for place, arm in PLACES.items()}
    last = wait(shop.start(name))
    return {"places": ends, "ends": [last], "whole": shop.is_whole(name)}


def killed_from_outside(shop: Workshop, name: str, share: float) -> dict[str, Any]:
    """Kill a run after a share of its time, go on, and say how it ended."""
    kill_after(shop.start(name), share * shop.seconds)
    second = wait(shop.start(name))
    return {"ends": [second], "whole": shop.is_whole(name)}


def killed_again_and_again(shop: Workshop, name: str) -> dict[str, Any]:
    """Kill a run after every few renames until it ends all the same."""
    ends = [KILLED]
    while ends[-1] == KILLED and len(ends) < 60:
        ends.append(wait(shop.start(name, at_count(EVERY))))
    return {"ends": ends[1:], "whole": shop.is_whole(name)}


def two_at_once(shop: Workshop, name: str) -> dict[str, Any]:
    """Start a second run on the directory of one that stands still."""
    said = shop.folder / "said.txt"

    def stand_still() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def second() -> None:
        with said.open("w") as file:
            os.dup2(file.fileno(), 2)
            os._exit(run_command(shop.request(name), shop.folder / "model"))

    holder = shop.start(name, at_rename("rollouts.parquet", "after", stand_still))
    os.waitpid(holder, os.WUNTRACED)
    refused = wait(fork(second))
    text = said.read_text()
    os.kill(holder, signal.SIGKILL)
    ends = [refused, wait(holder), wait(shop.start(name))]
    return {
        "ends": ends,
        "whole": shop.is_whole(name),
        "holder": holder,
        "said": text,
    }


def go_through(folder: Path) -> dict[str, Any]:
    """Kill runs in several ways; return what came of each, by name."""
    shop = open_workshop(folder)
    found: dict[str, Any] = {
        "at places": killed_at_places(shop, "places"),
        "again and again": killed_again_and_again(shop, "again"),
        "two at once": two_at_once(shop, "two"),
        "outcome": {name: data.hex() for name, data in shop.outcome.items()},
    }
    for share in FRACTIONS:
        name = f"share-{100 * share:.0f}"
        found[f"after {share:.0%}"] = killed_from_outside(shop, name, share)
    return found


if __name__ == "__main__":
    (place_given,) = sys.argv[1:]
    json.dump(go_through(Path(place_given)), sys.stdout)
