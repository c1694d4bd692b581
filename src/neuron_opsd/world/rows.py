"""Rows of a file of questions before anybody says what their columns mean."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from neuron_opsd.errors import DataError

MAX_SHOWN = 60

KINDS: dict[type, str] = {
    type(None): "nothing",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}

Values: TypeAlias = Mapping[str, Any]
T = TypeVar("T")


class BadRowError(ValueError):
    """One row cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file."""

    place: str
    """Where it stands, for example ``line 214``."""
    values: Values | BadRowError
    """By column, or why it cannot be read."""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file."""

    name: str
    """As the user gave it."""
    stem: str
    sha256: str
    rows: Sequence[Row]


def kind_of(value: Any) -> str:
    """Name the type of a value as people who write JSON do."""
    for kind, name in KINDS.items():
        if isinstance(value, kind):
            return name
    return type(value).__name__


def shorten(value: Any) -> str:
    """Write a value so that it fits into a message of one line."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def attempt(parse: Callable[[T], Values], raw: T) -> Values | BadRowError:
    """Return what `parse` makes of a row, or why it cannot."""
    try:
        return parse(raw)
    except BadRowError as error:
        return error


def without_mark(data: bytes) -> bytes:
    """Return a text as UTF-8 without a byte order mark, by which UTF-16 is known.

    Raises:
        DataError: If the mark promises UTF-16 and the rest is something else, or if
            there is no mark and every other byte seems to be zero.
    """
    if b"\0" in data[:2]:
        raise DataError("seems to be UTF-16 without a mark; save it as UTF-8")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16").encode()
        except UnicodeDecodeError:
            raise DataError("begins like UTF-16 but is not; save it as UTF-8") from None
    return data.removeprefix(codecs.BOM_UTF8)


def decode_whole(data: bytes) -> str:
    """Decode a file whose lines cannot be told apart before.

    Raises:
        DataError: If it is not UTF-8; says at which line.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"line {line}: {not_utf8(error)}") from None


def not_utf8(error: UnicodeDecodeError) -> str:
    """Say which byte of a line is not UTF-8."""
    byte = error.object[error.start]
    return f"not UTF-8 (byte 0x{byte:02x} after byte {error.start}); save it as UTF-8"
