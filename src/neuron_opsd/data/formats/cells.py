"""The values of one row by the names of their columns, however these are spelled."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

from neuron_opsd.data.rows import BadRowError, Values, shorten

INDEX_NAMES = re.compile(r"Unnamed: \d+|__index_level_\d+__|level_\d+")
"""Columns that pandas writes for its row numbers."""

MAX_NAME = 1000
"""Characters of a column's name."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The filled cells of one row."""

    values: Mapping[str, Any]
    """By squashed name of the column; what is missing is left out."""
    written: Mapping[str, str]
    """Squashed name to the column's name as the file has it, of all columns."""
    asked: set[str] = field(default_factory=set)
    """Squashed names of the columns whose values were asked for."""

    def get(self, key: str) -> Any:
        """Return a value by its column's squashed name, `None` where it is missing."""
        self.asked.add(key)
        return self.values.get(key)

    def fresh(self) -> Cells:
        """Return the same cells, of which none was asked for."""
        return Cells(self.values, self.written)

    def unread(self) -> list[str]:
        """Return which filled columns nobody has asked for."""
        return [key for key in self.values if key not in self.asked]

    def has(self, *keys: str) -> bool:
        """Say whether all of these columns are there, filled or not."""
        return all(map(self.written.__contains__, keys))

    def name(self, key: str) -> str:
        """Return a column's name as the file has it."""
        return self.written.get(key, key)


@lru_cache(maxsize=2000)
def squash(name: str) -> str:
    """Return a column's name without case, blanks and punctuation: `Answer Key`."""
    return "".join(char for char in name.casefold() if char.isalnum())


def cells_of(values: Values) -> Cells:
    """Return the cells of a row."""
    filled: dict[str, Any] = {}
    written: dict[str, str] = {}
    for name, value in values.items():
        if len(name) > MAX_NAME:
            raise BadRowError(
                f"has a column whose name has {len(name):,} characters, "
                f"{shorten(name)}; a name may have {MAX_NAME}"
            )
        if INDEX_NAMES.fullmatch(name):
            continue
        key = squash(name)
        if key in filled and not is_missing(value):
            raise BadRowError(
                f"has the columns {written[key]!r} and {name!r}; keep one of them"
            )
        if key not in filled:
            written[key] = name
        if not is_missing(value):
            filled[key] = value
    return Cells(filled, written)


def is_missing(value: Any) -> bool:
    """Say whether a cell holds nothing: no value, or the number that is none."""
    if isinstance(value, float | Decimal):
        return math.isnan(value)
    return value is None


def is_blank(value: Any) -> bool:
    """Say whether a cell holds nothing, or a text of nothing but white space."""
    return is_missing(value) or (isinstance(value, str) and not value.strip())


def only_of(cells: Cells, keys: tuple[str, ...], role: str) -> str | None:
    """Return which one of some columns is filled, `None` where none is."""
    filled = [key for key in keys if not is_missing(cells.get(key))]
    if len({repr(cells.get(key)) for key in filled}) > 1:
        names = " and ".join(repr(cells.name(key)) for key in filled)
        raise BadRowError(f"has {names}, which may all be the {role}; keep one of them")
    return filled[0] if filled else None


def show(cells: Cells, key: str) -> str:
    """Write a column's name and value for a message."""
    return f"{cells.name(key)} {shorten(cells.values.get(key))}"
