"""What the readers of public sets share: a column that every row of a set has."""

from __future__ import annotations

from typing import Any

from neuron_opsd.data.formats.cells import Cells, is_blank
from neuron_opsd.data.formats.fields import checked_text
from neuron_opsd.data.formats.items import How, RawAnswer
from neuron_opsd.data.rows import BadRowError
from neuron_opsd.records import Message


def need(cells: Cells, key: str) -> Any:
    """Return a value that a set's every row has."""
    value = cells.get(key)
    if value is None:
        raise BadRowError(f"{cells.name(key)} is missing")
    return value


def text_of(cells: Cells, key: str) -> str:
    """Return a text that a set's every row has, white space around it removed."""
    return checked_text(need(cells, key), cells.name(key)).strip()


def texts_of(cells: Cells, *keys: str) -> tuple[str, ...]:
    """Return the choices that stand in columns of their own."""
    return tuple(text_of(cells, key) for key in keys)


def answer_in(cells: Cells, key: str, how: How) -> tuple[RawAnswer, ...]:
    """Return the answer of one column, nothing where it is blank."""
    value = cells.get(key)
    return () if is_blank(value) else (RawAnswer(cells.name(key), value, how),)


def asked(text: str) -> tuple[Message, ...]:
    """Return the one turn that asks a text."""
    return (Message("user", text),)


def identity(cells: Cells) -> Any:
    """Return a row's id under the names that public sets have for it."""
    keys = ("id", "questionid", "uniqueid", "recordid")
    return next((cells.get(k) for k in keys if not is_blank(cells.get(k))), None)
