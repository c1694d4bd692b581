"""Files of a run that are harmed while no process is at work, and what is said of it.

Each file of a finished run, of runs that were stopped amid their answers and amid their
training, and of a finished comparison is cut, flipped, deleted or swapped. `status`,
`report` and the command that made it must each end with the same result, or a line.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeAlias

from faults.sweeps import Plan, Trial
from faults.workshop import Complaints, Task, speaking
from killed_runs import Arm, at_rename, fork, wait
from neuron_opsd.cli import main
from neuron_opsd.storage.files import OWN
from tiny_runs import files_of

Harm: TypeAlias = Callable[[Path, bytes, Random], None]
"""Takes a file, another version of it and a draw."""


def flip(path: Path, other: bytes, draw: Random) -> None:
    """Flip one bit."""
    del other
    data = bytearray(path.read_bytes())
    if data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def cut_to(share: float, more: int = 0) -> Harm:
    """Return what leaves a share of a file's bytes, or some more."""

    def cut(path: Path, other: bytes, draw: Random) -> None:
        del other, draw
        size = path.stat().st_size
        os.truncate(path, min(size, max(0, round(share * size) + more)))

    return cut


def delete(path: Path, other: bytes, draw: Random) -> None:
    """Delete it."""
    del other, draw
    path.unlink()


def swap(path: Path, other: bytes, draw: Random) -> None:
    """Put another version in its place."""
    del draw
    path.write_bytes(other)


HARMS: Mapping[str, Harm] = {
    "a flipped bit": flip,
    "another flipped bit": flip,
    "no bytes": cut_to(0.0),
    "one byte": cut_to(0.0, 1),
    "half of its bytes": cut_to(0.5),
    "its last byte gone": cut_to(1.0, -1),
    "deleted": delete,
    "another version": swap,
}

EXTRA = "mine.txt"


@dataclass(frozen=True, slots=True)
class Subject:
    """A folder whose files are harmed."""

    task: Task
    name: str
    others: Mapping[str, bytes]
    """Another version of its files, where there is one."""

    @property
    def files(self) -> dict[str, bytes]:
        """Its files by name."""
        return files_of(self.task.folder / self.name)

    def other(self, name: str) -> bytes:
        """Return what might stand in a file's place: never what it holds."""
        files = self.files
        last = name.rpartition("/")[2]
        alike = [data for one, data in files.items() if one.endswith(f"/{last}")]
        found = [self.others.get(name, files[name]), *alike, scrambled(files[name])]
        return next((data for data in found if data != files[name]), b"other")


def finished(task: Task) -> Subject:
    """Return what a command that ended has left."""
    return Subject(task, "whole", {})


def runs(task: Task) -> dict[str, Subject]:
    """Return runs by how far they came: amid the answers, amid training, ended.

    Other versions of their files are older ones, or those of a run with another seed.
    """
    other = stopped(task, "other", lambda: None, "--set", "seed=1")
    early = stopped(task, "early", at_rename("rollouts.parquet", "before"))
    half = stopped(task, "half", at_rename("adapter", "before"))
    return {
        "early": Subject(task, "early", other),
        "half": Subject(task, "half", other | early),
        "whole": Subject(task, "whole", other | early | half),
    }


def stopped(task: Task, name: str, arm: Arm, *more: str) -> dict[str, bytes]:
    """Begin a run that stops itself; return the files that it has left."""

    def work() -> int:
        arm()
        return main([*task.words(name), *more])

    wait(fork(speaking(task.folder / "said.txt", work)))
    return files_of(task.folder / name)


def damaged(subject: Subject, plan: Plan) -> Iterator[Trial]:
    """Harm each file in each way, and each folder by a file more.

    Not a folder that a stopped write has left: its name says that it goes.
    """
    cases = [(name, harm) for name in subject.files for harm in HARMS]
    folders = {
        os.path.dirname(name)  # noqa: PTH120
        for name in subject.files
        if f".{OWN}.tmp/" not in name
    }
    cases += [(f"{folder}/{EXTRA}".lstrip("/"), EXTRA) for folder in sorted(folders)]
    for name, harm in plan.drawn(cases):
        complaints = harmed(subject, name, harm, plan.seed)
        yield Trial(f"{subject.name}/{name}: {harm}", complaints)


def harmed(subject: Subject, name: str, harm: str, seed: int) -> Complaints:
    """Harm a file, and say what is wrong with what the commands make of it."""
    task = subject.task
    copy = copy_of(task, subject.name, "harmed")
    draw = Random(f"{seed} {name} {harm}")
    if harm == EXTRA:
        (copy / name).write_text("mine")
    else:
        HARMS[harm](copy / name, subject.other(name), draw)
    complaints: Complaints = []
    for command in ("status", "report"):
        ended = task.command([command, str(copy)])
        complaints += [f"{command}: {one}" for one in ended.complaints]
    ended = task.begin("harmed")
    complaints += ended.complaints
    if ended.status == 0:
        missed = set(task.misses("harmed"))
        if harm == EXTRA:
            complaints += [] if (copy / name).exists() else [f"foreign {name} is gone"]
            missed.discard(f"{name} is left over")
        told = [one for one in missed if was_told(one, ended.said)]
        complaints += [f"run: {one}" for one in sorted(missed.difference(told))]
    task.clear("harmed")
    return complaints


def was_told(miss: str, said: str) -> bool:
    """Say whether the command told of what it left as it was, or had to give up.

    Nothing is made from a lost checkpoint of a training that has ended, nor from the
    card of an adapter.
    """
    if "is left out: " in said and "only training again could make it" in said:
        return True  # a method of a comparison whose metrics are lost
    if "/checkpoints/step-" in miss:
        return "the finished training does not need it" in said
    return "README.md" in miss and "no result depends on it" in said


def scrambled(data: bytes) -> bytes:
    """Return other bytes of the same length."""
    return bytes(byte ^ 0x55 for byte in data)


def copy_of(task: Task, name: str, other: str) -> Path:
    """Copy a folder that was filled; return the copy."""
    task.clear(other)
    return Path(shutil.copytree(task.folder / name, task.folder / other))
