"""Tables of results that fit the screen without tearing a number."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from neuron_opsd.cli.text import clean

Row: TypeAlias = Sequence[str]

PART = re.compile(r"\[[^\]]*\]|\S+\s%|\S+")
"""A word, a share or an interval, which stays on one line."""
WITH_INTERVAL = re.compile(r"^(\S+) (\[[^\]]*\])$")

WIDE_GAP, NARROW_GAP = 2, 1
"""Blank columns between two columns of the table."""


def fitting_table(headings: Row, rows: Sequence[Row], screen: int) -> Table:
    """Lay out a table for a screen of so many columns.

    Where it is too wide, headings are broken and intervals go below their value;
    where that is still too wide, the table is turned on its side.
    """
    if needed(headings, rows, widest_line, WIDE_GAP) <= screen:
        return laid_out(headings, rows, screen, WIDE_GAP)
    stacked = [[WITH_INTERVAL.sub(r"\1\n\2", cell) for cell in row] for row in rows]
    for gap in (WIDE_GAP, NARROW_GAP):
        if needed(headings, stacked, widest_part, gap) <= screen:
            return laid_out(headings, stacked, screen, gap)
    first, *others = zip(headings, *stacked, strict=True)
    return laid_out(first, others, screen, WIDE_GAP)


def laid_out(headings: Row, rows: Sequence[Row], screen: int, gap: int) -> Table:
    """Lay out a table, the first column to the left and the others to the right.

    Every column is as wide as its widest word; what is left of the screen goes to the
    columns that can use it, from the left.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        # The box draws one blank column itself.
        padding=(0, gap - 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    left = screen - needed(headings, rows, widest_part, gap)
    for position, cells in enumerate(zip(headings, *rows, strict=True)):
        narrow = max(map(widest_part, cells))
        extra = max(0, min(left, max(map(widest_line, cells)) - narrow))
        left -= extra
        table.add_column(
            Text(clean(cells[0])),
            justify="right" if position else "left",
            overflow="fold",
            width=narrow + extra,
        )
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    return table


def needed(
    headings: Row, rows: Sequence[Row], width: Callable[[str], int], gap: int
) -> int:
    """Return the columns that a table needs, by a measure of its cells' widths."""
    columns = zip(headings, *rows, strict=True)
    return sum(max(map(width, cells)) + gap for cells in columns) - 1


def widest_line(cell: str) -> int:
    """Return the width of a cell whose lines are not broken."""
    return max((cell_len(line) for line in clean(cell).split("\n")), default=0)


def widest_part(cell: str) -> int:
    """Return the width of the widest word or interval of a cell."""
    return max((cell_len(part) for part in PART.findall(clean(cell))), default=1)
