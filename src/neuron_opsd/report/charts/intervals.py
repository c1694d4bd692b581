"""Interval charts: rows over one axis, and a single strip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from markupsafe import Markup

from neuron_opsd.records.scores import Interval
from neuron_opsd.report.charts import svg
from neuron_opsd.report.charts.plot import BELOW, Scale, axis_below, axis_over
from neuron_opsd.report.wording import finite

ROLES = ("after", "net")
"""Roles of a row's first and second interval."""
TEXT_LINE, MARK_LINE, ABOVE_MARKS, BELOW_MARKS = 16.0, 12.0, 13.0, 9.0


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """One subject's text, with its intervals below."""

    lines: tuple[tuple[str, str], ...]
    """Left and right text of each line, the subject first."""
    intervals: tuple[Interval | None, ...]
    """One or two, in axis units; NaNs are skipped."""
    strong: bool = False

    @property
    def first_mark(self) -> float:
        """Offset of the first interval from the top."""
        return TEXT_LINE * len(self.lines) + ABOVE_MARKS

    @property
    def height(self) -> float:
        """Total height."""
        return self.first_mark + MARK_LINE * (len(self.intervals) - 1) + BELOW_MARKS

    def drawable(self) -> Iterator[tuple[int, Interval]]:
        """Yield each drawable interval with its index."""
        for place, interval in enumerate(self.intervals):
            if finite(interval):
                yield place, interval


@dataclass(frozen=True, slots=True)
class IntervalChart:
    """Rows of intervals over one axis."""

    title: str
    about: str
    """What the numbers are; read by screen readers before all rows."""
    rows: Sequence[IntervalRow]
    axis: str
    key: svg.Key = ()
    upright: float = field(default=0.0, kw_only=True)
    """Position of the line that null results cross."""
    name: str = field(default="", kw_only=True)
    width: float = field(default=svg.WIDTH, kw_only=True)

    @property
    def right(self) -> float:
        """Right end of rows and axis."""
        return self.width - 10

    def draw(self) -> Markup:
        """Return the drawing, empty if no interval can be drawn."""
        shown = [one for row in self.rows for _, one in row.drawable()]
        if not shown:
            return Markup("")
        ends = [end for one in shown for end in (one.low, one.high)]
        axis = axis_over([self.upright, *ends], self.axis, pad=0.06, wanted=5)
        x = Scale(axis.low, axis.high, 12, self.right)
        head = 34 if self.name else 16
        first = head + 14 if self.key else head
        tops = list(accumulate((row.height for row in self.rows), initial=first))
        said = "; ".join(", ".join(map(" ".join, row.lines)) for row in self.rows)
        return svg.figure(
            self.title,
            f"{self.about} {said}.",
            (self.width, tops[-1] + BELOW),
            svg.words(self.name, (4, 14), kind="label strong") if self.name else "",
            svg.draw_key(self.key, (4, head)),
            *(self.draw_row(*pair, x) for pair in zip(self.rows, tops, strict=False)),
            axis_below(axis, x, tops[-1]),
        )

    def draw_row(self, row: IntervalRow, top: float, x: Scale) -> Markup:
        """Draw one row downwards from its top."""
        first = top + row.first_mark
        upright = x(self.upright)
        drawn = [
            svg.line((4, top), (self.right, top), "grid"),
            svg.line((upright, first - 7), (upright, top + row.height), "zero"),
        ]
        for place, (left, right) in enumerate(row.lines):
            y = top + TEXT_LINE * (place + 1)
            kind = "tick" if place else "label strong" if row.strong else "label"
            drawn.append(svg.words(left, (4, y), kind=kind))
            drawn.append(svg.words(right, (self.right, y), anchor="end"))
        for place, interval in row.drawable():
            y = first + MARK_LINE * place
            drawn.append(draw_interval(interval, x, y, ROLES[place]))
        return svg.joined(drawn)


def draw_interval(interval: Interval, x: Scale, height: float, role: str) -> Markup:
    """Draw a number and its interval."""
    ends = (x(interval.low), height), (x(interval.high), height)
    marked = svg.mark((x(interval.value), height), 4.5, role)
    return svg.line(*ends, f"whisker {role}") + marked


def interval_strip(interval: Interval | None, role: str) -> Markup:
    """Draw one interval on a line marked at zero, scaled to fit."""
    if not finite(interval):
        return Markup("")
    reach = 1.15 * max(abs(interval.low), abs(interval.high), abs(interval.value), 1e-9)
    x = Scale(-reach, reach, 4, 196)
    return svg.tag(
        "svg",
        svg.line((4, 9), (196, 9), "grid"),
        svg.line((x(0), 1), (x(0), 17), "zero"),
        draw_interval(interval, x, 9, role),
        viewBox="0 0 200 18",
        class_="strip",
        aria_hidden="true",
    )
