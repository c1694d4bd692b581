"""One process at a time in a run directory, and who that is."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from neuron_opsd.errors import InUseError
from neuron_opsd.world.files import discard, disk_errors, write_atomic

LOCK = "LOCK"
HOLDER = "LOCK.holder"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which the kernel frees however this process ends.

    Raises:
        InUseError: If another process holds it; names process, machine and start.
        TryAgainError: If the disk is full or ails.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        with disk_errors(folder / LOCK, 0):
            lock.acquire()
    except Timeout:
        raise InUseError(
            f"{folder} is in use by {holder_text(folder)}; wait until it has ended, or "
            "choose another --out"
        ) from None
    try:
        with named_holder(folder):
            yield
    finally:
        lock.release()


@contextmanager
def named_holder(folder: Path) -> Iterator[None]:
    """Say in the folder who holds it."""
    write_atomic(folder / HOLDER, json.dumps(this_process()).encode())
    try:
        yield
    finally:
        discard(folder / HOLDER)


def this_process() -> dict[str, str | int]:
    """Return what another process is told about this one."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "start": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def holder_text(folder: Path) -> str:
    """Say who holds a folder's lock."""
    try:
        holder = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['start']}"
    except (OSError, ValueError, KeyError, TypeError):
        # The holder takes the lock a moment before it can say so.
        return "another process that has not said who it is"
