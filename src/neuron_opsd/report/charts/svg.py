"""SVG elements as text: one palette, escaped words, deterministic bytes.

Colours are CSS variables and follow the page's light or dark scheme. Drawings are
`WIDTH` or `NARROW` units wide, near their real pixels on desktops and phones, so that
text matches the page's small print.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from markupsafe import Markup, escape

from neuron_opsd.records.scores import Point
from neuron_opsd.report.wording import visible

WIDTH = 400.0
NARROW = 360.0

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
"""Light and dark line colours; names at line ends make colour redundant."""

PALETTE: Mapping[str, tuple[str, str]] = {
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
"""Light and dark colours by role; orange, blue and bluish green stay distinct under all
common colour blindness, and shape repeats colour."""

LETTER = 7.6
"""Mean letter width in the page's widest typeface."""

Key: TypeAlias = Sequence[tuple[str, str]]
"""Mark roles and meanings; an empty role has no mark."""
BEFORE_AND_AFTER: Key = (("before", "before"), ("after", "after"))


def tag(name: str, *children: str, **attributes: str | float) -> Markup:
    """Return one element; plain strings are made visible and escaped.

    Attribute underscores become hyphens and a final one is dropped, to allow ``class_``
    and ``stroke_width``.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(attribute(value))}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{written}>{joined(children)}</{name}>")


def joined(children: Iterable[str]) -> Markup:
    """Join children: our own markup as it is, text escaped."""
    return Markup("").join(
        child if isinstance(child, Markup) else visible(child) for child in children
    )


def attribute(value: str | float) -> str:
    """Format an attribute; numbers to a tenth of a pixel."""
    if isinstance(value, str):
        return visible(value)
    return f"{value:.1f}".removesuffix(".0")


def figure(
    title: str, description: str, size: tuple[float, float], *children: str
) -> Markup:
    """Return a whole drawing for screen readers to announce."""
    width, height = map(attribute, size)
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        *children,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=f"{title}. {description}",
    )


def words(
    text: str, at: Point, *, anchor: str = "start", kind: str = "label"
) -> Markup:
    """Return text at a point; `kind` is a CSS class."""
    x, y = at
    return tag("text", text, x=x, y=y, text_anchor=anchor, class_=kind)


def line(start: Point, end: Point, kind: str) -> Markup:
    """Return a straight line."""
    (x1, y1), (x2, y2) = start, end
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def path(points: Iterable[Point], kind: str, *, closed: bool = False) -> Markup:
    """Return a line through points, in their order."""
    steps = "L".join(f"{attribute(x)} {attribute(y)}" for x, y in points)
    return tag("path", d=f"M{steps}{'Z' if closed else ''}", class_=kind)


def mark(at: Point, radius: float, role: str, hint: str = "") -> Markup:
    """Return a circle (role ``net``: diamond); a hint shows on hover."""
    x, y = at
    children = [tag("title", hint)] if hint else []
    if role != "net":
        return tag("circle", *children, cx=x, cy=y, r=radius, class_=f"mark {role}")
    reach = radius + 0.5
    corners = [(x - reach, y), (x, y - reach), (x + reach, y), (x, y + reach)]
    return path(corners, f"mark {role}", closed=True)


def bar(left: float, top: float, width: float, height: float, kind: str) -> Markup:
    """Return an upright rectangle, empty if it has no height."""
    if height <= 0:
        return Markup("")
    return tag("rect", x=left, y=top, width=width, height=height, class_=kind)


def share_bar(share: float, kind: str) -> Markup:
    """Draw a share in [0, 1] as a small bar next to its number."""
    return tag(
        "svg",
        bar(0, 0, 60, 8, "track"),
        bar(0, 0, 60 * min(1.0, max(0.0, share)), 8, kind),
        viewBox="0 0 60 8",
        class_="bar",
        aria_hidden="true",
    )


def key_width(key: Key) -> float:
    """Return the width of a key."""
    return sum(LETTER * len(text) + (24 if role else 10) for role, text in key) - 10


def draw_key(key: Key, at: Point) -> Markup:
    """Draw marks and meanings side by side, starting at a point."""
    x, y = at
    drawn = []
    for role, text in key:
        if role:
            drawn.append(mark((x + 5, y - 4), 4, role))
            x += 14
        drawn.append(words(text, (x, y)))
        x += LETTER * len(text) + 10
    return joined(drawn)
