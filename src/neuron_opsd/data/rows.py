"""Rows of a file of questions before anybody says what their columns mean."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from neuron_opsd.errors import DataError

MAX_SHOWN = 60
MAX_PROBLEMS = 20

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


class BadRowError(ValueError):
    """One row cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row of a file."""

    place: str
    """Where it stands, for example ``line 214``."""
    values: Values | BadRowError
    """By column, or why it cannot be read."""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file, which are read as they are asked for."""

    name: str
    """As the user gave it."""
    stem: str
    rows: Iterable[FileRow]
    """Can be gone through once."""
    hash: Callable[[], str]
    """The SHA-256 of what was read, to be called once all rows were."""


class Problems:
    """What is wrong with the rows of a file: the first of it, and how much there is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.first: list[tuple[int, str]] = []

    def add(self, number: int, place: str, problem: object) -> None:
        """Take one more."""
        self.count += 1
        insort(self.first, (number, f"{self.name}, {place}: {problem}"))
        del self.first[MAX_PROBLEMS:]

    def tell(self) -> None:
        """Raise the first of them, one a line, and how many are not shown."""
        hidden = self.count - len(self.first)
        more = [f"and {hidden} more"] if hidden else []
        if self.count:
            raise DataError("\n".join([*(text for _, text in self.first), *more]))


def kind_of(value: Any) -> str:
    """Name the type of a value as people who write JSON do."""
    for kind, name in KINDS.items():
        if isinstance(value, kind):
            return name
    return type(value).__name__


def shorten(value: Any) -> str:
    """Write a value so that it fits into a message of one line."""
    # A long text is not written out to be thrown away.
    text = repr(value[:MAX_SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def not_utf8(error: UnicodeDecodeError) -> str:
    """Say which byte of a line is not UTF-8."""
    byte = error.object[error.start]
    return f"not UTF-8 (byte 0x{byte:02x} after byte {error.start}); save it as UTF-8"
