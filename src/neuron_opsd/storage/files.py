"""Atomic writing of files and folders, whenever the process is killed.

Each is filled under a temporary name next to its target, made durable and only then
renamed. What a killed process leaves under temporary names is never read;
`remove_leftovers` deletes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from neuron_opsd.errors import ConfigError
from neuron_opsd.storage.disk import disk_errors

OWN = "neuron-opsd"
"""Part of all temporary names, to tell them from other files."""
TEMPORARY = re.compile(rf"\.(.+)\.[0-9a-f]{{8}}\.{OWN}\.tmp", re.DOTALL)
SET_ASIDE = re.compile(rf"\.(.+)\.{OWN}\.old", re.DOTALL)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file, creating its folder if needed.

    At every moment, also after a power cut, `path` holds its old contents or all of
    `data`.
    """
    write_file(path, lambda temporary: put(temporary, data), len(data))


def write_file(
    path: Path, fill: Callable[[Path], None], num_bytes: int | None = None
) -> None:
    """Write a file with `fill`; the size is for messages."""
    refuse_special(path)
    temporary = temporary_name(path)
    try:
        with disk_errors(path, temporary if num_bytes is None else num_bytes):
            make_folder(path.parent)
            fill(temporary)
            sync(temporary)
            os.replace(temporary, path)  # noqa: PTH105 - one call to shim in tests
            sync(path.parent)
    finally:
        discard(temporary)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def refuse_special(path: Path) -> None:
    """Refuse to replace a device, named pipe or socket."""
    with disk_errors(path, 0):
        special = path.exists() and not (path.is_file() or path.is_dir())
    if special:
        raise ConfigError(
            f"cannot write {path}: it is a device, a named pipe or a socket; choose "
            "another place"
        )


def write_folder(
    path: Path, fill: Callable[[Path], None], num_bytes: int | None = None
) -> None:
    """Write a folder with `fill`, which gets an empty temporary folder.

    A folder at `path` is set aside, replaced and then deleted. A killed process leaves
    the old or the new one, once `settle_folder` has run; readers must call that first
    (opening a run directory does).
    """
    temporary = temporary_name(path)
    try:
        with disk_errors(path, temporary if num_bytes is None else num_bytes):
            make_folder(path.parent)
            temporary.mkdir()
            fill(temporary)
            open_to_same(temporary)
            sync_tree(temporary)
            settle_folder(path)
            put_in_place(temporary, path)
    finally:
        discard(temporary)


def open_to_same(folder: Path) -> None:
    """Give a new folder's files its permissions.

    Libraries ignore the umask and make files private.
    """
    mode = stat.S_IMODE(folder.stat().st_mode) & 0o666
    for path in folder.rglob("*"):
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)


def put_in_place(folder: Path, path: Path) -> None:
    """Rename a finished folder to its place, setting aside an older one."""
    try:
        if path.exists():
            path.rename(set_aside_name(path))
        folder.rename(path)
        sync(path.parent)
    finally:
        settle_folder(path)


def settle_folder(path: Path) -> None:
    """Repair a folder whose replacement was interrupted.

    The old folder is restored if the new one did not reach its place, else deleted.
    """
    aside = set_aside_name(path)
    if not aside.exists():
        return
    if path.exists():
        discard(aside)
    else:
        aside.rename(path)
        sync(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left in a folder, at any depth.

    Call it only while no other process can be writing there.
    """
    for entry in sorted(folder.iterdir()):
        aside = SET_ASIDE.fullmatch(entry.name)
        if TEMPORARY.fullmatch(entry.name):
            discard(entry)
        elif aside:
            settle_folder(folder / aside[1])
        elif entry.is_dir() and not entry.is_symlink():
            remove_leftovers(entry)


def is_leftover_of(name: str, entry: str) -> bool:
    """Return whether a name is a file's temporary name."""
    found = TEMPORARY.fullmatch(entry)
    return found is not None and found[1] == name


def sha256_file(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def temporary_name(path: Path) -> Path:
    """Return an unused name next to `path`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{OWN}.tmp")


def set_aside_name(path: Path) -> Path:
    """Return where a folder stays during its replacement."""
    return path.with_name(f".{path.name}.{OWN}.old")


def put(path: Path, data: bytes) -> None:
    """Write a new file's bytes."""
    with path.open("xb") as file:
        file.write(data)


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync folders; their renames are durable.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Flush a folder and its contents to the disk."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            sync_tree(entry)
        else:
            sync(entry)
    sync(folder)


def discard(path: Path) -> None:
    """Delete a file or folder, if it exists and the disk allows."""
    with contextlib.suppress(OSError):
        remove(path)


def remove(path: Path) -> None:
    """Delete a file or folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
