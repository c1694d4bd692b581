"""Read CSV as spreadsheets, pandas and people write it."""

from __future__ import annotations

import csv
import re
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data import rows
from neuron_opsd.data.byte_streams import Line, Pieces, lines_of

SEPARATORS = ",;\t|"
"""In order of preference if the header allows several."""
DECLARED = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)
"""A first line that names the separator."""

HINTS = {
    "'": "put a field that holds the separator in double quotes, not single ones",
    '\\"': "a double quote within a field is doubled, not written with a backslash",
}
"""By what occurs in an unreadable line."""

NO_LINE = Line(1, b"", 0)

FORMULA_STARTS = (
    *("=", "+", "-", "@", "\t", "\r", "\n"),
    *("\uff1d", "\uff0b", "\uff0d", "\uff20"),  # the first four in full width
)


def cell(text: str) -> str:
    """Escape a text that a spreadsheet would take for a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def read_csv(pieces: Pieces, config: QuestionsConfig) -> Iterator[rows.FileRow]:
    """Yield the rows of a file; its header shows the separator."""
    lines = TextLines(pieces, config)
    if declared := DECLARED.match(lines.first):
        lines.drop(declared[0])
        return read_separated(lines, declared[1])
    unquoted = re.sub(r'"[^"]*"', "", lines.first)
    return read_separated(lines, max(SEPARATORS, key=unquoted.count))


def read_tsv(pieces: Pieces, config: QuestionsConfig) -> Iterator[rows.FileRow]:
    """Yield the rows of a tab-separated file."""
    return read_separated(TextLines(pieces, config), "\t")


class TextLines:
    """The lines of a CSV file; a row may span several."""

    def __init__(self, pieces: Pieces, config: QuestionsConfig) -> None:
        self.config = config
        self.lines = lines_of(pieces, config.max_row_bytes, blank=True)
        self.ahead = next(self.lines, NO_LINE)
        self.start = self.number = 1
        """First and last line read of the current row."""
        self.text = ""
        self.row_bytes = 0

    @property
    def first(self) -> str:
        """The start of the file; bad UTF-8 is reported later."""
        return self.ahead.data.decode(errors="replace")

    def drop(self, text: str) -> None:
        """Skip what the file begins with."""
        rest = self.ahead.data[len(text.encode()) :]
        if rest:
            self.ahead = Line(self.ahead.number, rest, len(rest))
        else:
            self.ahead = next(self.lines, NO_LINE)

    def __iter__(self) -> Iterator[str]:
        return map(self.decoded, chain([self.ahead], self.lines))

    def decoded(self, line: Line) -> str:
        """Return the text of a line."""
        self.number = line.number
        self.start = self.start if self.row_bytes else line.number
        self.row_bytes += line.num_bytes
        if self.row_bytes > self.config.max_row_bytes:
            self.number = self.start
            raise rows.long_row(self.row_bytes, self.config, "; is a quote not closed?")
        try:
            self.text = line.data.decode()
        except UnicodeDecodeError as error:
            raise rows.BadRowError(rows.not_utf8(error)) from None
        return self.text


def read_separated(lines: TextLines, separator: str) -> Iterator[rows.FileRow]:
    """Yield the rows of a file.

    Empty rows at its end, as spreadsheets export them, are skipped. An unreadable row
    ends the reading.
    """
    wide = f"{separator} " in lines.first
    reader = csv.reader(lines, strict=True, delimiter=separator, skipinitialspace=wide)
    try:
        with wide_fields(lines.config):
            header = next(reader, [])
            rows.refuse_columns(len(header), lines.config)
            rows.refuse_twins([name.strip() for name in header if name.strip()])
            blank = array("Q")
            lines.row_bytes = 0
            for fields in reader:
                lines.row_bytes = 0
                if any(field.strip() for field in fields):
                    for start, width in zip(blank[::2], blank[1::2], strict=True):
                        yield csv_row(header, [""] * width, start)
                    yield csv_row(header, fields, lines.start)
                    blank = array("Q")
                elif fields:
                    blank.extend((lines.start, len(fields)))
    except rows.BadRowError as error:
        yield rows.FileRow(f"line {lines.number}", error)
    except csv.Error as error:
        problem = rows.BadRowError(f"not CSV ({error}){hint_of(lines.text)}")
        yield rows.FileRow(f"line {lines.number}", problem)


@contextmanager
def wide_fields(config: QuestionsConfig) -> Iterator[None]:
    """Let a field be as long as a row."""
    before = csv.field_size_limit(config.max_row_bytes)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def csv_row(header: Sequence[str], fields: Sequence[str], start: int) -> rows.FileRow:
    """Return the row that starts at a line; empty fields are missing."""
    where = f"line {start}"
    if not any(field.strip() for field in fields[len(header) :]):
        fields = fields[: len(header)]
    if len(fields) != len(header):
        hint = hint_of("".join(fields))
        problem = f"{len(fields)} fields, but {len(header)} columns{hint}"
        return rows.FileRow(where, rows.BadRowError(problem))
    values: dict[str, Any] = {}
    for place, (name, field) in enumerate(zip(header, fields, strict=True)):
        if name.strip():
            values[name] = field or None
        elif field.strip() and not (place == 0 and field.strip().isdigit()):
            problem = (
                f"column {place + 1} has no name in the header, but holds {field!r}"
            )
            return rows.FileRow(where, rows.BadRowError(problem))
    return rows.FileRow(where, values)


def hint_of(line: str) -> str:
    """Name the quoting that an unreadable line seems to use."""
    found = [hint for mark, hint in HINTS.items() if mark in line]
    return f"; {found[-1]}" if found else ""
