"""What a system call does to the files below a folder, read out of who makes it."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from faults.seccomp import Notice

AT_FDCWD = 0xFFFFFF9C
PAGE = 4096

CHANGING: Mapping[int, str] = {
    1: "write",
    18: "pwrite64",
    20: "writev",
    2: "open",
    257: "openat",
    74: "fsync",
    75: "fdatasync",
    76: "truncate",
    77: "ftruncate",
    82: "rename",
    83: "mkdir",
    84: "rmdir",
    85: "creat",
    86: "link",
    87: "unlink",
    88: "symlink",
    90: "chmod",
    91: "fchmod",
    258: "mkdirat",
    263: "unlinkat",
    264: "renameat",
    265: "linkat",
    285: "fallocate",
    316: "renameat2",
    73: "flock",
    326: "copy_file_range",
}
"""By the kernel's numbers on x86-64. Of `open` only what may write."""

LOOKING: Mapping[int, str] = {
    0: "read",
    17: "pread64",
    3: "close",
    9: "mmap",
    217: "getdents64",
    262: "newfstatat",
    332: "statx",
}
"""What changes nothing, but may fail as well."""

ALL = {**CHANGING, **LOOKING}
"""`open` and `openat` stand for reading, too."""

WITH_DESCRIPTOR = {
    "write",
    "pwrite64",
    "writev",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fchmod",
    "fallocate",
    "flock",
    "read",
    "pread64",
    "close",
    "getdents64",
}
"""First argument is an open file."""
WITH_FOLDER = {
    "openat",
    "mkdirat",
    "unlinkat",
    "renameat",
    "renameat2",
    "newfstatat",
    "statx",
}
"""First argument is an open folder, the second a path below it."""
WRITES = {"write", "pwrite64", "writev"}
SYNCS = {"fsync", "fdatasync"}
OPENS = {"open", "openat", "creat"}


@dataclass(frozen=True, slots=True)
class Call:
    """A system call on one file or folder."""

    name: str
    path: str
    """Absolute; of a rename or link the old one."""
    changes: bool
    """Whether it could change a disk."""
    notice: Notice


def read_call(notice: Notice) -> Call | None:
    """Say what a call is about; nothing where that is gone or was never a path."""
    name = ALL[notice.number]
    try:
        path = path_of(name, notice)
    except (OSError, UnicodeError):
        return None
    return Call(name, path, can_change(name, notice), notice)


def can_change(name: str, notice: Notice) -> bool:
    """Say whether a call can change a disk; to close what was written can, too."""
    if name == "close":
        return is_open_to_write(notice)
    return notice.number in CHANGING and not (name in OPENS and reads(name, notice))


def is_open_to_write(notice: Notice) -> bool:
    """Say whether the file that a call is about was opened to be written."""
    place = Path(f"/proc/{notice.pid}/fdinfo/{notice.arguments[0]}")
    try:
        lines = place.read_text().splitlines()
    except OSError:  # who asked has died meanwhile
        return False
    flags = next(line.split()[1] for line in lines if line.startswith("flags:"))
    return bool(int(flags, 8) & os.O_ACCMODE)


def path_of(name: str, notice: Notice) -> str:
    """Return the absolute path that a call is about.

    Raises:
        OSError: If who made it, or the file, is gone.
    """
    first, second = notice.arguments[:2]
    if name == "mmap":
        return opened(notice.pid, notice.arguments[4])
    if name == "copy_file_range":
        return opened(notice.pid, notice.arguments[2])
    if name in WITH_DESCRIPTOR:
        return opened(notice.pid, first)
    if name in WITH_FOLDER or name == "linkat":
        given = text_at(notice.pid, second)
        base = "" if given.startswith("/") else folder_of(notice.pid, first)
        return os.path.normpath(os.path.join(base, given))  # noqa: PTH118 - may be ""
    given = text_at(notice.pid, first)
    return os.path.normpath(os.path.join(folder_of(notice.pid, AT_FDCWD), given))  # noqa: PTH118


def folder_of(pid: int, descriptor: int) -> str:
    """Return the path of an open folder, or of the working directory."""
    if descriptor & 0xFFFFFFFF == AT_FDCWD:
        return os.readlink(f"/proc/{pid}/cwd")  # noqa: PTH115 - a text, many times
    return opened(pid, descriptor)


def opened(pid: int, descriptor: int) -> str:
    """Return the path of what a process has open; `OSError` where it is none."""
    return os.readlink(f"/proc/{pid}/fd/{descriptor & 0xFFFFFFFF}")  # noqa: PTH115


def text_at(pid: int, address: int) -> str:
    """Return the text that stands in a process's memory."""
    data = b""
    while b"\0" not in data and len(data) < PAGE:
        size = PAGE - (address + len(data)) % PAGE
        data += memory_at(pid, address + len(data), size)
    return os.fsdecode(data.partition(b"\0")[0])


def memory_at(pid: int, address: int, size: int) -> bytes:
    """Return bytes of a process's memory."""
    descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        return os.pread(descriptor, size, address)
    finally:
        os.close(descriptor)


def reads(name: str, notice: Notice) -> bool:
    """Say whether something is opened to be read alone."""
    if name == "creat":
        return False
    flags = notice.arguments[2 if name == "openat" else 1]
    return not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)


def data_of(call: Call) -> bytes:
    """Return what a call is about to write."""
    pid, (_, address, size) = call.notice.pid, call.notice.arguments[:3]
    if call.name != "writev":
        return memory_at(pid, address, size)
    table = memory_at(pid, address, 16 * size)
    return b"".join(memory_at(pid, *pair) for pair in struct.iter_unpack("<QQ", table))
