"""Heat maps with the number written in each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from neuron_opsd.records.scores import Point
from neuron_opsd.report.charts import svg
from neuron_opsd.report.charts.labels import short_name
from neuron_opsd.report.wording import NOT_MEASURED, one_line

LEAST_LEFT = 94.0
WIDE_LETTER = 8.0
HIGH, WIDE_CELL, LEAST_CELL = 28.0, 44.0, 33.0
TALLEST_NAME = 16
STRONGEST = 0.5
"""Highest opacity, so that numbers stay legible."""


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One number of a map."""

    value: float
    text: str
    hint: str
    strong: bool


Cells = Mapping[tuple[str, str], HeatCell]
"""By row and column."""


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Rows, columns and cell size of a map."""

    rows: Sequence[str]
    columns: Sequence[str]
    reach: float
    """Absolute value of full colour."""

    @property
    def width(self) -> float:
        """Width of the drawing, which fits names and numbers."""
        return max(svg.NARROW, LEAST_LEFT + LEAST_CELL * len(self.columns) + 2)

    @property
    def cell(self) -> float:
        """Width of a cell."""
        return min(WIDE_CELL, (self.width - LEAST_LEFT - 2) / len(self.columns))

    def corner(self, row: int, column: int) -> Point:
        """Return a cell's upper left corner."""
        longest = max((len(one_line(name)) for name in self.rows), default=0)
        most = self.width - 2 - self.cell * len(self.columns)
        left = min(most, WIDE_LETTER * longest + 12)
        tallest = max(len(short_name(name, TALLEST_NAME)) for name in self.columns)
        top = 26 + svg.LETTER * tallest
        return left + self.cell * column, top + HIGH * row

    def draw(self, name: str, title: str, description: str, cells: Cells) -> Markup:
        """Draw a named map, framing cells whose row and column agree."""
        _, bottom = self.corner(len(self.rows), 0)
        drawn = [
            moved(self.draw_cell(cells.get((row, column))), self.corner(i, j))
            for i, row in enumerate(self.rows)
            for j, column in enumerate(self.columns)
        ]
        return svg.figure(
            title,
            description,
            (self.width, bottom + 4),
            svg.words(name, (2, 14), kind="label strong"),
            *self.names(),
            *drawn,
            *self.frames(),
        )

    def draw_cell(self, cell: HeatCell | None) -> Markup:
        """Draw a cell at the origin, coloured by sign, with its number."""
        middle = (self.cell / 2, HIGH / 2 + 4.5)
        if cell is None:
            return svg.words(NOT_MEASURED, middle, anchor="middle", kind="tick")
        strength = STRONGEST * abs(cell.value) / self.reach if self.reach > 0 else 0.0
        coloured = svg.tag(
            "rect",
            svg.tag("title", cell.hint),
            x=0.5,
            y=0.5,
            width=self.cell - 1,
            height=HIGH - 1,
            class_="gain" if cell.value > 0 else "loss",
            fill_opacity=f"{strength:.2f}",
        )
        kind = "label strong cell" if cell.strong else "label"
        return coloured + svg.words(cell.text, middle, anchor="middle", kind=kind)

    def names(self) -> list[Markup]:
        """Write column names upwards above the map, row names to its left."""
        drawn = []
        for column, name in enumerate(self.columns):
            text = short_name(name, TALLEST_NAME)
            upright = svg.tag("text", text, transform="rotate(-90)", class_="label")
            x, y = self.corner(0, column)
            drawn.append(moved(upright, (x + self.cell / 2 + 4.5, y - 5)))
        for row, name in enumerate(self.rows):
            x, y = self.corner(row, 0)
            text = short_name(name, int((x - 10) / WIDE_LETTER))
            at = (x - 6, y + HIGH / 2 + 4.5)
            drawn.append(svg.words(text, at, anchor="end"))
        return drawn

    def frames(self) -> list[Markup]:
        """Frame the cells whose row and column share a name."""
        drawn = []
        for row, name in enumerate(self.rows):
            if name in self.columns:
                x, y = self.corner(row, self.columns.index(name))
                drawn.append(svg.bar(x + 0.5, y + 0.5, self.cell - 1, HIGH - 1, "own"))
        return drawn


def moved(drawing: Markup, place: Point) -> Markup:
    """Translate a drawing from the origin."""
    x, y = map(svg.attribute, place)
    return svg.tag("g", drawing, transform=f"translate({x} {y})")
