"""Tests that kill the writer, or fill its disk, at every single call it makes."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from neuron_opsd.errors import TryAgainError
from neuron_opsd.storage.caching import InChunks
from neuron_opsd.storage.codecs import json_codec, records_codec
from neuron_opsd.storage.files import (
    SET_ASIDE,
    TEMPORARY,
    remove_leftovers,
    settle_folder,
    write_atomic,
    write_folder,
)
from neuron_opsd.storage.manifest import read_manifest
from neuron_opsd.storage.run_directory import RunDirectory
from tasks import alone

INPUTS = {"pool.jsonl": "ab"}
SUM = json_codec("sum.json")
SQUARES = records_codec("squares.json", int)
WRITING = ("fsync", "open", "mkdir", "rename", "replace", "rmdir", "unlink")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Give a folder in memory where there is such a thing: nothing here need last."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with TemporaryDirectory(dir=place, prefix="neuron-opsd-") as folder:
        yield Path(folder)


class KilledError(BaseException):
    """Stands for the end of the process, so nothing may catch it."""


class Trap:
    """Counts the calls that change a disk and lets the chosen ones go wrong."""

    def __init__(self, error: BaseException, at: int, *, for_good: bool) -> None:
        self.error = error
        self.at = at
        self.for_good = for_good
        self.count = 0

    def step(self) -> None:
        """Go through one call."""
        self.count += 1
        if self.count == self.at or (self.for_good and self.count > self.at):
            raise self.error


class TornFile(io.BufferedWriter):
    """A file of which a write that goes wrong leaves the first half."""

    def __init__(self, path: Path, trap: Trap) -> None:
        super().__init__(io.FileIO(path, "xb"))
        self.trap = trap

    def write(self, data: Any) -> int:
        """Write, with a step in the middle."""
        half = len(data) // 2
        super().write(data[:half])
        self.flush()
        self.trap.step()
        return half + super().write(data[half:])


@contextmanager
def trapped(trap: Trap | None) -> Iterator[None]:
    """Let every call that changes a disk go through the trap; sync nothing."""
    names = {name: os.__dict__[name] for name in WRITING}

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if trap is not None:
                trap.step()
            return None if real is names["fsync"] else real(*arguments, **named)

        return call

    def open_file(path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if trap is None or "x" not in mode:
            return real_open(path, mode, *arguments, **named)
        trap.step()
        return TornFile(path, trap)

    real_open = io.open
    with pytest.MonkeyPatch.context() as patch:
        for name, real in names.items():
            patch.setattr(os, name, wrap(real))
        patch.setattr(io, "open", open_file)
        yield


def meets(trap: Trap, work: Callable[[], object]) -> type[BaseException] | None:
    """Do some work in the trap and return the kind of what was raised, if anything."""
    try:
        with trapped(trap):
            work()
    except (KilledError, TryAgainError) as error:
        return type(error)
    return None


def traps(
    error: BaseException, work: Callable[[], object], *, for_good: bool
) -> Iterator[Trap]:
    """Yield a trap for every call that `work` makes when nothing goes wrong."""
    scout = Trap(error, at=-1, for_good=False)
    with trapped(scout):
        work()
    assert scout.count > 3
    for at in range(1, scout.count + 1):
        yield Trap(error, at, for_good=for_good)


def no_space() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder; times are taken out of the manifest."""
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    if "manifest.json" in found:
        manifest = read_manifest(folder).model_dump()
        for output in manifest["outputs"].values():
            del output["seconds"]
        found["manifest.json"] = json.dumps(manifest).encode()
    return found


class Run:
    """A small run that counts what it computes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.num_computed = 0
        self.num_done = 0

    def squares(self, block: Sequence[int]) -> Sequence[int]:
        """Compute one block."""
        self.num_computed += 1
        return [n * n for n in block]

    def total(self) -> int:
        """Compute one output."""
        self.num_computed += 1
        return 3

    def done(self, count: int) -> None:
        """Count what is reported as done."""
        self.num_done += count

    def work(self) -> Sequence[int]:
        """Run, or go on with, the whole."""
        with RunDirectory.open(self.folder, {"seed": 0}, INPUTS) as run:
            run.once("sum", SUM, self.total)
            items = [1, 2, 3, 4, 5]
            squares = run.chunks(
                "squares", SQUARES, InChunks(items, 2, self.done), alone(self.squares)
            )
            write_folder(run.path("adapter"), fill_adapter)
            run.note("tokens", {"pool": 7})
            return squares


def fill_adapter(folder: Path) -> None:
    write_atomic(folder / "weights", b"w" * 100)
    (folder / "deep").mkdir()
    write_atomic(folder / "deep" / "config", b"c")


def fill_with(data: bytes) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        write_atomic(folder / "a", data)
        write_atomic(folder / "b", data)

    return fill


def test_a_file_killed_at_any_call_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    old, new = b"old" * 50, b"new" * 60
    seen = set()
    for trap in traps(KilledError(), lambda: write_atomic(path, new), for_good=True):
        path.write_bytes(old)
        assert meets(trap, lambda: write_atomic(path, new)) is KilledError
        seen.add(path.read_bytes())
        remove_leftovers(tmp_path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]
    assert seen == {old, new}


@pytest.mark.parametrize("for_good", [False, True])
def test_a_full_disk_at_any_call_leaves_the_old_file(
    tmp_path: Path, *, for_good: bool
) -> None:
    path = tmp_path / "a.txt"
    old, new = b"old", b"new"
    for trap in traps(no_space(), lambda: write_atomic(path, new), for_good=for_good):
        path.write_bytes(old)
        meets(trap, lambda: write_atomic(path, new))
        assert path.read_bytes() in (old, new)
        remove_leftovers(tmp_path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EIO, "the device reports an input/output error"),
    ],
)
def test_an_ailing_disk_is_named_with_the_bytes_needed(
    tmp_path: Path, code: int, reason: str
) -> None:
    path = tmp_path / "a.txt"
    trap = Trap(OSError(code, "x"), at=2, for_good=False)
    with trapped(trap), pytest.raises(TryAgainError) as caught:
        write_atomic(path, b"x" * 12_345)
    assert str(caught.value) == (
        f"could not write {path}: {reason} (it needs 12.3 kB); fix that and run the "
        "same command again; it resumes where it stopped"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_killed_at_any_call_is_the_old_or_the_new_one(
    tmp_path: Path, *, exists: bool
) -> None:
    path = tmp_path / "adapter"
    states = [{"a": data, "b": data} for data in (b"old", b"new")]
    allowed = states if exists else [{}, states[1]]

    def write() -> None:
        write_folder(path, fill_with(b"new"))

    for trap in traps(KilledError(), write, for_good=True):
        shutil.rmtree(path)
        if exists:
            write_folder(path, fill_with(b"old"))
        assert meets(trap, write) is KilledError
        settle_folder(path)
        assert contents(path) in allowed
        remove_leftovers(tmp_path)
        assert all(entry == path for entry in tmp_path.iterdir())
        write()
        assert contents(path) == states[1]


def test_a_folder_is_written_again_at_once_after_any_kill(tmp_path: Path) -> None:
    path = tmp_path / "adapter"

    def write() -> None:
        write_folder(path, fill_with(b"new"))

    for trap in traps(KilledError(), write, for_good=True):
        write_folder(path, fill_with(b"old"))
        assert meets(trap, write) is KilledError
        write()
        assert contents(path) == {"a": b"new", "b": b"new"}


@pytest.mark.parametrize("for_good", [False, True])
def test_a_full_disk_at_any_call_leaves_a_whole_folder(
    tmp_path: Path, *, for_good: bool
) -> None:
    path = tmp_path / "adapter"
    states = [{"a": data, "b": data} for data in (b"old", b"new")]

    def write() -> None:
        write_folder(path, fill_with(b"new"))

    for trap in traps(no_space(), write, for_good=for_good):
        shutil.rmtree(path)
        write_folder(path, fill_with(b"old"))
        meets(trap, write)
        remove_leftovers(tmp_path)
        assert contents(path) in states
        assert all(entry == path for entry in tmp_path.iterdir())


def test_a_run_killed_at_any_call_goes_on_to_the_same_end(tmp_path: Path) -> None:
    whole = Run(tmp_path / "whole")
    with trapped(None):
        squares = whole.work()
    scout = Run(tmp_path / "scout")
    for trap in traps(KilledError(), scout.work, for_good=True):
        run = Run(tmp_path / f"killed-{trap.at}")
        assert meets(trap, run.work) is KilledError
        with trapped(None):
            assert run.work() == squares
        assert contents(run.folder) == contents(whole.folder)
        names = [path.name for path in run.folder.rglob("*")]
        assert not any(TEMPORARY.fullmatch(n) or SET_ASIDE.fullmatch(n) for n in names)
        assert run.num_computed <= whole.num_computed + 1
        shutil.rmtree(run.folder)


@pytest.mark.parametrize("for_good", [False, True])
def test_a_run_whose_disk_is_full_at_any_call_goes_on_to_the_same_end(
    tmp_path: Path, *, for_good: bool
) -> None:
    whole = Run(tmp_path / "whole")
    with trapped(None):
        whole.work()
    scout = Run(tmp_path / "scout")
    stops = 0
    for trap in traps(no_space(), scout.work, for_good=for_good):
        run = Run(tmp_path / f"full-{trap.at}")
        stops += meets(trap, run.work) is TryAgainError
        with trapped(None):
            run.work()
        assert contents(run.folder) == contents(whole.folder)
        shutil.rmtree(run.folder)
    assert stops > 50
