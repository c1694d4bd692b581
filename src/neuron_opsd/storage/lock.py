"""One process at a time per run directory, and which one."""

from __future__ import annotations

import errno
import json
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from filelock import BaseFileLock, FileLock, Timeout

from neuron_opsd.documents import DocumentError, parse_table
from neuron_opsd.errors import ConfigError, InUseError, NeuronOpsdError
from neuron_opsd.storage.disk import read_plain, reason_of, writing_error
from neuron_opsd.storage.files import discard, write_atomic
from neuron_opsd.storage.output_paths import FILE, kind_of

LOCK = "LOCK"
HOLDER = "LOCK.holder"
NO_FLOCK = "flock not supported"
"""filelock's warning of another kind of lock."""
NAMED_WITHIN: Final = 1.0
"""Seconds to wait to learn a lock's holder."""
LOCKLESS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""File system errors that mean no locks."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which the kernel frees however this process ends.

    Raises:
        InUseError: If another process holds it.
        ConfigError: If the folder cannot be locked.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    take(lock, folder)
    try:
        with named_holder(folder):
            yield
    finally:
        lock.release()


@contextmanager
def named_holder(folder: Path) -> Iterator[None]:
    """Record the holder in the folder."""
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "start": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_atomic(folder / HOLDER, json.dumps(holder).encode())
    try:
        yield
    finally:
        discard(folder / HOLDER)


def take(lock: BaseFileLock, folder: Path) -> None:
    """Take a folder's lock: the doorway of filelock."""
    path = folder / LOCK
    found = kind_of(path)
    if found not in ("", FILE):
        raise ConfigError(
            f"the lock {path} is {found}, not a file; remove it if no process works in "
            f"{folder}, or choose another folder"
        )
    try:
        with native_locks():
            lock.acquire()
    except Timeout:
        raise InUseError(
            f"{folder} is in use by {holder_text(folder)}; wait until it has ended, or "
            "choose another --out"
        ) from None
    except (UserWarning, NotImplementedError) as error:
        raise ConfigError(lockless(folder, "it has no flock")) from error
    except OSError as error:
        if error.errno in LOCKLESS:
            raise ConfigError(lockless(folder, reason_of(error))) from error
        raise writing_error(path, 0, error) from error


@contextmanager
def native_locks() -> Iterator[None]:
    """Make filelock raise a `UserWarning` on file systems without locks.

    Its fallback, a lock file, would outlive a killed process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=NO_FLOCK)
        yield


def lockless(folder: Path, reason: str) -> str:
    """Say that a file system has no locks, and what to do."""
    return (
        f"the file system of {folder} cannot lock files ({reason}), so two processes "
        "could spoil each other's work; choose a folder on another file system"
    )


def holder_text(folder: Path) -> str:
    """Name the holder of a folder's lock.

    A new holder is named a moment after locking; until then the file is missing or
    names a killed process.
    """
    end = monotonic() + NAMED_WITHIN
    while (holder := living_holder(folder)) is None and monotonic() < end:
        sleep(NAMED_WITHIN / 50)
    return holder or "another process that has not said who it is"


def living_holder(folder: Path) -> str | None:
    """Name the process working in a folder, if maybe alive."""
    try:
        holder = parse_table(read_plain(folder / HOLDER))
    except (NeuronOpsdError, DocumentError):
        return None
    pid, host, start = (holder.get(key) for key in ("pid", "host", "start"))
    if not isinstance(pid, int) or pid <= 0 or None in (host, start):
        return None
    if host == socket.gethostname() and not alive(pid):
        return None
    return f"process {pid} on {host} since {start}"


def alive(pid: int) -> bool:
    """Return whether a process of this machine exists."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
