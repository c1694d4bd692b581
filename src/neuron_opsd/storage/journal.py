"""A file of findings, one per line, kept until a larger result replaces it.

A line holds a key, a value and the hash of both. A killed process leaves all its lines,
and at most a torn one at the end, which is not read. A power cut can lose the last
seconds, since answers come faster than a disk can sync.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Protocol

from neuron_opsd.errors import DataError
from neuron_opsd.storage.disk import disk_errors, read_plain
from neuron_opsd.storage.files import make_folder, refuse_special, sync

JOURNAL: Final = ".journal"
SYNC_EVERY: Final = 1.0
"""Seconds until lines are on the disk, even if the machine fails."""


class Notes(Protocol):
    """JSON values by key."""

    def get(self, key: str) -> Any:
        """Return a key's value, or `None`."""

    def add(self, key: str, value: Any) -> None:
        """Keep a value, even if the process is killed right after."""


class Journal:
    """Notes in a file."""

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self.path = path
        self.values, num_bytes = kept_lines(path, warn)
        self._whole = num_bytes
        """Bytes of whole lines."""
        self._synced = -SYNC_EVERY

    def get(self, key: str) -> Any:
        """Return a key's value, or `None`."""
        return self.values.get(key)

    def add(self, key: str, value: Any) -> None:
        """Keep a value for the next process, even if this one is killed."""
        text = json.dumps([key, value]).encode()
        line = hashlib.sha256(text).hexdigest().encode() + b" " + text + b"\n"
        is_new = not self.path.exists()
        with disk_errors(self.path, len(line)):
            refuse_special(self.path)
            make_folder(self.path.parent)
            with self.path.open("ab") as file:
                file.truncate(self._whole)
                file.write(line)
                file.flush()
                if perf_counter() - self._synced >= SYNC_EVERY:
                    os.fsync(file.fileno())
                    self._synced = perf_counter()
            if is_new:
                sync(self.path.parent)
        self._whole += len(line)
        self.values[key] = value


def kept_lines(path: Path, warn: Callable[[str], None]) -> tuple[dict[str, Any], int]:
    """Return the values and bytes of the whole lines before any damage."""
    found: dict[str, Any] = {}
    num_bytes = 0
    if not os.path.lexists(path):
        return found, num_bytes
    try:
        lines = read_plain(path).splitlines(keepends=True)
    except DataError as error:
        warn(f"{error}; what it held is computed again")
        return found, num_bytes
    for line in lines:
        digest, _, text = line.rstrip(b"\n").partition(b" ")
        if hashlib.sha256(text).hexdigest().encode() != digest or line[-1:] != b"\n":
            if line[-1:] == b"\n":
                warn(f"{path} was changed or damaged; the rest is computed again")
            break
        key, value = json.loads(text)
        found[key] = value
        num_bytes += len(line)
    return found, num_bytes
