"""Place names of marks and lines so that they do not overlap."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from neuron_opsd.records.scores import Point
from neuron_opsd.report.charts import svg
from neuron_opsd.report.charts.plot import Box
from neuron_opsd.report.charts.svg import LETTER
from neuron_opsd.report.wording import one_line

STRONG_LETTER = 8.2
"""Mean width of a bold letter."""
LINE = 14.0
ASCENT = 10.5
"""Height of letters above the baseline."""
RINGS = (10.0, 22.0, 36.0, 52.0, 70.0, 90.0)
"""Distances from mark to name, tried in order."""
DIRECTIONS = 16

LONGEST_NAME = 18
"""Letters in the name of a mark or line."""
TO_NAME = 15.0
"""Gap between a line's end and its name."""
NAMES_WIDTH = TO_NAME + STRONG_LETTER * LONGEST_NAME
"""Room for names at line ends."""


@dataclass(frozen=True, slots=True)
class Label:
    """A name and the left end of its baseline."""

    text: str
    at: Point
    far: bool
    """Whether a line should join it to its mark."""

    @property
    def box(self) -> Box:
        """Area it covers."""
        return text_box(self.text, self.at)

    def draw(self, mark: Point, role: str) -> Markup:
        """Write it starting, ending or centred towards its mark."""
        left, top, right, bottom = self.box
        drawn = []
        if self.far:
            x, y = mark
            near = (min(max(x, left), right), min(max(y, top + 3), bottom - 2))
            drawn.append(svg.line(mark, near, "pointer"))
        x, anchor = (left + right) / 2, "middle"
        if left > mark[0]:
            x, anchor = left, "start"
        elif right < mark[0]:
            x, anchor = right, "end"
        at, kind = (x, self.at[1]), f"label halo {role}"
        return svg.joined([*drawn, svg.words(self.text, at, anchor=anchor, kind=kind)])


def short_name(text: str, limit: int) -> str:
    """Return a name on one line, cutting the middle if too long.

    Both ends stay, as variants of a method often differ in their last word.

    Example:
        >>> short_name("neuron-opsd-word-nearest", 13)
        'neuron\u2026earest'
    """
    line = one_line(text)
    if len(line) <= limit:
        return line
    tail = (limit - 1) // 2
    head = line[: limit - 1 - tail].rstrip()
    return f"{head}\N{HORIZONTAL ELLIPSIS}{line[len(line) - tail :].lstrip()}"


def text_box(text: str, at: Point) -> Box:
    """Return the area a text covers."""
    left, base = at
    return left, base - ASCENT, left + LETTER * len(text), base + LINE - ASCENT


def names_at_ends(ends: Sequence[tuple[str, str, Point]], frame: Box) -> list[Markup]:
    """Write line names right of a frame without overlap."""
    _, top, right, bottom = frame
    heights = spread([end[1] for _, _, end in ends], LINE, top + 4, bottom - 2)
    drawn = []
    for (name, role, (x, y)), height in zip(ends, heights, strict=True):
        start, stop = (x + 3, y), (right + TO_NAME - 3, height)
        drawn.append(svg.line(start, stop, "pointer"))
        at = (right + TO_NAME, height + 4.5)
        text = short_name(name, LONGEST_NAME)
        drawn.append(svg.words(text, at, kind=f"label {role}"))
    return drawn


def spread(
    heights: Sequence[float], gap: float, low: float, high: float
) -> list[float]:
    """Move heights apart by at least a gap, as little as possible.

    Order is kept. If `low` to `high` cannot hold all, they extend below `high`.

    Example:
        >>> spread([10, 12, 40], gap=14, low=0, high=100)
        [10, 24, 40]
    """
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed: list[float] = []
    for index in order:
        least = placed[-1] + gap if placed else low
        placed.append(max(heights[index], least))
    for place in reversed(range(len(placed))):
        most = placed[place + 1] - gap if place + 1 < len(placed) else high
        placed[place] = min(placed[place], most)
    shift = max(0.0, low - placed[0]) if placed else 0.0
    moved = dict(zip(order, placed, strict=True))
    return [moved[index] + shift for index in range(len(heights))]


def place_labels(
    names: Sequence[str], marks: Sequence[Point], room: Box
) -> list[Label]:
    """Place names near their marks, clear of all marks and earlier names.

    If nowhere is clear, the place with the least overlap is taken.
    """
    dots = [(x - 6, y - 6, x + 6, y + 6) for x, y in marks]
    boxes: list[Box] = []
    labels = []
    for name, mark in zip(names, marks, strict=True):
        found = min(
            candidates(name, mark), key=lambda label: cost(label.box, room, dots, boxes)
        )
        labels.append(found)
        boxes.append(found.box)
    return labels


def candidates(name: str, mark: Point) -> Iterator[Label]:
    """Yield places for a name around its mark, nearest first."""
    width = LETTER * len(name)
    for ring in RINGS:
        for turn in range(DIRECTIONS):
            angle = 2 * math.pi * turn / DIRECTIONS
            x = mark[0] + ring * math.cos(angle)
            y = mark[1] + ring * math.sin(angle)
            # Left of the mark, the name ends where on the right it would begin.
            left = x - width * (1 - math.cos(angle)) / 2
            yield Label(name, (left, y + ASCENT / 2 - 1), far=ring > RINGS[0])


def cost(box: Box, room: Box, dots: Sequence[Box], names: Sequence[Box]) -> float:
    """Return a place's penalty: outside the room, over names or marks."""
    outside = shared(box, box) - shared(box, room)
    over_names = sum(shared(box, other) for other in names)
    over_dots = sum(shared(box, other) for other in dots)
    # Rounded against floating-point noise.
    return round(4 * (outside + over_names) + over_dots, 6)


def shared(one: Box, other: Box) -> float:
    """Return the overlap area of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
