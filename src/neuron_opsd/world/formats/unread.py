"""Columns that nobody reads although they seem to be meant: refused, by name."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from neuron_opsd.world.formats.cells import Cells, is_blank, show
from neuron_opsd.world.formats.column_names import (
    ANSWERS,
    CHOICES,
    LIKE_ANSWERS,
    LIKE_CHOICES,
    NEEDED,
)
from neuron_opsd.world.formats.parts import structure
from neuron_opsd.world.rows import BadRowError, kind_of


def refuse_needed(cells: Cells, unread: Sequence[str]) -> None:
    """Refuse a column that belongs to the question and would not be asked.

    Raises:
        BadRowError: Naming it.
    """
    for key in unread:
        value = cells.get(key)
        is_media = isinstance(value, dict) and "bytes" in value
        if is_media or (key in NEEDED and not is_blank(value)):
            raise BadRowError(
                f"{cells.name(key)!r} may belong to the question, but is not read; put "
                "its text into the question, name the set with --format (as boolq), or "
                "ignore it with --format plain"
            )


def refuse_choices(cells: Cells, unread: Sequence[str], *, labelled: bool) -> None:
    """Refuse a column that seems to hold choices where none were found.

    Raises:
        BadRowError: Naming it.
    """
    for key in unread:
        if not labelled and is_like(key, LIKE_ANSWERS, ANSWERS):
            continue
        if is_list(cells.get(key)) and key not in ANSWERS:
            what = "is a list of texts"
        elif is_like(key, LIKE_CHOICES, CHOICES) and key not in ANSWERS:
            what = f"holds {kind_of(cells.get(key))}"
        else:
            continue
        raise BadRowError(
            f"{cells.name(key)!r} {what} and may be choices, but is not read; call it "
            "choices, name the set with --format, or ignore it with --format plain"
        )


def refuse_answers(cells: Cells, unread: Sequence[str]) -> None:
    """Refuse a column that seems to hold the answer where none was found.

    Raises:
        BadRowError: Naming it.
    """
    for key in unread:
        if is_like(key, LIKE_ANSWERS, ANSWERS) and not is_blank(cells.get(key)):
            raise BadRowError(
                f"{show(cells, key)} may be the answer, but is not read; call the "
                "column answer, name the set with --format, or ignore it with "
                "--format plain"
            )


def is_like(key: str, parts: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Say whether a column's name holds one of some words, or is nearly a known one."""
    near = get_close_matches(key, names, n=1, cutoff=0.8)
    return bool(near) or any(part in key for part in parts)


def is_list(value: Any) -> bool:
    """Say whether a value is a list of two texts or more."""
    found = structure(value)
    return (
        isinstance(found, list)
        and len(found) > 1
        and all(isinstance(item, str) for item in found)
    )
