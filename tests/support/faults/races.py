"""Several processes at once in one folder: who works, who waits, who takes over."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from faults.sweeps import Plan, Trial
from faults.workshop import Attempt, Complaints, Task, speaking
from killed_runs import KILLED, fork, wait
from neuron_opsd.cli import main
from neuron_opsd.storage import run_directory as store

SIZES = (2, 3, 4, 5, 6, 7, 8)
"""Numbers of processes that start at once."""
PATIENCE = 60
"""Seconds that a process may take to its first lock, and then wait for the others."""


@dataclass(frozen=True, slots=True)
class Racer:
    """A process that waits for a word once it holds its first lock."""

    pid: int
    said: Path
    word: int
    """Where the word is given."""

    def ended(self) -> Attempt:
        """Wait for its end."""
        return Attempt(wait(self.pid), self.said.read_text(errors="replace"))


@dataclass(frozen=True, slots=True)
class Race:
    """Processes that were started together."""

    racers: Sequence[Racer]
    told: int
    """Where each tells its number and the folder that it holds."""

    def holders(self, count: int) -> dict[int, str]:
        """Return the folders that so many of them hold, by their places."""
        data = b""
        while data.count(b"\n") < count:
            ready, _, _ = select.select([self.told], [], [], PATIENCE)
            if not ready:
                break
            data += os.read(self.told, 4096)
        lines = [line.split(" ", 1) for line in data.decode().splitlines()]
        return {int(number): folder for number, folder in lines}

    def let_go(self) -> None:
        """Let all that hold a lock work on."""
        for racer in self.racers:
            os.write(racer.word, b"x")


def start(task: Task, name: str, count: int) -> Race:
    """Give the same command in so many children at once."""
    told, tell = os.pipe()
    racers = []
    for number in range(count):
        hear, word = os.pipe()
        said = task.folder / f"said-{number}.txt"

        def work(number: int = number, hear: int = hear) -> int:
            hold_locks(number, tell, hear)
            return main(task.words(name))

        racers.append(Racer(fork(speaking(said, work)), said, word))
    return Race(racers, told)


def hold_locks(number: int, tell: int, hear: int) -> None:
    """Tell in this process when it holds its first lock, and wait there for a word."""
    real = vars(store)["locked"]
    held: list[Path] = []

    @contextmanager
    def locked(folder: Path) -> Iterator[None]:
        with real(folder):
            if not held:
                held.append(folder)
                os.write(tell, f"{number} {folder}\n".encode())
                signal.alarm(PATIENCE)
                os.read(hear, 1)
                signal.alarm(0)
            yield

    patched: type[AbstractContextManager[None]] | object = locked
    vars(store)["locked"] = patched


def raced(task: Task, plan: Plan) -> Iterator[Trial]:
    """Start processes on one run at once; kill who won; start them once more."""
    for size in plan.drawn(SIZES):
        complaints = one_wins(task, size, kill=True)
        complaints += one_wins(task, size, kill=False)
        complaints += task.misses("raced")
        task.clear("raced")
        yield Trial(f"{size} processes on one run, the holder killed", complaints)


def one_wins(task: Task, size: int, *, kill: bool) -> Complaints:
    """Let processes race for a run; complain unless one works and all others wait."""
    race = start(task, "raced", size)
    holders = race.holders(1)
    if len(holders) != 1:
        race.let_go()
        return [f"{len(holders)} processes hold the run"]
    winner = race.racers[next(iter(holders))]
    complaints: Complaints = []
    for racer in race.racers:
        if racer is not winner:
            complaints += refused(racer.ended(), winner)
    if kill:
        os.kill(winner.pid, signal.SIGKILL)
    race.let_go()
    ended = winner.ended()
    if ended.status != (KILLED if kill else 0):
        complaints.append(f"the holder ended with {ended.status}: {ended.said!r}")
    return complaints


def refused(ended: Attempt, winner: Racer) -> Complaints:
    """Complain unless a process was told in a line who holds the run."""
    complaints = ended.complaints
    if ended.status != 75:
        complaints.append(f"a loser ended with {ended.status}: {ended.said!r}")
    named = f"in use by process {winner.pid} on"
    if named not in " ".join(ended.said.split()):
        complaints.append(f"the holder is not named: {ended.said!r}")
    return complaints


def shared_out(task: Task, num_blocks: int) -> Iterator[Trial]:
    """Start a process for each block of a comparison and one more, all at once.

    Args:
        task: A comparison.
        num_blocks: How many blocks it has.
    """
    race = start(task, "raced", num_blocks + 1)
    holders = race.holders(num_blocks)
    complaints: Complaints = []
    if len({*holders.values()}) != num_blocks or len(holders) != num_blocks:
        complaints.append(f"the blocks are not shared out: {holders}")
    idle = [r for number, r in enumerate(race.racers) if number not in holders]
    for racer in idle:
        ended = racer.ended()
        complaints += ended.complaints
        if ended.status != 75 or "other processes are working on" not in ended.said:
            complaints.append(
                f"who has no block ends with {ended.status}: {ended.said!r}"
            )
    race.let_go()
    for number in holders:
        ended = race.racers[number].ended()
        complaints += ended.complaints
        if ended.status not in (0, 75):
            complaints.append(
                f"who has a block ends with {ended.status}: {ended.said!r}"
            )
    complaints += task.resolved("raced")
    task.clear("raced")
    yield Trial(f"{num_blocks + 1} processes on {num_blocks} blocks", complaints)
