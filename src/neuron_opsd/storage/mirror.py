"""A copy of a folder on another machine, updated change by change.

Changed files come first, then the manifest, and then deletions, so the copy is always a
folder that a killed process could have left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from neuron_opsd.storage.files import remove, write_atomic
from neuron_opsd.storage.lock import HOLDER, LOCK
from neuron_opsd.storage.manifest import MANIFEST

NOT_COPIED = frozenset((LOCK, HOLDER))
"""Files that say who works in a folder."""

Marks: TypeAlias = Mapping[str, tuple[int, int, int]]
"""Inode, size and time by name; equal marks mean equal files."""


@dataclass(frozen=True, slots=True)
class Change:
    """Changes in a folder."""

    written: Mapping[str, bytes]
    """New or changed files by name."""
    deleted: frozenset[str]


class Original:
    """A folder that is copied elsewhere."""

    def __init__(self, folder: Path) -> None:
        """Begin with contents that the copy has already."""
        self.folder = folder
        self._known = marks_of(folder)

    def changes(self) -> Change:
        """Return the changes since the last call."""
        found = marks_of(self.folder)
        new = [name for name, marks in found.items() if self._known.get(name) != marks]
        deleted = frozenset(self._known.keys() - found.keys())
        self._known = found
        return Change(
            {name: (self.folder / name).read_bytes() for name in new}, deleted
        )


def repeat(folder: Path, change: Change) -> None:
    """Apply a change to a copy."""
    for name in sorted(change.written, key=lambda name: (name == MANIFEST, name)):
        write_atomic(folder / name, change.written[name])
    for name in sorted(change.deleted):
        remove(folder / name)
        for above in (folder / name).relative_to(folder).parents:
            place = folder / above
            if place != folder and place.is_dir() and not any(place.iterdir()):
                place.rmdir()


def copied(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder by name."""
    return {name: (folder / name).read_bytes() for name in marks_of(folder)}


def marks_of(folder: Path) -> Marks:
    """Return the marks of a folder's files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name not in NOT_COPIED and path.is_file():
            status = path.stat()
            marks = status.st_ino, status.st_size, status.st_mtime_ns
            found[path.relative_to(folder).as_posix()] = marks
    return found
