"""Tiny runs in children of a process that is warm, and whether they ended as they must.

The process has gone through a whole run itself, so a child is forked and ends within a
second. Every child is a command line as a user gives it.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import torch

from faults.seccomp import supervise
from faults.watching import Watch
from killed_runs import KILLED, fork, wait
from neuron_opsd.cli import main
from neuron_opsd.errors import DataError
from neuron_opsd.storage.files import sha256_file
from neuron_opsd.storage.folders import MARKER
from neuron_opsd.storage.integrity import faults, listed_faults
from neuron_opsd.storage.manifest import MANIFEST, read_manifest
from tiny import tiny_model
from tiny_runs import (
    SETTINGS,
    command_line,
    files_of,
    parity_rows,
    pool_rows,
    tiny_request,
    write_rows,
)

SHORT = ("distill.steps=3", "evaluation.num_resamples=20", "evaluation.prompted=false")
"""What makes a tiny run shorter still; its last step is in no checkpoint."""

IGNORED = {"LOCK.holder"}
"""Files that are there while a process is."""

TIMED = ("manifest.json", "result.json", "budgets.csv", "LOCK")
"""Ends of the names of files that hold times, which are alike only by chance, and of
the lock, whose bytes say nothing."""

PROMISED = (".safetensors", ".parquet", "evaluation.json", "metrics.jsonl")
"""Ends of the names of files that never depend on the time or the place."""

HELPERS = {
    "neuron_opsd.answers.verifier": "shared_verifier",
    "neuron_opsd.models.tokenizer.rendering": "shared_renderer",
}
"""Modules that keep a process at work, by what returns its owner; not all may be."""

FOREIGN = ("notes.txt", "keep.old", ".env.old", ".a.tmp", "parts/mine", "train/mine.md")
"""What somebody else may put into a run directory, and finds again."""

Complaints: TypeAlias = list[str]
Words: TypeAlias = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one process ended."""

    status: int
    """Its exit status, or minus the number of the signal that killed it."""
    said: str
    """What it wrote to stderr."""

    @property
    def complaints(self) -> Complaints:
        """What a user would complain of."""
        if "Traceback" in self.said:
            return [f"traceback: {self.said.strip().splitlines()[-1][:200]}"]
        if self.status not in (0, 2, 75, KILLED):
            return [f"ended with {self.status}: {self.said[-200:]!r}"]
        lines = [one for one in self.said.splitlines() if not one.startswith("warning")]
        if self.status in (2, 75) and len(lines) != 1:
            return [f"ended with {self.status} and {len(lines)} lines: {self.said!r}"]
        return []


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A command that fills a folder, and how it ends when nothing disturbs it."""

    folder: Path
    """Holds the model, the questions and the folders that are filled."""
    words: Words
    """Gives the command for a folder of a name."""
    steady: Mapping[str, bytes]
    """The files that it always ends with to the byte, by name."""
    names: frozenset[str]
    """Of all files that it ends with."""
    inputs: Mapping[str, str]
    """SHA-256 of the files that it must not touch."""

    def begin(self, name: str, watch: Watch | None = None) -> Attempt:
        """Give the command, also to resume; a call may go wrong."""
        return self.command(self.words(name), watch)

    def command(self, words: Sequence[str], watch: Watch | None = None) -> Attempt:
        """Give any command in a child."""
        said = self.folder / "said.txt"
        begin = speaking(said, lambda: main(list(words)))
        if watch is None:
            status = wait(fork(begin))
        else:
            status = supervise(begin, watch.numbers, watch.judge)
        return Attempt(status, said.read_text(errors="replace"))

    def watch(self, name: str, **how: Any) -> Watch:
        """Return a watch on a folder that is filled."""
        return Watch(root=str(self.folder / name), **how)

    def misses(self, name: str) -> Complaints:
        """Say how a folder that was filled differs from one that nothing disturbed."""
        folder = self.folder / name
        found = files_of(folder)
        names = found.keys() - set(FOREIGN)
        complaints = [f"{one} is missing" for one in sorted(self.names - names)]
        complaints += [f"{one} is left over" for one in sorted(names - self.names)]
        complaints += [
            f"{one} has other bytes"
            for one, data in self.steady.items()
            if found.get(one, data) != data
        ]
        return complaints + unproven(folder) + self.changed_inputs()

    def changed_inputs(self) -> Complaints:
        """Say which files beside the folder are others than at first."""
        now = hashes_of(self.folder, self.inputs)
        return [
            f"{one} was touched" for one in self.inputs if now[one] != self.inputs[one]
        ]

    def resolved(self, name: str) -> Complaints:
        """Give the command once more; say what is not as it must be."""
        folder = self.folder / name
        foreign = put_foreign(folder)
        last = self.begin(name)
        complaints = last.complaints
        if last.status == 0:
            complaints += self.misses(name)
        elif not complaints:
            complaints = [f"the resumed run ends with {last.status}: {last.said!r}"]
        lost = [one for one in foreign if not (folder / one).exists()]
        return complaints + [f"foreign {one} is gone" for one in lost]

    def clear(self, name: str) -> None:
        """Delete a folder that was filled."""
        shutil.rmtree(self.folder / name, ignore_errors=True)


def unproven(folder: Path) -> Complaints:
    """Say what a folder's manifests and list of hashes do not prove."""
    homes = [path.parent for path in sorted(folder.rglob(MANIFEST))]
    try:
        found = [faults(home, read_manifest(home)) for home in homes]
        return [
            text for one in (listed_faults(folder), *found) for text in one.values()
        ]
    except DataError as error:
        return [str(error)]


def speaking(said: Path, work: Callable[[], int]) -> Callable[[], NoReturn]:
    """Return what does some work and ends the process, its words in a file."""

    def begin() -> NoReturn:
        torch.set_num_threads(1)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(said, flags), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(work())

    return begin


def learn(folder: Path, words: Words) -> Task:
    """Give a command three times, here and in a child, and see how it ends.

    Raises:
        RuntimeError: If it fails, or ends twice with other bytes in what it promises.
    """
    task = Task(folder, words, {}, frozenset(), {})
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
        if main(words("whole")) or main(words("whole")):
            raise RuntimeError("a command that nothing disturbed failed")
    end_helpers()
    gc.collect()
    gc.freeze()
    task.begin("twin")
    whole, twin = files_of(folder / "whole"), files_of(folder / "twin")
    steady = {
        name: data
        for name, data in twin.items()
        if whole[name] == data and not name.endswith(TIMED)
    }
    if not all(name in steady for name in whole if name.endswith(PROMISED)):
        raise RuntimeError("what nothing disturbed ended with different bytes")
    task.clear("twin")
    inputs = [f"model/{path.name}" for path in (folder / "model").iterdir()]
    inputs += [path.name for path in folder.glob("*.jsonl")]
    names = frozenset({*whole} - IGNORED)
    return Task(folder, words, steady, names, hashes_of(folder, inputs))


def end_helpers() -> None:
    """End the processes that this one works with: its children must not share them."""
    for module, shared in HELPERS.items():
        if module in sys.modules:
            vars(sys.modules[module])[shared]().close()


def open_run(folder: Path) -> Task:
    """Make a model and questions, and learn how a tiny run of them ends."""
    folder.mkdir(exist_ok=True)
    model = tiny_model(folder / "model")

    asked = tiny_request(folder)
    # One test set, its own domain: fewer calls of the same kinds.
    own = {"parity": asked.tests["parity"]}

    def words(name: str) -> list[str]:
        request = replace(asked, tests=own, out=folder / name)
        return command_line(request, model, SHORT)

    return learn(folder, words)


def open_comparison(folder: Path, num_seeds: int) -> Task:
    """Make a model and questions, and learn how a tiny comparison of them ends."""
    folder.mkdir(exist_ok=True)
    model = tiny_model(folder / "model")
    pool = write_rows(folder / "pool.jsonl", pool_rows("choices"))
    test = write_rows(folder / "parity.jsonl", parity_rows(range(100, 104), "a"))

    def words(name: str) -> list[str]:
        return [
            *("compare", "--model", str(model), "--source", f"parity={pool}"),
            *("--test", f"parity={test}", "--out", str(folder / name)),
            *("--methods", "lmsi", "--seeds", str(num_seeds), "--quiet"),
            *("--set", *SETTINGS, *SHORT, "distill.num_samples=2"),
        ]

    return learn(folder, words)


def hashes_of(folder: Path, names: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of files by name."""
    return {name: sha256_file(folder / name) for name in names}


def put_foreign(folder: Path) -> list[str]:
    """Put somebody else's files into a run directory, where it is one by now."""
    if not (folder / MARKER).exists():
        return []
    placed = [one for one in FOREIGN if (folder / one).parent.is_dir()]
    for one in placed:
        (folder / one).write_text("mine")
    return placed
