"""The terminal: bars and warnings on stderr, results on stdout.

While a `Terminal` is open, library output goes to stderr, so that stdout has only
results.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager as ContextManager
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from typing import Any, TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from neuron_opsd.cli.text import (
    PLAIN_SIGNS,
    clean,
    duration,
    escaped_toml,
    fitting_table,
    one_line,
    pace_text,
    plain_values,
)
from neuron_opsd.errors import is_out_of_memory
from neuron_opsd.processes.stopping import STOPPING
from neuron_opsd.progress import Quiet

T = TypeVar("T")

PROGRAM = "neuron-opsd"
FULL_WIDTH = 100
"""Table width if the screen's is unknown."""
LINE_EVERY = 15.0
"""Seconds between progress lines without a screen for bars."""


class Terminal(Quiet):
    """A `neuron_opsd.progress.Progress` that also shows results."""

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        *,
        quiet: bool = False,
        json: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        lenient(out)
        lenient(err)
        self._out = out
        self._err = Console(file=err, highlight=False, markup=False, emoji=False)
        self.json = json
        self._quiet = quiet
        self._clock = clock
        self._bars: Progress | None = None

    def stage(
        self, name: str, total: int, unit: str
    ) -> ContextManager[Callable[[int], None]]:
        """Open a stage of `total` units; call what it yields with units done."""
        STOPPING.check()
        pace = Pace(total, self._clock)
        if self._quiet:
            return noted(name, nullcontext(pace.add))
        # Asked of the stream: FORCE_COLOR makes no screen of a log.
        if self._err.file.isatty() and not self._err.is_dumb_terminal:
            return noted(name, self._bar(pace, name, unit))
        return noted(name, self._lines(pace, name, unit))

    def warn(self, text: str) -> None:
        """Warn the user while the work continues."""
        self._err.print(Text(f"warning: {clean(text)}"), soft_wrap=True)

    def note(self, text: str) -> None:
        """Say something in passing, unless quiet."""
        if not self._quiet:
            self._err.print(Text(clean(text)), soft_wrap=True)

    def _write(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()

    def show(self, *lines: str) -> None:
        """Write lines of results, or a blank one."""
        self._write(clean("\n".join(lines)))

    def show_toml(self, text: str) -> None:
        """Write TOML that keeps its meaning, whatever the encoding lacks."""
        self._write(escaped_toml(text, self._out.encoding or "utf-8"))

    def show_json(self, document: Any) -> None:
        """Write a record or table as one ASCII JSON document."""
        self._write(json.dumps(plain_values(document), indent=2, allow_nan=False))

    def show_result(self, found: T, in_words: Callable[[Terminal, T], None]) -> None:
        """Show a record, as JSON if asked."""
        if self.json:
            self.show_json(found)
        else:
            in_words(self, found)

    def show_table(
        self, headings: Sequence[str], rows: Sequence[Sequence[str]]
    ) -> None:
        """Write a table, first column left-aligned, the others right."""
        console = Console(file=self._out, highlight=False, markup=False, emoji=False)
        if not console.is_terminal:
            console.width = FULL_WIDTH
        console.print(fitting_table(headings, rows, console.width))
        self._out.flush()

    @contextmanager
    def _lines(
        self, pace: Pace, name: str, unit: str
    ) -> Iterator[Callable[[int], None]]:
        said = self._clock()

        def advance(units: int) -> None:
            nonlocal said
            pace.add(units)
            if self._clock() - said >= LINE_EVERY:
                said = self._clock()
                self.note(f"{name}: {numbers(pace, unit)}")

        yield advance
        self.note(f"{name}: {pace.done:,} {unit} in {duration(pace.elapsed)}")

    @contextmanager
    def _bar(self, pace: Pace, name: str, unit: str) -> Iterator[Callable[[int], None]]:
        with self._live() as bars:
            task = bars.add_task(one_line(name), total=pace.total, pace=pace, unit=unit)

            def advance(units: int) -> None:
                pace.add(units)
                bars.update(task, completed=pace.done)

            try:
                yield advance
            finally:
                bars.stop_task(task)

    @contextmanager
    def _live(self) -> Iterator[Progress]:
        """Give the bars on the screen; a nested stage shares its parent's."""
        if self._bars is not None:
            yield self._bars
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            PaceColumn(),
        )
        bars = Progress(*columns, console=self._err, refresh_per_second=4)
        try:
            with bars as self._bars:
                yield bars
        finally:
            self._bars = None


@contextmanager
def noted(
    name: str, stage: ContextManager[Callable[[int], None]]
) -> Iterator[Callable[[int], None]]:
    """Open a stage that is named if memory runs out."""
    try:
        with stage as advance:
            yield advance
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            error.add_note(f"in the stage {name}")
        raise


class Pace:
    """Counts the units of one stage against a clock.

    Units that arrive as soon as a stage opens were done by an earlier run: they count
    as done, but not for the speed.
    """

    INSTANT = 0.5
    """Seconds after opening that do not count for the speed."""

    def __init__(self, total: int, clock: Callable[[], float]) -> None:
        self.total = total
        self.done = 0
        self._clock = clock
        self._opened = clock()
        self._began = self._opened
        self._skipped = 0
        self._last = self._opened

    def add(self, units: int) -> None:
        """Count newly finished units."""
        self._last = self._clock()
        self.done += units
        if self._last - self._opened < self.INSTANT:
            self._skipped += units
            self._began = self._last

    @property
    def elapsed(self) -> float:
        """Seconds from opening to the last unit; never negative."""
        end = self._last if self.done >= self.total else self._clock()
        return max(0.0, end - self._opened)

    @property
    def rate(self) -> float | None:
        """Units per second; `None` until one took time."""
        worked = self.done - self._skipped
        seconds = self._last - self._began
        if worked <= 0 or seconds <= 0:
            return None
        return worked / seconds

    @property
    def left(self) -> float | None:
        """Seconds to the end at this rate, shrinking between units too."""
        rate = self.rate
        if rate is None:
            return None
        waited = max(0.0, self._clock() - self._last)
        return max(0.0, max(0, self.total - self.done) / rate - waited)


class PaceColumn(ProgressColumn):
    """Units done, their rate, time taken and time left."""

    def render(self, task: Task) -> Text:
        """Format one bar's numbers."""
        return Text(numbers(task.fields["pace"], task.fields["unit"]))


def numbers(pace: Pace, unit: str) -> str:
    """Format a stage's progress, speed and time left."""
    parts = [f"{pace.done:,}/{pace.total:,}"]
    if pace.rate is not None:
        parts.append(pace_text(pace.rate, unit))
    parts.append(duration(pace.elapsed))
    if pace.left is not None and pace.done < pace.total:
        parts.append(f"{duration(pace.left)} left")
    return " · ".join(parts)


def lenient(stream: TextIO) -> None:
    """Let a stream replace characters it cannot encode, so no result is lost."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=PLAIN_SIGNS)


def open_streams() -> None:
    """Make both streams take any text, even when closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            setattr(sys, name, os.fdopen(nowhere, "w", encoding="utf-8"))
        lenient(getattr(sys, name))


@contextmanager
def open_terminal(*, quiet: bool = False, json: bool = False) -> Iterator[Terminal]:
    """Give a terminal that keeps stdout for results while open."""
    terminal = Terminal(sys.stdout, sys.stderr, quiet=quiet, json=json)
    STOPPING.has_begun = True
    with redirect_stdout(sys.stderr):
        yield terminal


def complain(text: str) -> None:
    """Write one message to stderr."""
    stream = sys.stderr
    lenient(stream)
    # If nobody can read it, the exit status still says so.
    with suppress(OSError):
        stream.write(f"{PROGRAM}: {clean(text)}\n")
        stream.flush()
