"""Being asked to stop by a signal: once, and then once more.

The first signal unwinds the program as an interrupt from the keyboard does; while steps
are taken it waits for the end of the one that is being taken. The second ends the
process at once, whatever it is in: what a run keeps is whole at any time. So does the
first before anything has begun, since an interrupt can get lost in an import. What
arrives together is one signal: `timeout`, batch systems and wrappers send theirs to the
process and to its group, so that it arrives twice.

There is one `STOPPING`, because signals are the process's.
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
"""Ctrl-C; what batch systems and containers send, some of it ahead of time; and a
terminal that is gone."""

TOGETHER: Final = 0.3
"""Seconds in which other signals are the first wish, told twice."""
STDERR: Final = 2
SHOW_CURSOR: Final = "\x1b[?25h"
RESUMES: Final = "stopped; the same command resumes"


def status_of(number: int) -> int:
    """Return the exit status after a signal, as shells count it."""
    return 128 + number


class StoppedError(KeyboardInterrupt):
    """A signal arrived; unwinds like an interrupt from the keyboard."""


class Stopping:
    """Whether this process was asked to stop, and when it may."""

    def __init__(self) -> None:
        self.number = 0
        """Of the signal; 0 while there was none."""
        self.has_begun = False
        """Whether there is anything to unwind."""
        self.waits = False
        """Whether a step is being taken."""
        self.unwinds = False
        """Whether the program was told to end, and is on its way."""
        self.speaks = True
        """Whether it says so; one of processes that work together does."""

    @property
    def status(self) -> int:
        """What the process ends with."""
        return status_of(self.number or signal.SIGINT)

    def take(self, number: int, frame: FrameType | None = None) -> None:
        """Hear of a signal in the main thread."""
        del frame
        self.number = self.number or number
        if not self.has_begun:
            self.end(RESUMES)
        if not self.unwinds:
            self.check()

    def hear(self, number: int, *, again: bool = False) -> None:
        """Hear of a signal in another thread, while the main one cannot."""
        self.number = self.number or number
        if again or not self.has_begun:
            self.end(RESUMES)
        if self.waits and self.speaks:
            say("stopping after this step; once more stops at once")

    def end(self, text: str) -> None:
        """End the process, with a line and nothing unwound."""
        if self.speaks:
            say(text)
        os._exit(self.status)

    @contextmanager
    def after_the_step(self) -> Iterator[None]:
        """Let a signal wait until whoever takes steps looks at `number`."""
        self.waits = True
        try:
            yield
        finally:
            self.waits = False

    def check(self) -> None:
        """Stop where a signal has waited, or its interrupt got lost."""
        if self.number and not self.waits:
            self.unwinds = True
            raise StoppedError


STOPPING: Final = Stopping()


def say(text: str) -> None:
    """Write a line to stderr, also where a line is half written."""
    cursor = SHOW_CURSOR if os.isatty(STDERR) else ""
    with suppress(OSError):  # the terminal may be what is gone
        os.write(STDERR, f"{cursor}neuron-opsd: {text}\n".encode())


@contextmanager
def stoppable() -> Iterator[None]:
    """Let signals stop what is done, in the main thread; elsewhere none arrive.

    A signal that whoever started the process has it ignore, as `nohup` does, stays
    ignored.
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
        # Whoever trains next in this process was not asked to stop.
        vars(STOPPING).update(vars(Stopping()))


@contextmanager
def heard() -> Iterator[None]:
    """Have a thread hear of signals as soon as they arrive."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    listener = threading.Thread(target=listen, args=(reading,), daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)  # the thread ends once it has heard of all there were
        listener.join()


def listen(reading: int) -> None:
    """Hear of every signal whose number arrives."""
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
