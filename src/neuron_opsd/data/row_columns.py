"""Columns by which rows are filtered, grouped or told apart.

``details.level`` names a nested column.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from neuron_opsd.data.formats.cells import is_blank, tidy
from neuron_opsd.data.formats.fields import structure
from neuron_opsd.data.rows import BadRowError, FileRow, Table, Values, shorten
from neuron_opsd.errors import ConfigError, DataError, listing

MOST_VALUES: Final = 1000
"""Distinct values counted for a message."""
ABSENT: Final = object()


@dataclass(slots=True)
class RowColumns:
    """Collects columns of a table's rows while the questions are read."""

    kept: Mapping[str, Sequence[str]]
    """Column to accepted values; other rows are skipped."""
    named: Sequence[str]
    """Columns whose values are recorded."""
    values_at: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Row's place to its values of `named`, empty where missing."""
    num_passed: int = 0
    found: dict[str, Counter[str]] = field(default_factory=dict)
    """Column of `kept` to the values found."""

    def rows(self, table: Table) -> Iterator[FileRow]:
        """Yield the rows that are kept.

        Raises:
            DataError: If there were rows, but none was kept.
        """
        num_kept = 0
        for row in table.rows:
            if not isinstance(row.values, BadRowError):
                if not self.keeps(row.values):
                    self.num_passed += 1
                    continue
                row = self.noted(row, row.values)
            num_kept += 1
            yield row
        if self.num_passed and not num_kept:
            raise DataError(f"{table.name} has no row with {self.wanted()}")

    def keeps(self, values: Values) -> bool:
        """Say whether a row has the wanted values, and count its values."""
        keeps = True
        for column, wanted in self.kept.items():
            value = text_of(value_in(values, column))
            counts = self.found.setdefault(column, Counter())
            if value in counts or len(counts) < MOST_VALUES:
                counts[value] += 1
            keeps &= value in wanted
        return keeps

    def noted(self, row: FileRow, values: Values) -> FileRow:
        """Return a row after recording its values, or its problem."""
        found = [value_in(values, column) for column in self.named]
        if ABSENT in found:
            column = self.named[found.index(ABSENT)]
            names = listing([repr(name) for name in values], 12)
            return FileRow(
                row.place, BadRowError(f"has no column {column!r}; it has {names}")
            )
        self.values_at[row.place] = tuple(map(text_of, found))
        return row

    def wanted(self) -> str:
        """Say which values were wanted and which exist."""
        parts = []
        for column, wanted in self.kept.items():
            counts = self.found[column]
            there = [f"{shorten(v)} ({n:,})" for v, n in counts.most_common(8)]
            parts.append(
                f"{column} {' or '.join(map(shorten, wanted))} (there are "
                f"{listing(there, 8)})"
            )
        return ", and ".join(parts)


def value_in(values: Values, column: str) -> Any:
    """Return a row's value in a column or nested column, or `ABSENT`."""
    if column in values:
        return values[column]
    head, dot, rest = column.partition(".")
    inner = structure(values.get(head)) if dot else None
    return value_in(inner, rest) if isinstance(inner, Mapping) else ABSENT


def text_of(value: Any) -> str:
    """Return a value as text for comparison; empty for none."""
    if value is ABSENT or is_blank(value):
        return ""
    value = tidy(value)
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)


def parse_kept(specs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Parse ``column=value,value``; repeated columns accept any of their values."""
    kept: dict[str, tuple[str, ...]] = {}
    for spec in specs:
        column, equals, values = spec.partition("=")
        if not equals or not column.strip() or not values.strip():
            raise ConfigError(
                f"--where is {spec!r}, but it must be COLUMN=VALUE or "
                "COLUMN=VALUE,VALUE, for example details.level=L1,L2"
            )
        wanted = tuple(value.strip() for value in values.split(","))
        kept[column.strip()] = (*kept.get(column.strip(), ()), *wanted)
    return kept
