"""What a power cut may leave of a folder: a model of a disk that syncs when told to.

A file's bytes are safe once it was synced, and a name once its folder was. Everything
else may be there or not, in part and in any order; a draw decides. That is what POSIX
promises, which is less than any file system does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeAlias

from faults.calls import SYNCS, Call

ROOT = 0
TORN = 4096
"""Bytes at a file's end that a cut may tear off."""

Key: TypeAlias = tuple[int, str]
"""A folder's number and a name in it."""
Names: TypeAlias = dict[Key, int]
Change: TypeAlias = dict[Key, int | None]
"""Names that one call gave or took (`None`), all at once."""


@dataclass(slots=True)
class Disk:
    """Which names and bytes below a folder are safe, call by call."""

    root: Path
    live: Names = field(default_factory=dict)
    """As the process sees them."""
    safe: Names = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)
    """Changes of names since their folders were synced, oldest first."""
    bytes_safe: dict[int, bytes] = field(default_factory=dict)
    folders: set[int] = field(default_factory=lambda: {ROOT})
    inodes: dict[int, int] = field(default_factory=dict)
    """The file system's number of what there is to ours, which is used once."""
    count: int = ROOT

    def begin(self) -> None:
        """Take all that is there now for safe."""
        self.look()
        self.safe, self.pending = dict(self.live), []
        for number, path in self.paths(self.live):
            if number not in self.folders:
                self.bytes_safe[number] = path.read_bytes()

    def see(self, call: Call) -> None:
        """Take note of what happened up to a call, and of what it makes safe."""
        self.look()
        if call.name not in SYNCS:
            return
        path = Path(call.path)
        if path.is_dir():
            self.sync_names(self.number_of(path))
        elif path.is_file():
            self.bytes_safe[self.number_of(path)] = path.read_bytes()

    def look(self) -> None:
        """Note what names have come and gone since the last look."""
        now: Names = {}
        inodes: dict[int, int] = {}
        if self.root.is_dir():
            self.scan(self.root, ROOT, now, inodes)
        change: Change = {key: None for key in self.live if key not in now}
        change |= {k: number for k, number in now.items() if self.live.get(k) != number}
        if change:
            self.pending.append(change)
        self.live, self.inodes = now, inodes

    def scan(
        self, folder: Path, number: int, now: Names, inodes: dict[int, int]
    ) -> None:
        """Number all that lies below a folder."""
        with os.scandir(folder) as entries:
            for entry in entries:
                inode = entry.inode()
                if inode not in self.inodes:
                    self.count += 1
                known = self.inodes.get(inode, self.count)
                now[number, entry.name], inodes[inode] = known, known
                if entry.is_dir(follow_symlinks=False):
                    self.folders.add(known)
                    self.scan(Path(entry.path), known, now, inodes)

    def number_of(self, path: Path) -> int:
        """Return our number of something that is there."""
        return ROOT if path == self.root else self.inodes[path.stat().st_ino]

    def sync_names(self, folder: int) -> None:
        """Make the names in a folder safe."""
        left: list[Change] = []
        for change in self.pending:
            if any(parent == folder for parent, _ in change):
                give_names(self.safe, change)
            else:
                left.append(change)
        self.pending = left

    def paths(self, names: Names) -> Iterator[tuple[int, Path]]:
        """Yield all that can be reached by its names, folders before what they hold."""
        below: dict[int, list[tuple[str, int]]] = {}
        for (parent, name), number in sorted(names.items()):
            below.setdefault(parent, []).append((name, number))
        todo = [(ROOT, self.root)]
        while todo:
            folder, place = todo.pop()
            for name, number in below.get(folder, []):
                yield number, place / name
                if number in self.folders:
                    todo.append((number, place / name))

    def cut(self, draw: Random) -> None:
        """Bring the folder into a state that a power cut now could leave."""
        self.look()
        unsynced = {
            number: path.read_bytes()
            for number, path in self.paths(self.live)
            if number not in self.folders
        }
        names = dict(self.safe)
        for change in surviving(self.pending, draw):
            give_names(names, change)
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        for number, path in self.paths(names):
            if number in self.folders:
                path.mkdir()
            else:
                old = self.bytes_safe.get(number, b"")
                path.write_bytes(left_of(old, unsynced.get(number, old), draw))


def give_names(names: Names, change: Change) -> None:
    """Give and take names; what gets a new one loses its old one."""
    for key, number in change.items():
        if number is None:
            names.pop(key, None)
            continue
        for old in [old for old, known in names.items() if known == number]:
            del names[old]
        names[key] = number


def surviving(pending: list[Change], draw: Random) -> list[Change]:
    """Draw which changes of names reached the disk: the first ones, or any."""
    if draw.random() < 0.4:
        return pending[: draw.randint(0, len(pending))]
    share = draw.choice((0.0, 0.5, 0.9))
    return [change for change in pending if draw.random() < share]


def left_of(old: bytes, new: bytes, draw: Random) -> bytes:
    """Draw what is left of a file whose last bytes may not have reached the disk."""
    if old == new:
        return new
    torn = new[: max(0, len(new) - draw.randint(1, TORN))]
    blank = torn + bytes(len(new) - len(torn))
    return draw.choice((old, new, torn, blank, bytes(len(new)), b""))
