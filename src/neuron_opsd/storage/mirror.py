"""A copy of a folder on another machine, brought up to date change by change.

What one process writes in a folder another one repeats in its own: files that changed,
the manifest after all others, and only then what is deleted. So the copy is at any time
a folder that could have been left by a process that was killed.
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
"""What says who works in a folder."""

Marks: TypeAlias = Mapping[str, tuple[int, int, int]]
"""What tells whether a file is the same: inode, size and time, by name."""


@dataclass(frozen=True, slots=True)
class Change:
    """What happened in a folder."""

    written: Mapping[str, bytes]
    """Files that are new or changed, by name."""
    deleted: frozenset[str]


class Original:
    """A folder that is copied elsewhere."""

    def __init__(self, folder: Path) -> None:
        """Begin with what is there, which the copy has already."""
        self.folder = folder
        self._known = marks_of(folder)

    def changes(self) -> Change:
        """Return what happened since this was asked last."""
        found = marks_of(self.folder)
        new = [name for name, marks in found.items() if self._known.get(name) != marks]
        deleted = frozenset(self._known.keys() - found.keys())
        self._known = found
        return Change(
            {name: (self.folder / name).read_bytes() for name in new}, deleted
        )


def repeat(folder: Path, change: Change) -> None:
    """Do to a copy what was done to the folder."""
    for name in sorted(change.written, key=lambda name: (name == MANIFEST, name)):
        write_atomic(folder / name, change.written[name])
    for name in sorted(change.deleted):
        remove(folder / name)
        for above in (folder / name).relative_to(folder).parents:
            place = folder / above
            if place != folder and place.is_dir() and not any(place.iterdir()):
                place.rmdir()


def copied(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder, by name."""
    return {name: (folder / name).read_bytes() for name in marks_of(folder)}


def marks_of(folder: Path) -> Marks:
    """Return what tells whether a folder's files are the same."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name not in NOT_COPIED and path.is_file():
            status = path.stat()
            marks = status.st_ino, status.st_size, status.st_mtime_ns
            found[path.relative_to(folder).as_posix()] = marks
    return found
