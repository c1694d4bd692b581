"""The operating system's file errors as the project's, with advice in one line."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from neuron_opsd.documents import first_line
from neuron_opsd.errors import ConfigError, DataError, NeuronOpsdError, TryAgainError

PASSING: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the device reports an input/output error",
    errno.EMFILE: "this process may open no more files",
    errno.ENFILE: "this machine may open no more files",
    errno.ENOMEM: "memory ran out",
    errno.EFBIG: "the file would be larger than this process or this disk allows",
    errno.ESTALE: "the network file system lost it",
    errno.ENOTCONN: "the file system is no longer connected",
}
"""Temporary faults: the same command works later."""

LASTING: Final = {
    errno.EACCES: "permission is denied",
    errno.EPERM: "the file system does not allow it",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.EISDIR: "it is a folder",
    errno.EEXIST: "something else of that name is in the way",
    errno.ENOTEMPTY: "something else of that name is in the way",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EILSEQ: "the file system cannot hold such a name",
    errno.ELOOP: "it is a link, or one that leads to itself",
    errno.ENOLCK: "it grants no locks",
    errno.ENOSYS: "the file system cannot do that",
    errno.EOPNOTSUPP: "the file system cannot do that",
}
"""Lasting faults: choose another place."""

GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
MAKE_AGAIN: Final = "; delete it, and the command that started the run creates it again"
UNITS = ("bytes", "kB", "MB", "GB", "TB")


def reason_of(error: OSError) -> str:
    """Say why the operating system refused."""
    code = error.errno or 0
    return PASSING.get(code) or LASTING.get(code) or error.strerror or first_line(error)


@contextmanager
def disk_errors(path: Path, needed: int | Path) -> Iterator[None]:
    """Turn disk errors in the block into errors with advice and the size needed.

    `needed` is bytes, or a path whose size says how far writing got.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # from the terminal: no file raises these
        raise writing_error(path, needed, error) from error


def writing_error(path: Path, needed: int | Path, error: OSError) -> NeuronOpsdError:
    """Return the error for a failed write."""
    reason = reason_of(error)
    if error.errno in LASTING:
        return ConfigError(f"cannot write {path}: {reason}; choose another place")
    return TryAgainError(
        f"could not write {path}: {reason} ({size_text(needed)}); fix that and run the "
        "same command again; it resumes where it stopped"
    )


@contextmanager
def reading(path: Path, advice: str = "") -> Iterator[None]:
    """Turn disk errors into a `DataError` about a file."""
    try:
        yield
    except OSError as error:
        reason = "it is gone" if error.errno in GONE else reason_of(error)
        if error.errno in PASSING:
            raise TryAgainError(
                f"could not read {path}: {reason}; fix that and run the same command "
                "again"
            ) from error
        raise DataError(f"cannot read {path}: {reason}{advice}") from error


def read_plain(path: Path, advice: str = "") -> bytes:
    """Read a plain file; never blocks, as a named pipe would."""
    with reading(path, advice):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "it is a folder" if stat.S_ISDIR(mode) else "it is not a plain file"
            raise DataError(f"cannot read {path}: {what}{advice}")
        return path.read_bytes()


def size_text(needed: int | Path) -> str:
    """Say how many bytes are needed, exactly or at least."""
    if isinstance(needed, int):
        return f"it needs {readable_bytes(needed)}"
    try:
        return f"it needs more than {readable_bytes(size_of(needed))}"
    except OSError:
        return "how much it needs is unknown"


def size_of(path: Path) -> int:
    """Return the bytes of a file or folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def readable_bytes(count: int) -> str:
    """Write bytes for people: ``12.3 MB``."""
    amount = float(count)
    for unit in UNITS[:-1]:
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} {UNITS[-1]}"
