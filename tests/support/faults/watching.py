"""Which call of a run goes wrong, and how."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from faults.calls import (
    ALL,
    CHANGING,
    OPENS,
    SYNCS,
    WRITES,
    Call,
    data_of,
    read_call,
)
from faults.disk import Disk
from faults.seccomp import Notice, borrow, go_ahead, pretend, refuse

Kind: TypeAlias = Literal["kill", "torn", "short", "error"]
"""Killed before a call, or in the middle of a write; a write that takes half of its
bytes; a call that returns an error."""

NAMES = {"rename", "renameat", "renameat2", "mkdir", "mkdirat", "link", "linkat"}
REMOVES = {"unlink", "unlinkat", "rmdir"}
READS = {"read", "pread64", "getdents64", "newfstatat", "statx"}

ERRORS: Mapping[int, frozenset[str]] = {
    errno.ENOSPC: frozenset(
        {*WRITES, *OPENS, *SYNCS, *NAMES, "ftruncate", "fallocate", "close"}
    ),
    errno.EDQUOT: frozenset(
        {*WRITES, *OPENS, *SYNCS, *NAMES, "ftruncate", "fallocate", "close"}
    ),
    errno.EIO: frozenset(
        {*WRITES, *OPENS, *SYNCS, *NAMES, *REMOVES, *READS, "ftruncate", "close"}
    ),
    errno.EROFS: frozenset({*WRITES, *OPENS, *NAMES, *REMOVES, "ftruncate", "chmod"}),
    errno.EMFILE: frozenset(OPENS),
    errno.ENFILE: frozenset(OPENS),
    errno.EACCES: frozenset({*OPENS, *NAMES, *REMOVES, "chmod", "newfstatat"}),
    errno.EPERM: frozenset({*OPENS, *NAMES, *REMOVES, "chmod", "fchmod"}),
    errno.ENOLCK: frozenset({"flock"}),
    errno.ENODEV: frozenset({"mmap"}),
    errno.ENOMEM: frozenset({"mmap"}),
}
"""Which calls can return which error."""

NEEDS_A_CHANGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors that a file opened to be read never meets."""


@dataclass(slots=True)
class Watch:
    """Counts the calls on what lies below a folder; one of them goes wrong."""

    root: str
    at: int = 0
    """Which call, counted from 1; none where it is 0."""
    kind: Kind = "kill"
    code: int = 0
    """Number of the error that is returned."""
    for_good: bool = False
    """Whether every later call that can return it returns the same error."""
    looks_too: bool = False
    """Whether calls that change nothing are counted, too."""
    disk: Disk | None = None
    """Told of every call that changes something."""
    log: list[Call] = field(default_factory=list)
    fired: str = ""
    """The call that went wrong, for the reader."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The kernel's numbers of the calls to be judged."""
        return tuple(ALL if self.looks_too else CHANGING)

    def judge(self, listener: int, notice: Notice) -> None:
        """Let a call happen, or go wrong."""
        call = read_call(notice)
        if call is None or not self.counts(call):
            go_ahead(listener, notice)
            return
        self.log.append(call)
        if self.disk is not None:
            self.disk.see(call)
        now = len(self.log) == self.at
        again = bool(self.fired) and self.for_good and can_return(call, self.code)
        if not (now or again):
            go_ahead(listener, notice)
            return
        self.fired = self.fired or f"{call.name} {call.path.removeprefix(self.root)}"
        self.spoil(listener, call)

    def counts(self, call: Call) -> bool:
        """Say whether a call is one of those that are counted."""
        below = call.path == self.root or call.path.startswith(self.root + "/")
        return below and (self.looks_too or call.changes)

    def spoil(self, listener: int, call: Call) -> None:
        """Let a call go wrong."""
        if self.kind == "error":
            refuse(listener, call.notice, self.code)
            return
        if self.kind == "short":
            pretend(listener, call.notice, write_half(call))
            return
        if self.kind == "torn":
            write_half(call)
        os.kill(call.notice.pid, signal.SIGKILL)


def can_return(call: Call, code: int) -> bool:
    """Say whether a call can return an error, as far as anybody knows."""
    if not call.changes and (code in NEEDS_A_CHANGE or call.name == "close"):
        return False
    return call.name in ERRORS[code]


def write_half(call: Call) -> int:
    """Write the first half of what a call is about to write, in its place.

    Returns:
        Number of bytes written, at least one.
    """
    data = data_of(call)
    half = data[: max(1, len(data) // 2)]
    ours = borrow(call.notice.pid, call.notice.arguments[0])
    try:
        if call.name == "pwrite64":
            return os.pwrite(ours, half, call.notice.arguments[3])
        return os.write(ours, half)
    finally:
        os.close(ours)
