"""How fast a stage goes and how long it will take, also when it resumes half-way."""

from __future__ import annotations

from collections.abc import Callable


class Pace:
    """Counts the units of one stage against a clock.

    Units that arrive as soon as a stage opens were done by an earlier run. They count
    as done, but say nothing about the speed, and nor does the moment they took.
    """

    INSTANT = 0.5
    """Seconds after opening within which units say nothing about the speed."""

    def __init__(self, total: int, clock: Callable[[], float]) -> None:
        self.total = total
        self.done = 0
        self._clock = clock
        self._opened = clock()
        self._began = self._opened
        self._skipped = 0
        self._last = self._opened

    def add(self, units: int) -> None:
        """Count units that were just finished."""
        self._last = self._clock()
        self.done += units
        if self._last - self._opened < self.INSTANT:
            self._skipped += units
            self._began = self._last

    @property
    def elapsed(self) -> float:
        """Seconds since the stage opened, until its last unit; never negative."""
        end = self._last if self.done >= self.total else self._clock()
        return max(0.0, end - self._opened)

    @property
    def rate(self) -> float | None:
        """Units per second, or `None` before any was seen to take time."""
        worked = self.done - self._skipped
        seconds = self._last - self._began
        if worked <= 0 or seconds <= 0:
            return None
        return worked / seconds

    @property
    def left(self) -> float | None:
        """Seconds to the end at this rate; shrinks also between two units."""
        rate = self.rate
        if rate is None:
            return None
        waited = max(0.0, self._clock() - self._last)
        return max(0.0, max(0, self.total - self.done) / rate - waited)
