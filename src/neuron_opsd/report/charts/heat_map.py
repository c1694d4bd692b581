"""Gains by source and test set as a map of coloured cells, the number in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from neuron_opsd.report.charts import svg
from neuron_opsd.report.charts.labels import LETTER, short_name
from neuron_opsd.report.comparison_index import Results, method_label
from neuron_opsd.report.wording import (
    NOT_MEASURED,
    one_line,
    point_range,
    points,
    signed,
)
from neuron_opsd.results.comparison import BASE, IN_DOMAIN, Contrast, MethodLine
from neuron_opsd.results.scores import Point

NARROW = 360.0
"""Width of a drawing that is to be read on a phone."""

LEAST_LEFT = 94.0
WIDE_LETTER = 8.0
HIGH, WIDE_CELL, LEAST_CELL = 28.0, 44.0, 33.0
TALLEST_NAME = 16
STRONGEST = 0.5
"""Most that a colour covers the paper, so that the number on it can be read."""

Gains = Mapping[tuple[str, str], Contrast]
"""By source and test set."""


def heat_maps(results: Results) -> list[Markup]:
    """Draw a map for each trained method, all with the same scale of colours."""
    found = [(line, gains_of(results, line)) for line in results.trained]
    sizes = [abs(g.difference.value) for _, gains in found for g in gains.values()]
    if not sizes:
        return []
    grid = heat_grid(results.data.sources, results.data.targets)
    return [heat_map(line, gains, grid, max(sizes)) for line, gains in found if gains]


def gains_of(results: Results, line: MethodLine) -> dict[tuple[str, str], Contrast]:
    """Return a method's differences in accuracy to base, where there are any."""
    found = {}
    for source in results.data.sources:
        for target in results.data.targets:
            place = (source, line.name, target, "avg_at_k")
            gain = results.contrast(place, BASE)
            if gain is None and target == source:
                own = (source, line.name, IN_DOMAIN, "avg_at_k")
                gain = results.contrast(own, BASE)
            if gain is not None:
                found[source, target] = gain
    return found


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the cells of a map lie."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    left: float
    top: float
    cell: float
    """Width of a cell."""
    width: float
    """Of the whole drawing."""

    @property
    def bottom(self) -> float:
        """Lower end of the last row."""
        return self.top + HIGH * len(self.sources)

    def corner(self, row: int, column: int) -> Point:
        """Return the upper left corner of a cell."""
        return self.left + self.cell * column, self.top + HIGH * row


def heat_grid(sources: tuple[str, ...], targets: tuple[str, ...]) -> Grid:
    """Lay out a map, so wide that names and numbers can be read."""
    width = max(NARROW, LEAST_LEFT + LEAST_CELL * len(targets) + 2)
    cell = min(WIDE_CELL, (width - LEAST_LEFT - 2) / len(targets))
    longest = max((len(one_line(name)) for name in sources), default=0)
    left = min(width - 2 - cell * len(targets), WIDE_LETTER * longest + 12)
    tallest = max(len(short_name(name, TALLEST_NAME)) for name in targets)
    return Grid(sources, targets, left, 26 + LETTER * tallest, cell, width)


def heat_map(line: MethodLine, gains: Gains, grid: Grid, reach: float) -> Markup:
    """Draw one method's map.

    Args:
        line: The method.
        gains: Its differences in accuracy to base.
        grid: Where the cells lie.
        reach: The gain that has the strongest colour.
    """
    cells = [
        moved(heat_cell(gains.get((source, target)), reach, grid.cell), corner)
        for row, source in enumerate(grid.sources)
        for column, target in enumerate(grid.targets)
        for corner in [grid.corner(row, column)]
    ]
    return svg.figure(
        f"{method_label(line)}: gains by source and test set",
        f"Points of accuracy against base. {gains_in_words(gains)}.",
        grid.bottom + 4,
        svg.words(method_label(line), (2, 14), kind="label strong"),
        *headings(grid),
        *row_names(grid),
        *cells,
        *own_cells(grid),
        width=grid.width,
    )


def gains_in_words(gains: Gains) -> str:
    """Say every gain of a map."""
    return "; ".join(
        f"trained on {one_line(source, 30)}, tested on {one_line(target, 30)} "
        f"{points(gain.difference.value)}"
        for (source, target), gain in gains.items()
    )


def heat_cell(gain: Contrast | None, reach: float, width: float) -> Markup:
    """Draw one cell at the origin: its colour by its sign, its number in the middle."""
    middle = (width / 2, HIGH / 2 + 4.5)
    if gain is None:
        return svg.words(NOT_MEASURED, middle, anchor="middle", kind="tick")
    interval = gain.difference
    strength = STRONGEST * abs(interval.value) / reach if reach > 0 else 0.0
    kind = "label" if interval.holds_zero else "label strong cell"
    return svg.tag(
        "rect",
        svg.tag("title", f"{points(interval.value)} ({point_range(interval)})"),
        x=0.5,
        y=0.5,
        width=width - 1,
        height=HIGH - 1,
        class_="gain" if interval.value > 0 else "loss",
        fill_opacity=f"{strength:.2f}",
    ) + svg.words(cell_number(interval.value), middle, anchor="middle", kind=kind)


def cell_number(gain: float) -> str:
    """Write a gain in points as a cell has room for: from ten on without decimals."""
    return points(gain) if abs(gain) < 0.0995 else signed(100 * gain, 0)


def moved(drawing: Markup, place: Point) -> Markup:
    """Move a drawing from the origin."""
    x, y = map(svg.attribute, place)
    return svg.tag("g", drawing, transform=f"translate({x} {y})")


def headings(grid: Grid) -> list[Markup]:
    """Write the names of the test sets upwards above their columns."""
    drawn = []
    for column, target in enumerate(grid.targets):
        name = short_name(target, TALLEST_NAME)
        upright = svg.tag("text", name, transform="rotate(-90)", class_="label")
        x, y = grid.corner(0, column)
        drawn.append(moved(upright, (x + grid.cell / 2 + 4.5, y - 5)))
    return drawn


def row_names(grid: Grid) -> list[Markup]:
    """Write the names of the sources before their rows."""
    longest = int((grid.left - 10) / WIDE_LETTER)
    drawn = []
    for row, source in enumerate(grid.sources):
        x, y = grid.corner(row, 0)
        at = (x - 6, y + HIGH / 2 + 4.5)
        drawn.append(svg.words(short_name(source, longest), at, anchor="end"))
    return drawn


def own_cells(grid: Grid) -> list[Markup]:
    """Draw a frame around the cell of each source's own test set."""
    drawn = []
    for row, source in enumerate(grid.sources):
        if source in grid.targets:
            x, y = grid.corner(row, grid.targets.index(source))
            drawn.append(svg.bar(x + 0.5, y + 0.5, grid.cell - 1, HIGH - 1, "own"))
    return drawn
