"""A few helpers that draw SVG as text: one palette, escaped words, stable bytes.

Colours are CSS variables, so a figure follows the page's light or dark scheme. Figures
are drawn `WIDTH` units wide, near their real width in pixels on a phone and on a desk,
so that their words keep the size of the page's small print.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from markupsafe import Markup, escape

from neuron_opsd.report.wording import number, visible
from neuron_opsd.results.scores import Point

WIDTH = 400.0

SERIES: tuple[tuple[str, str], ...] = (
    ("#17589a", "#74b4f2"),
    ("#a34a0a", "#f0a05f"),
    ("#00695c", "#58c7b2"),
    ("#7a3d9a", "#c79be8"),
    ("#b3245f", "#f58ab8"),
    ("#6b6300", "#cbbf4a"),
    ("#0b6f8c", "#5fc4e0"),
    ("#5c4a3d", "#c2aa98"),
)
"""Light and dark colour of each of several lines; every line is also named where it
ends, so nothing rests on telling these apart."""

PALETTE: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "paper": ("#fdfcf9", "#14161a"),
        "panel": ("#f5f3ee", "#1c1f25"),
        "rule": ("#dcd8cf", "#343942"),
        "ink": ("#1b1d21", "#e8e6e1"),
        "muted": ("#5c5f66", "#a3a7ae"),
        "faint": ("#b9b5ab", "#565c66"),
        "before": ("#a34a0a", "#f0a05f"),
        "after": ("#17589a", "#74b4f2"),
        "net": ("#00695c", "#58c7b2"),
        **{f"series{place}": pair for place, pair in enumerate(SERIES)},
    }
)
"""Light and dark colour of each role; orange, blue and bluish green stay apart for
every common kind of colour blindness, and shape says the same as colour."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A straight map from data to units of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return where a value lies."""
        span = self.high - self.low
        share = (value - self.low) / span if span > 0 else 0.5
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Ticks:
    """Where an axis is marked, and how the marks read."""

    values: tuple[float, ...]
    labels: tuple[str, ...]


def tag(name: str, *children: str, **attributes: str | float) -> Markup:
    """Return one element; plain strings are made visible and escaped.

    Underscores in attribute names become hyphens and a final one is dropped, so that
    ``class_`` and ``stroke_width`` can be written.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(attribute(value))}"'
        for key, value in attributes.items()
    )
    inner = "".join(map(inline, children))
    return Markup(f"<{name}{written}>{inner}</{name}>")


def inline(child: str) -> str:
    """Return what may stand inside an element."""
    return child if isinstance(child, Markup) else escape(visible(child))


def attribute(value: str | float) -> str:
    """Write an attribute; numbers with one digit, which is a tenth of a pixel."""
    if isinstance(value, str):
        return visible(value)
    return f"{value:.1f}".removesuffix(".0")


def figure(
    title: str,
    description: str,
    height: float,
    *children: str,
    width: float = WIDTH,
) -> Markup:
    """Return a whole drawing that a screen reader can announce."""
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        *children,
        viewBox=f"0 0 {attribute(width)} {attribute(height)}",
        role="img",
        aria_label=f"{title}. {description}",
    )


def words(
    text: str, at: Point, *, anchor: str = "start", kind: str = "label"
) -> Markup:
    """Return text at a point; `kind` is a class of the style sheet."""
    x, y = at
    return tag("text", text, x=x, y=y, text_anchor=anchor, class_=kind)


def line(start: Point, end: Point, kind: str) -> Markup:
    """Return a straight line."""
    (x1, y1), (x2, y2) = start, end
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def path(points: Iterable[Point], kind: str) -> Markup:
    """Return a line through points, in their order."""
    steps = (f"{attribute(x)} {attribute(y)}" for x, y in points)
    return tag("path", d="M" + "L".join(steps), class_=kind)


def circle(at: Point, radius: float, kind: str, hint: str = "") -> Markup:
    """Return a circle, with words that appear when it is pointed at."""
    children = [tag("title", hint)] if hint else []
    return tag("circle", *children, cx=at[0], cy=at[1], r=radius, class_=kind)


def diamond(at: Point, radius: float, kind: str) -> Markup:
    """Return a square that stands on its corner."""
    x, y = at
    corners = [(x - radius, y), (x, y - radius), (x + radius, y), (x, y + radius)]
    return tag("path", d=path_data(corners) + "Z", class_=kind)


def path_data(points: Sequence[Point]) -> str:
    """Return the `d` of a path through points."""
    return "M" + "L".join(f"{attribute(x)} {attribute(y)}" for x, y in points)


def bar(left: float, top: float, width: float, height: float, kind: str) -> Markup:
    """Return an upright rectangle; one that has no height is left out."""
    if height <= 0:
        return Markup("")
    return tag("rect", x=left, y=top, width=width, height=height, class_=kind)


def legend(*, right: float, top: float) -> Markup:
    """Return the two marks that mean before and after, ending at `right`."""
    return Markup("").join(
        [
            circle((right - 112, top - 4), 4, "mark before"),
            words("before", (right - 103, top)),
            circle((right - 46, top - 4), 4, "mark after"),
            words("after", (right - 37, top)),
        ]
    )


def axis_x(scale: Scale, ticks: Ticks, base: float, label: str) -> Markup:
    """Return the horizontal axis at height `base`, its label below its end."""
    drawn = [line((scale.start, base), (scale.end, base), "axis")]
    for value, text in zip(ticks.values, ticks.labels, strict=True):
        x = scale(value)
        drawn.append(line((x, base), (x, base + 4), "axis"))
        drawn.append(words(text, (x, base + 16), anchor="middle", kind="tick"))
    drawn.append(words(label, (scale.end, base + 33), anchor="end"))
    return Markup("").join(drawn)


def axis_y(scale: Scale, ticks: Ticks, across: tuple[float, float]) -> Markup:
    """Return fine lines across the drawing at each mark, numbered at their left."""
    left, right = across
    drawn = []
    for value, text in zip(ticks.values, ticks.labels, strict=True):
        y = scale(value)
        drawn.append(line((left, y), (right, y), "grid"))
        drawn.append(words(text, (left - 6, y + 4), anchor="end", kind="tick"))
    return Markup("").join(drawn)


def round_ticks(low: float, high: float, wanted: int = 4) -> Ticks:
    """Return marks at round values within a range, about as many as wanted."""
    span = high - low
    if not span > 0:
        return Ticks((low,), (number(low, 2),))
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    nice = next(nice for nice in (1, 2, 2.5, 5, 10) if nice * power >= raw * 0.999)
    step = nice * power
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = tuple(index * step for index in range(first, last + 1))
    # A step of 2.5 units needs one digit more than its power of ten.
    digits = -math.floor(math.log10(step) + 1e-9) + (nice == 2.5)
    digits = max(0, digits)
    return Ticks(values, tuple(number(value, digits) for value in values))


def share_ticks(high: float = 1.0) -> Ticks:
    """Return marks for a share, written as percentages."""
    ticks = round_ticks(0.0, 100.0 * high)
    return Ticks(
        tuple(value / 100.0 for value in ticks.values),
        tuple(f"{label} %" for label in ticks.labels),
    )
