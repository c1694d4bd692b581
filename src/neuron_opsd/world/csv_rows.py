"""The rows of CSV files as spreadsheets, pandas and people write them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from neuron_opsd.errors import DataError
from neuron_opsd.world.rows import (
    BadRowError,
    Row,
    Values,
    attempt,
    decode_whole,
    without_mark,
)

SEPARATORS = ",;\t|"
"""What may separate the columns, in this order where the header allows several."""

DECLARED = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)
"""The first line with which spreadsheets name the separator."""

HINTS = {
    "'": "a field that holds the separator stands in double quotes, not single ones",
    '\\"': "a double quote within a field is doubled, not written with a backslash",
}
"""By what stands in a line that cannot be read."""


FORMULA_STARTS = (
    *("=", "+", "-", "@", "\t", "\r", "\n"),
    *("\uff1d", "\uff0b", "\uff0d", "\uff20"),  # the first four in full width
)
"""What a spreadsheet would take for the start of a formula."""


def cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def read_csv(data: bytes) -> Iterator[Row]:
    """Yield the rows of a file whose first row names the columns.

    The separator is the comma, semicolon, tab or bar that the header uses.
    """
    text = decode_whole(without_mark(data))
    declared = DECLARED.match(text)
    skipped = 0 if declared is None else 1
    if declared is not None:
        text = text[declared.end() :]
    separator = declared[1] if declared is not None else separator_of(text)
    return read_separated(text, separator, skipped)


def read_tsv(data: bytes) -> Iterator[Row]:
    """Yield the rows of a file with tabs between its columns."""
    return read_separated(decode_whole(without_mark(data)), "\t", 0)


def separator_of(text: str) -> str:
    """Return what separates the names in the first line."""
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    unquoted = re.sub(r'"[^"]*"', "", first)
    return max(SEPARATORS, key=unquoted.count)


def read_separated(text: str, separator: str, skipped: int) -> Iterator[Row]:
    """Yield the rows of a text; `skipped` lines stand before it.

    Rows of empty fields at its end, as spreadsheets export them, are passed over.
    """
    lines = csv.reader(
        io.StringIO(text, newline=""),
        strict=True,
        delimiter=separator,
        skipinitialspace=f"{separator} " in re.split(r"[\r\n]", text, maxsplit=1)[0],
    )
    physical = text.splitlines()
    try:
        header = next(lines, [])
        check_header(header)
        start = lines.line_num + 1
        blank: list[Row] = []
        for fields in lines:
            values = attempt(parse_csv_row, (header, fields))
            row = Row(f"line {start + skipped}", values)
            if any(field.strip() for field in fields):
                yield from (*blank, row)
                blank = []
            elif fields:
                blank.append(row)
            start = lines.line_num + 1
    except csv.Error as error:
        number = lines.line_num
        hint = hint_of("".join(physical[number - 1 : number]))
        yield Row(f"line {number + skipped}", BadRowError(f"not CSV ({error}){hint}"))


def check_header(header: Sequence[str]) -> None:
    """Refuse a first row that does not name columns.

    Raises:
        DataError: If a name appears twice.
    """
    names = [name.strip() for name in header]
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        raise DataError(f"two columns are called {twice[0]!r}")


def parse_csv_row(row: tuple[Sequence[str], Sequence[str]]) -> Values:
    """Read the header's columns from a row's fields; an empty field is a missing one.

    Raises:
        BadRowError: If their numbers differ, or a field without a name is filled.
    """
    header, fields = row
    if not any(field.strip() for field in fields[len(header) :]):
        fields = fields[: len(header)]
    if len(fields) != len(header):
        raise BadRowError(
            f"{len(fields)} fields, but {len(header)} columns{hint_of(''.join(fields))}"
        )
    values: dict[str, Any] = {}
    for place, (name, field) in enumerate(zip(header, fields, strict=True)):
        if name.strip():
            values[name] = field or None
        elif field.strip() and not (place == 0 and field.strip().isdigit()):
            raise BadRowError(
                f"column {place + 1} has no name in the header, but holds {field!r}"
            )
    return values


def hint_of(line: str) -> str:
    """Say which quoting a line that cannot be read seems to use."""
    found = [hint for mark, hint in HINTS.items() if mark in line]
    return f"; {found[-1]}" if found else ""
