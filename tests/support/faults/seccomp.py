"""A child whose system calls wait for its parent's word: seccomp's user notification.

The kernel itself hands each call over, so calls that no C library sees are there as
well: safetensors renames its files by bare system calls, which a preloaded library
misses. Nothing is compiled, no privilege is needed, and children of the child are seen
too. See seccomp_unotify(2); Linux 5.5 or newer on x86-64.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import select
import socket
import struct
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

PR_SET_NO_NEW_PRIVS = 38
NR_SECCOMP = 317
NR_PIDFD_GETFD = 438
SET_MODE_FILTER = 1
NEW_LISTENER = 8
CONTINUE = 1
RECEIVE = 0xC0502100
"""ioctl SECCOMP_IOCTL_NOTIF_RECV."""
SEND = 0xC0182101
"""ioctl SECCOMP_IOCTL_NOTIF_SEND."""
NOTICE = struct.Struct("<QIIiIQ6Q")
"""struct seccomp_notif: id, pid, flags, then number, arch, pointer and arguments."""
ANSWER = struct.Struct("<QqiI")
"""struct seccomp_notif_resp: id, value, error, flags."""

LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
"""The three instructions of classic BPF that the filter is made of."""
ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000
OFFSET_OF_NUMBER, OFFSET_OF_ARCH, X86_64 = 0, 4, 0xC000003E


class Instruction(ctypes.Structure):
    """struct sock_filter."""

    _fields_ = (
        ("code", ctypes.c_ushort),
        ("if_true", ctypes.c_ubyte),
        ("if_false", ctypes.c_ubyte),
        ("value", ctypes.c_uint),
    )


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (
        ("length", ctypes.c_ushort),
        ("instructions", ctypes.POINTER(Instruction)),
    )


@dataclass(frozen=True, slots=True)
class Notice:
    """A system call that waits."""

    key: int
    pid: int
    """Of the thread that made it."""
    number: int
    arguments: tuple[int, ...]


def supervise(
    child: Callable[[], None],
    numbers: Iterable[int],
    judge: Callable[[int, Notice], None],
) -> int:
    """Do some work in a child whose calls of some kinds are judged before they happen.

    Args:
        child: Begins the work, and never returns.
        numbers: Of the system calls.
        judge: Takes the listener and a notice, and answers it or kills who asks.

    Returns:
        How the child ended: its exit status, or minus the signal's number.
    """
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # Other threads may run: the child does nothing that they could hold up.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            hand_over(theirs, tuple(numbers))
            child()
        finally:
            traceback.print_exc()
            os._exit(1)
    theirs.close()
    _, (listener,), _, _ = socket.recv_fds(ours, 1, 1)
    ours.close()
    try:
        listen(listener, judge)
    finally:
        os.close(listener)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def hand_over(link: socket.socket, numbers: tuple[int, ...]) -> None:
    """Let this process's calls be judged from now on; send the listener away."""
    listener = install(numbers)
    socket.send_fds(link, [b"x"], [listener])
    os.close(listener)
    link.close()


def listen(listener: int, judge: Callable[[int, Notice], None]) -> None:
    """Judge calls until nobody is left who could make one."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        ((_, event),) = poll.poll()
        if not event & select.POLLIN:
            return
        data = bytearray(NOTICE.size)
        try:
            fcntl.ioctl(listener, RECEIVE, data)
        except FileNotFoundError:  # who asked has died meanwhile
            continue
        key, pid, _, number, _, _, *arguments = NOTICE.unpack(data)
        judge(listener, Notice(key, pid, number, tuple(arguments)))


def install(numbers: tuple[int, ...]) -> int:
    """Make calls of these numbers wait for an answer; return where they are told.

    Raises:
        OSError: If the kernel does not allow it.
    """
    count = len(numbers)
    lines = [
        Instruction(LOAD, 0, 0, OFFSET_OF_ARCH),
        Instruction(JUMP_IF_EQUAL, 0, count + 1, X86_64),
        Instruction(LOAD, 0, 0, OFFSET_OF_NUMBER),
        *(
            Instruction(JUMP_IF_EQUAL, count - place, 0, number)
            for place, number in enumerate(numbers)
        ),
        Instruction(RETURN, 0, 0, ALLOW),
        Instruction(RETURN, 0, 0, NOTIFY),
    ]
    program = Program(len(lines), (Instruction * len(lines))(*lines))
    library().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return checked(
        library().syscall(
            NR_SECCOMP, SET_MODE_FILTER, NEW_LISTENER, ctypes.byref(program)
        )
    )


def go_ahead(listener: int, notice: Notice) -> None:
    """Let a call happen."""
    answer(listener, ANSWER.pack(notice.key, 0, 0, CONTINUE))


def refuse(listener: int, notice: Notice, code: int) -> None:
    """Let a call fail with an error number."""
    answer(listener, ANSWER.pack(notice.key, 0, -code, 0))


def pretend(listener: int, notice: Notice, value: int) -> None:
    """Let a call return a value without happening."""
    answer(listener, ANSWER.pack(notice.key, value, 0, 0))


def answer(listener: int, data: bytes) -> None:
    """Send an answer, which nobody hears who has died meanwhile."""
    try:
        fcntl.ioctl(listener, SEND, data)
    except FileNotFoundError:
        return


def borrow(pid: int, descriptor: int) -> int:
    """Return a descriptor of ours for what another process has open.

    Raises:
        OSError: If the kernel does not allow it.
    """
    process = os.pidfd_open(pid)
    try:
        return checked(library().syscall(NR_PIDFD_GETFD, process, descriptor, 0))
    finally:
        os.close(process)


def checked(result: int) -> int:
    """Return what a call returned.

    Raises:
        OSError: If it failed.
    """
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


@cache
def library() -> ctypes.CDLL:
    """Return the C library."""
    return ctypes.CDLL(None, use_errno=True)


@cache
def why_not() -> str:
    """Say why calls cannot be supervised here; nothing where they can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"not made for {sys.platform} on {platform.machine()}"
    seen: list[int] = []

    def judge(listener: int, notice: Notice) -> None:
        seen.append(notice.number)
        pretend(listener, notice, 7)

    try:
        status = supervise(lambda: os._exit(os.getppid()), (110,), judge)
    except (OSError, ValueError) as error:
        return f"the kernel does not hand over system calls: {error}"
    return "" if (status, seen) == (7, [110]) else "system calls are not handed over"
