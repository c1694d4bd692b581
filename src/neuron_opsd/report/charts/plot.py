"""Lines, dots and bars over two axes in data units; reliability diagrams."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from markupsafe import Markup

from neuron_opsd.records.scores import Bin, Point
from neuron_opsd.report.charts import svg
from neuron_opsd.report.wording import number, percent

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom."""
FRAME: Box = (46.0, 36.0, 382.0, 262.0)
"""Plot area at the usual width."""
BELOW = 40.0
"""Room for ticks and axis label."""
VOTES: Final = "rollouts that agree"


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear map from data to drawing units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Map a value to its position."""
        span = self.high - self.low
        share = (value - self.low) / span if span > 0 else 0.5
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Ticks:
    """Tick positions and labels of an axis."""

    values: tuple[float, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """Data range, ticks and label."""

    low: float
    high: float
    label: str
    ticks: Ticks


def round_ticks(low: float, high: float, wanted: int = 4) -> Ticks:
    """Return about `wanted` round ticks in a range."""
    span = high - low
    if not span > 0:
        return Ticks((low,), (number(low, 2),))
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    nice = next(nice for nice in (1, 2, 2.5, 5, 10) if nice * power >= raw * 0.999)
    step = nice * power
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = tuple(index * step for index in range(first, last + 1))
    # A step of 2.5 needs one more digit than its power of ten.
    digits = max(0, -math.floor(math.log10(step) + 1e-9) + (nice == 2.5))
    return Ticks(values, tuple(number(value, digits) for value in values))


def axis_over(
    values: Iterable[float], label: str, *, pad: float = 0.0, wanted: int = 4
) -> Axis:
    """Return an axis over values, padded at both ends by a share of the span."""
    known = list(values)
    low, high = min(known), max(known)
    room = pad and (pad * (high - low) or 0.01 * abs(high) or 0.01)
    low, high = low - room, high + room
    return Axis(low, high, label, round_ticks(low, high, wanted))


def share_axis(label: str, high: float = 1.0) -> Axis:
    """Return an axis from 0 with ticks in percent."""
    ticks = round_ticks(0.0, 100.0 * high)
    values = tuple(value / 100.0 for value in ticks.values)
    return Axis(0, high, label, Ticks(values, tuple(f"{t} %" for t in ticks.labels)))


@dataclass(frozen=True, slots=True)
class Dot:
    """A mark on a plot."""

    at: Point
    hint: str
    radius: float = 4.0
    span: tuple[float, float] | None = None
    """Interval of its height."""


@dataclass(frozen=True, slots=True)
class Plot:
    """Two axes and the frame between them."""

    x: Axis
    y: Axis
    frame: Box = FRAME

    def place(self, point: Point) -> Point:
        """Map a data point to the drawing."""
        left, top, right, bottom = self.frame
        across = Scale(self.x.low, self.x.high, left, right)
        upwards = Scale(self.y.low, self.y.high, bottom, top)
        return across(point[0]), upwards(point[1])

    def line(self, points: Iterable[Point], kind: str) -> Markup:
        """Draw a line through points; empty for none."""
        places = [self.place(point) for point in points]
        return svg.path(places, kind) if places else Markup("")

    def dot(self, dot: Dot, role: str) -> Markup:
        """Draw a mark over the interval of its height, if any."""
        marked = svg.mark(self.place(dot.at), dot.radius, role, dot.hint)
        if dot.span is None:
            return marked
        ends = [(dot.at[0], end) for end in dot.span]
        return self.line(ends, f"span {role}") + marked

    def curve(self, dots: Sequence[Dot], role: str) -> Markup:
        """Draw dots over a line through them."""
        drawn = [self.dot(dot, role) for dot in dots]
        return svg.joined([self.line([d.at for d in dots], f"line {role}"), *drawn])

    def bar(self, left: float, right: float, height: float, kind: str) -> Markup:
        """Draw a bar from zero to a height."""
        (x, top), (end, base) = self.place((left, height)), self.place((right, 0))
        return svg.bar(x, top, end - x, base - top, kind)

    def ground(self) -> Markup:
        """Draw the vertical axis's label and grid."""
        left, top, right, _ = self.frame
        drawn = [svg.words(self.y.label, (4, top - 20))]
        for value, text in zip(self.y.ticks.values, self.y.ticks.labels, strict=True):
            _, y = self.place((self.x.low, value))
            drawn.append(svg.line((left, y), (right, y), "grid"))
            drawn.append(svg.words(text, (left - 6, y + 4), anchor="end", kind="tick"))
        return svg.joined(drawn)

    def figure(
        self,
        title: str,
        description: str,
        *drawn: str,
        name: str = "",
        key: svg.Key = (),
        width: float = svg.WIDTH,
    ) -> Markup:
        """Return the whole drawing, with `drawn` above the axes.

        Title and description are for screen readers; the name is visible.
        """
        left, top, right, bottom = self.frame
        across = Scale(self.x.low, self.x.high, left, right)
        return svg.figure(
            title,
            description,
            (width, bottom + BELOW),
            svg.words(name, (4, 14), kind="label strong") if name else "",
            svg.draw_key(key, (right - svg.key_width(key), top - 20)),
            self.ground(),
            axis_below(self.x, across, bottom),
            *drawn,
        )


def axis_below(axis: Axis, scale: Scale, base: float) -> Markup:
    """Draw a horizontal axis at height `base`, labelled below its end."""
    drawn = [svg.line((scale.start, base), (scale.end, base), "axis")]
    for value, text in zip(axis.ticks.values, axis.ticks.labels, strict=True):
        x = scale(value)
        drawn.append(svg.line((x, base), (x, base + 4), "axis"))
        drawn.append(svg.words(text, (x, base + 16), anchor="middle", kind="tick"))
    drawn.append(svg.words(axis.label, (scale.end, base + 33), anchor="end"))
    return svg.joined(drawn)


@dataclass(frozen=True, slots=True)
class Curve:
    """Bins of one model, or of one kind of confidence."""

    role: str
    name: str
    bins: Sequence[Bin]
    verb: str = "agree"
    """Text after a bin's confidence."""
    of: str = "questions"
    """What the bins hold."""


def draw_reliability(
    title: str,
    about: str,
    curves: Sequence[Curve],
    axis: str = VOTES,
    key: svg.Key = (),
) -> Markup:
    """Draw accuracy against confidence, with marks sized by bin."""
    plot = Plot(share_axis(axis), share_axis("answered right"))
    return plot.figure(
        title,
        about,
        plot.line([(0, 0), (1, 1)], "diagonal"),
        *(plot.curve(bin_dots(one), one.role) for one in curves),
        key=key,
    )


def drawable(bins: Sequence[Bin]) -> list[Bin]:
    """Return the non-empty bins."""
    return [
        one
        for one in bins
        if one.num_questions > 0 and math.isfinite(one.confidence + one.accuracy)
    ]


def bins_in_words(bins: Sequence[Bin], verb: str = "agree") -> str:
    """Describe a calibration curve."""
    said = [
        f"{percent(one.accuracy, 0)} right where {percent(one.confidence, 0)} {verb}"
        for one in drawable(bins)
    ]
    return ", ".join(said) or "nothing measured"


def bin_dots(curve: Curve) -> list[Dot]:
    """Return one mark per bin, its area growing with the bin."""
    bins = drawable(curve.bins)
    most = max((one.num_questions for one in bins), default=1)
    return [
        Dot(
            (one.confidence, one.accuracy),
            f"{curve.name}: {percent(one.accuracy)} right where "
            f"{percent(one.confidence)} {curve.verb}, {one.num_questions} {curve.of}",
            2.5 + 6.5 * math.sqrt(one.num_questions / most),
        )
        for one in bins
    ]
