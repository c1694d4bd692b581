"""Stopping on a signal, and at once on a second one.

The first signal unwinds the program like a keyboard interrupt; training finishes the
current step first. The second ends the process at once: what a run keeps is whole at
any time. So does the first before anything has begun, since an import can lose an
interrupt. Signals close together count as one: `timeout`, batch systems and wrappers
signal both the process and its group.

There is one `STOPPING`, because signals belong to the process.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

SIGNALS: Final = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)  # Windows has the first two
)
"""Ctrl-C; what batch systems and containers send, maybe ahead of time; a closed
terminal."""

TOGETHER: Final = 0.3
"""Seconds within which signals count as one."""
STDERR: Final = 2
SHOW_CURSOR: Final = "\x1b[?25h"
RESUMES: Final = "stopped; the same command resumes"


def status_of(number: int) -> int:
    """Return the exit status after a signal, as in shells."""
    return 128 + number


class StoppedError(KeyboardInterrupt):
    """A signal arrived; unwinds like a keyboard interrupt."""


class Stopping:
    """Whether this process was asked to stop, and when it may."""

    def __init__(self) -> None:
        self.number = 0
        """Of the signal; 0 without one."""
        self.has_begun = False
        """Whether there is anything to unwind."""
        self.waits = False
        """Whether a step is in progress."""
        self.unwinds = False
        self.speaks = True
        """Whether it prints; only one of several processes does."""

    @property
    def status(self) -> int:
        """Exit status of the process."""
        return status_of(self.number or signal.SIGINT)

    def take(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal in another thread while the main one cannot."""
        del frame
        self.number = self.number or number
        if not self.has_begun:
            self.end(RESUMES)
        if not self.unwinds:
            self.check()

    def hear(self, number: int, *, again: bool = False) -> None:
        """Handle a signal in another thread."""
        self.number = self.number or number
        if again or not self.has_begun:
            self.end(RESUMES)
        if self.waits and self.speaks:
            say("stopping after this step; stop again to end at once")

    def end(self, text: str) -> None:
        """End the process with a line, unwinding nothing."""
        if self.speaks:
            say(text)
        os._exit(self.status)

    @contextmanager
    def after_the_step(self) -> Iterator[None]:
        """Delay a signal until the caller checks `number`."""
        self.waits = True
        try:
            yield
        finally:
            self.waits = False

    def check(self) -> None:
        """Stop if a signal waits, or its interrupt got lost."""
        if self.number and not self.waits:
            self.unwinds = True
            raise StoppedError


STOPPING: Final = Stopping()


def say(text: str) -> None:
    """Write a line to stderr, even after a partial line."""
    cursor = SHOW_CURSOR if os.isatty(STDERR) else ""
    with suppress(OSError):  # the terminal may be gone
        os.write(STDERR, f"{cursor}neuron-opsd: {text}\n".encode())


@contextmanager
def stoppable() -> Iterator[None]:
    """Let signals stop the block, in the main thread; elsewhere none arrive.

    Signals that the parent process ignored, as `nohup` does, stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
    try:
        with heard():
            before = {number: signal.signal(number, STOPPING.take) for number in taken}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
    finally:
        # The next training in this process starts without a stop.
        vars(STOPPING).update(vars(Stopping()))


@contextmanager
def heard() -> Iterator[None]:
    """Have a thread handle signals as soon as they arrive."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    listener = threading.Thread(target=listen, args=(reading,), daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)  # the thread ends after the last signal
        listener.join()


def listen(reading: int) -> None:
    """Handle every signal whose number arrives."""
    first: float | None = None
    with os.fdopen(reading, "rb", buffering=0) as numbers:
        while number := numbers.read(1):
            if number[0] not in SIGNALS:
                continue
            now = time.monotonic()
            if first is None:
                first = now
                STOPPING.hear(number[0])
            elif now - first > TOGETHER:
                STOPPING.hear(number[0], again=True)
