"""What goes wrong in turn, area by area, and what came of each trial.

An area yields its trials as they end. Each begins in a new folder, meets its fault, is
resumed without one, and is held against what nothing disturbed.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, TypeAlias, TypeVar

from faults.calls import WRITES, Call
from faults.disk import Disk
from faults.watching import ERRORS, Watch, can_return
from faults.workshop import Attempt, Complaints, Task, speaking, unproven
from killed_runs import KILLED, fork, kill_after
from neuron_opsd.cli import main
from neuron_opsd.storage.manifest import MANIFEST

T = TypeVar("T")

MUST_BE_75 = {errno.ENOSPC, errno.EDQUOT}
"""A disk that is full is nobody's mistake, wherever it shows."""

AGAIN = 0.5
"""Chance that a run which was resumed is killed once more."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault, and what there is to complain of."""

    what: str
    complaints: Complaints
    reached: bool = True
    """Whether the fault came to pass."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of an area is tried."""

    num_trials: int | None = None
    """Drawn by the seed; all where it is `None`."""
    seed: int = 0
    num_draws: int = 120
    """Trials of what is drawn at random and has no end."""

    def drawn(self, cases: Sequence[T]) -> list[T]:
        """Return some of the cases, or all, in any order."""
        count = len(cases) if self.num_trials is None else self.num_trials
        return Random(self.seed).sample(cases, min(count, len(cases)))

    def draws(self) -> list[int]:
        """Return the seeds of trials that are drawn at random."""
        count = self.num_draws if self.num_trials is None else self.num_trials
        return [1000 * self.seed + number for number in range(count)]


Area: TypeAlias = Callable[[Task, Plan], Iterator[Trial]]


@cache
def scout(task: Task, *, looks_too: bool = False) -> Sequence[Call]:
    """Return the calls of a run that nothing disturbs."""
    watch = task.watch("scout", looks_too=looks_too)
    ended = task.begin("scout", watch)
    if ended.status or task.misses("scout"):
        raise RuntimeError(f"a run that was only watched failed: {ended.said}")
    task.clear("scout")
    return watch.log


def trial(task: Task, watch: Watch, judge: Callable[[Attempt], Complaints]) -> Trial:
    """Let one call go wrong, and resume."""
    name = Path(watch.root).name
    first = task.begin(name, watch)
    complaints = judge(first) + task.resolved(name)
    task.clear(name)
    return Trial(f"{label(watch)}: {watch.fired}", complaints, bool(watch.fired))


def label(watch: Watch) -> str:
    """Say what a watch does, for the reader."""
    code = f" {errno.errorcode[watch.code]}" if watch.code else ""
    return f"{watch.kind}{code}{' for good' if watch.for_good else ''} at {watch.at}"


def killed(task: Task, plan: Plan) -> Iterator[Trial]:
    """Kill a run before each call that changes something, and amid each write.

    After a call is before the next one, as far as the disk can tell.
    """
    calls = scout(task)
    cases: list[dict[str, Any]] = []
    for number, call in enumerate(calls, start=1):
        cases.append({"at": number, "kind": "kill"})
        if call.name in WRITES:
            cases.append({"at": number, "kind": "torn"})
    for case in plan.drawn(cases):
        yield trial(task, task.watch("killed", **case), was_killed)


def was_killed(ended: Attempt) -> Complaints:
    """Complain of what outlived its kill and did not end well either."""
    return [] if ended.status in (KILLED, 0) else ended.complaints


def failing(task: Task, plan: Plan) -> Iterator[Trial]:
    """Let each call return each error it knows, once or from then on."""
    calls = scout(task, looks_too=True)
    cases = [
        {"at": number, "code": code, "for_good": for_good}
        for number, call in enumerate(calls, start=1)
        for code in ERRORS
        if can_return(call, code)
        for for_good in (False, True)
    ]
    for case in plan.drawn(cases):
        watch = task.watch("failing", kind="error", looks_too=True, **case)
        yield trial(task, watch, partial(failed_well, code=watch.code))


def failed_well(ended: Attempt, code: int) -> Complaints:
    """Complain of an end that a user would not understand."""
    complaints = list(ended.complaints)
    if code in MUST_BE_75 and ended.status == 2:
        complaints.append(f"a full disk ends with 2: {ended.said[-200:]!r}")
    return complaints


def cut_short(task: Task, plan: Plan) -> Iterator[Trial]:
    """Let each write take half of its bytes."""
    calls = scout(task)
    cases = [at for at, call in enumerate(calls, start=1) if call.name in WRITES]
    for at in plan.drawn(cases):
        watch = task.watch("short", at=at, kind="short")
        yield trial(task, watch, lambda ended: ended.complaints)


def without_power(task: Task, plan: Plan) -> Iterator[Trial]:
    """Cut the power before a call: what was not synced is there, torn or gone."""
    num_calls = len(scout(task))
    for seed in plan.draws():
        draw = Random(f"power {seed}")
        watch = task.watch("power", at=draw.randint(1, num_calls))
        folder = Path(watch.root)
        watch.disk = Disk(folder)
        task.begin("power", watch)
        watch.disk.cut(draw)
        complaints = [f"after the cut {one}" for one in lost(folder)]
        complaints += task.resolved("power")
        task.clear("power")
        yield Trial(f"seed {seed} at {watch.at}: {watch.fired}", complaints)


def lost(folder: Path) -> Complaints:
    """Say which outputs are listed as done and are not there whole."""
    return unproven(folder) if (folder / MANIFEST).exists() else []


def at_random(task: Task, plan: Plan) -> Iterator[Trial]:
    """Kill a run at a random time, and what resumes it, too."""
    start = time.perf_counter()
    task.begin("timed")
    whole = time.perf_counter() - start
    task.clear("timed")
    for seed in plan.draws():
        draw = Random(f"random {seed}")
        kills, status, complaints = 0, KILLED, list[str]()
        while status == KILLED and (kills == 0 or draw.random() < AGAIN):
            said = task.folder / "said.txt"
            child = fork(speaking(said, lambda: main(task.words("random"))))
            status = kill_after(child, draw.uniform(0.0, 0.8 * whole))
            kills += status == KILLED
            complaints += was_killed(Attempt(status, said.read_text(errors="replace")))
        complaints += task.resolved("random")
        task.clear("random")
        yield Trial(f"seed {seed}: {kills} kills", complaints, kills > 0)


RUN_AREAS: Mapping[str, Area] = {
    "killed at each call": killed,
    "each call fails": failing,
    "each write is short": cut_short,
    "power cut": without_power,
    "killed at random": at_random,
}
