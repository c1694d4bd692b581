"""Tables of all pages: what stands in every cell; one macro lays them out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from neuron_opsd.report.charts.svg import tag
from neuron_opsd.report.wording import GOT_BETTER, GOT_WORSE, NOT_MEASURED, one_line


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what stands in it, and in two smaller lines below it."""

    value: str
    """Text, or markup of our own."""
    note: str = ""
    more: str = ""
    key: bool = False
    """Whether it is set off: in-domain, or an interval that does not hold zero."""


NO_CELL = Cell(NOT_MEASURED)


@dataclass(frozen=True, slots=True)
class Column:
    """What stands over a column, and below it in small print."""

    heading: str
    note: str = ""
    text: bool = False
    """Whether it holds words, which begin at the left, rather than numbers."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row, with the name of what it is of."""

    name: str
    cells: tuple[Cell, ...]
    said: str = ""
    """What the row shows, in a line of its own below it."""
    note: str = ""
    """In small print below the name."""
    total: bool = False
    """Whether it sums up the rows above."""


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows under a heading of their own; none where the name is empty."""

    name: str
    rows: tuple[TableRow, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table, its first column being names."""

    title: str
    corner: str
    """Over the names."""
    columns: tuple[Column, ...]
    groups: tuple[RowGroup, ...]
    kind: str = ""
    """A class of the style sheet."""


def table_of(
    title: str, corner: str, columns: Iterable[Column], rows: Iterable[TableRow]
) -> Table:
    """Return a table whose rows are in one group."""
    return Table(title, corner, tuple(columns), (RowGroup("", tuple(rows)),))


def grouped(
    title: str, corner: str, columns: Iterable[Column], groups: Iterable[RowGroup]
) -> Table:
    """Return a table of groups, without those that have no row."""
    kept = tuple(group for group in groups if group.rows)
    return Table(title, corner, tuple(columns), kept)


def row_of(
    name: str,
    *cells: Cell | str,
    said: str = "",
    note: str = "",
    total: bool = False,
) -> TableRow:
    """Return a row; a text makes a cell of its own."""
    made = (one if isinstance(one, Cell) else Cell(one) for one in cells)
    return TableRow(name, tuple(made), said, note, total)


def named(names: Iterable[str]) -> tuple[Column, ...]:
    """Return one column for each name."""
    return tuple(Column(one_line(name, 40)) for name in names)


def with_numbers(rows: Iterable[TableRow]) -> tuple[TableRow, ...]:
    """Return the rows in which any cell holds a number."""
    return tuple(
        row for row in rows if any(cell.value != NOT_MEASURED for cell in row.cells)
    )


def said(words: str) -> Markup:
    """Colour what a difference shows, if it shows anything."""
    if not words:
        return Markup("")
    kind = {GOT_BETTER: "better", GOT_WORSE: "worse"}.get(words, "none")
    return tag("span", words, class_=f"said {kind}")
