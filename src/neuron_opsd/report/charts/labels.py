"""Names of marks and lines, placed so that they do not overlap."""

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
"""Mean width of a letter that is set in bold."""
LINE = 14.0
"""Height of a line of text."""
ASCENT = 10.5
"""How far letters reach above the line that they stand on."""
RINGS = (10.0, 22.0, 36.0, 52.0, 70.0, 90.0)
"""How far from its mark a name may stand, tried in this order."""
DIRECTIONS = 16

LONGEST_NAME = 18
"""Of a mark or a line, in letters."""
TO_NAME = 15.0
"""From where lines end to their names."""
NAMES_WIDTH = TO_NAME + STRONG_LETTER * LONGEST_NAME
"""Room for names at the ends of lines."""


@dataclass(frozen=True, slots=True)
class Label:
    """A name and where it stands: the left end of the line that it stands on."""

    text: str
    at: Point
    far: bool
    """Whether it stands so far from its mark that a line should join them."""

    @property
    def box(self) -> Box:
        """What it covers."""
        return text_box(self.text, self.at)

    def draw(self, mark: Point, role: str) -> Markup:
        """Write it so that it begins, ends or is centred towards its mark."""
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
    """Return a name on one line; one that is too long loses its middle.

    Both ends stay, since variants of a method often differ in their last word.

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
    """Return what a text covers."""
    left, base = at
    return left, base - ASCENT, left + LETTER * len(text), base + LINE - ASCENT


def names_at_ends(ends: Sequence[tuple[str, str, Point]], frame: Box) -> list[Markup]:
    """Write the names of lines at the right of a frame, apart from each other."""
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
    """Move heights apart until they differ by a gap, as little as that takes.

    Heights keep their order. Where the room from `low` to `high` is too small for all,
    they end below `high`.

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
    """Set each name near its mark, clear of all marks and of names set before it.

    Where no place in the room is clear, it goes where it overlaps least.
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
    """Yield places for a name around its mark, the nearest first."""
    width = LETTER * len(name)
    for ring in RINGS:
        for turn in range(DIRECTIONS):
            angle = 2 * math.pi * turn / DIRECTIONS
            x = mark[0] + ring * math.cos(angle)
            y = mark[1] + ring * math.sin(angle)
            # To the left of the mark a name ends where to its right it begins.
            left = x - width * (1 - math.cos(angle)) / 2
            yield Label(name, (left, y + ASCENT / 2 - 1), far=ring > RINGS[0])


def cost(box: Box, room: Box, dots: Sequence[Box], names: Sequence[Box]) -> float:
    """Return how badly a name is placed: outside the room, over names or marks."""
    outside = shared(box, box) - shared(box, room)
    over_names = sum(shared(box, other) for other in names)
    over_dots = sum(shared(box, other) for other in dots)
    # Rounded, so that noise of the arithmetic does not choose a farther place.
    return round(4 * (outside + over_names) + over_dots, 6)


def shared(one: Box, other: Box) -> float:
    """Return the area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
