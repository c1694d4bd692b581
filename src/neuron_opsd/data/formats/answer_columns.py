"""The columns of a row that may hold its gold answer; read for test sets alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from neuron_opsd.data.formats.cells import Cells, is_blank, squash
from neuron_opsd.data.formats.column_names import ANSWERS, INDICES
from neuron_opsd.data.formats.fields import structure
from neuron_opsd.data.formats.items import How, RawAnswer

PARTS: Final = (*ANSWERS, *INDICES, "letter", "key", "text", "index", "idx")
"""What an answer that is an object may hold, such as ``{"answerKey": "B"}``."""
PLACES: Final = (*INDICES, "index", "idx")


def read_answers(
    cells: Cells, passed: Collection[str], *, chosen: bool
) -> tuple[RawAnswer, ...]:
    """Return every filled column that may hold the answer.

    Args:
        cells: Of the row.
        passed: Columns that hold something else.
        chosen: Whether the row has choices, of which columns may give the place.
    """
    names = [*ANSWERS, *INDICES] if chosen else ANSWERS
    return tuple(
        answer
        for key in names
        if key not in passed and not is_blank(cells.get(key))
        for answer in spread(cells, key)
    )


def spread(cells: Cells, key: str) -> tuple[RawAnswer, ...]:
    """Return the answers of one column, of an object each of its parts."""
    name, value = cells.name(key), cells.get(key)
    parts = structure(value)
    if isinstance(parts, Mapping) and all(squash(part) in PARTS for part in parts):
        return tuple(
            RawAnswer(f"{name}.{part}", found, how_of(squash(part), found))
            for part, found in parts.items()
            if not is_blank(found)
        )
    return (RawAnswer(name, value, how_of(key, value)),)


def how_of(key: str, value: object) -> How:
    """Return whether a column holds places among the choices, or anything."""
    is_letter = isinstance(value, str) and value.strip().isalpha()
    return "index" if key in PLACES and not is_letter else "auto"
