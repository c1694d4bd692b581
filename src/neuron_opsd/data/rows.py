"""Rows of a question file before their columns are interpreted.

Limits are settings of the section `questions`, which messages name.
"""

from __future__ import annotations

import re
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, TypeAlias

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.errors import DataError

MAX_SHOWN = 60
MAX_PROBLEMS = 20
FREE_EXPANSION: Final = 100_000_000
"""Bytes that any file may expand to."""
VALUE_BYTES: Final = 8
"""Bytes counted per value of a row, besides its text."""
MARKS: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)

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
    """A row that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row of a file."""

    place: str
    """Such as ``line 214``."""
    values: Values | BadRowError
    """By column, or why the row cannot be read."""

    @property
    def good(self) -> Values:
        """The values; raises the `BadRowError` if there are none."""
        if isinstance(self.values, BadRowError):
            raise self.values
        return self.values


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a file, read lazily."""

    name: str
    """As the user gave it."""
    stem: str
    rows: Iterable[FileRow]
    """Iterate once."""
    hash: Callable[[], str]
    """Returns the SHA-256 of the rows; call it after reading all."""


class Problems:
    """A file's first problems, and how many there are."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.first: list[tuple[int, str]] = []

    def add(self, number: int, place: str, problem: object) -> None:
        """Record one more."""
        self.count += 1
        insort(self.first, (number, f"{self.name}, {place}: {problem}"))
        del self.first[MAX_PROBLEMS:]

    def tell(self) -> None:
        """Raise the first, one per line, and how many are not shown."""
        hidden = self.count - len(self.first)
        more = [f"and {hidden} more"] if hidden else []
        if self.count:
            raise DataError("\n".join([*(text for _, text in self.first), *more]))


def kind_of(value: Any) -> str:
    """Name the type of a value in JSON's terms."""
    for kind, name in KINDS.items():
        if isinstance(value, kind):
            return name
    return type(value).__name__


def shorten(value: Any) -> str:
    """Shorten a value to fit a message of one line."""
    # A long text is not written out to be thrown away.
    text = repr(value[:MAX_SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def digest_of(text: str, size: int = 16) -> bytes:
    """Return a short hash of a text, the same in every process."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()


def repeated(names: Iterable[str]) -> str | None:
    """Return the first duplicate name."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def not_utf8(error: UnicodeDecodeError) -> str:
    """Say which byte of a line is not UTF-8."""
    byte = error.object[error.start]
    return f"not UTF-8 (byte 0x{byte:02x} after byte {error.start}); save it as UTF-8"


class BoundError(DataError):
    """A file as a whole exceeds a limit."""


def long_row(num_bytes: int, config: QuestionsConfig, hint: str = "") -> BadRowError:
    """Report a row of at least this many bytes."""
    return BadRowError(
        f"holds {num_bytes:,} bytes or more, but a row may hold "
        f"{config.max_row_bytes:,}{hint}; shorten it, or raise questions.max_row_bytes"
    )


def deep_row(depth: int, config: QuestionsConfig) -> BadRowError:
    """Report a row nested too deep."""
    return BadRowError(
        f"is nested {depth:,} levels deep or more, but the limit is "
        f"{config.max_depth}; flatten it, or raise questions.max_depth"
    )


def refuse_columns(number: int, config: QuestionsConfig) -> None:
    """Refuse a row or header with too many columns."""
    if number > config.max_columns:
        raise BadRowError(
            f"has {number:,} columns, but the limit is {config.max_columns:,}; leave "
            "some out, or raise questions.max_columns"
        )


def refuse_twins(names: Sequence[str]) -> None:
    """Refuse a file with two columns of one name."""
    if (twice := repeated(names)) is not None:
        raise DataError(f"two columns are called {twice!r}")


def refuse_deep_json(text: str, config: QuestionsConfig) -> None:
    """Refuse JSON nested too deep before it is parsed."""
    if text.count("[") + text.count("{") <= config.max_depth:
        return
    depth = 0
    for match in MARKS.finditer(text):
        if match[0] in "[{":
            depth += 1
        elif match[0] in "]}":
            depth -= 1
        if depth > config.max_depth:
            raise deep_row(depth, config)


def measured(
    values: Values | BadRowError, config: QuestionsConfig
) -> tuple[Values | BadRowError, int]:
    """Return a table's row, or why it cannot be used, and its approximate bytes."""
    if isinstance(values, BadRowError):
        return values, 0
    inner = config.max_depth - 1
    try:
        refuse_columns(len(values), config)
        length = sum(size_of(value, inner, config) for value in values.values())
    except BadRowError as error:
        return error, 0
    if length > config.max_row_bytes:
        return long_row(length, config), length
    return values, length


def size_of(value: Any, depth: int, config: QuestionsConfig) -> int:
    """Return a value's approximate bytes; `depth` more levels are allowed."""
    if isinstance(value, str | bytes):
        return VALUE_BYTES + len(value)
    if not isinstance(value, list | tuple | Mapping):
        return VALUE_BYTES
    if depth == 0:
        raise deep_row(config.max_depth + 1, config)
    inner = value.values() if isinstance(value, Mapping) else value
    return sum(size_of(one, depth - 1, config) for one in inner)


def refuse_expansion(expanded: int, stored: int, config: QuestionsConfig) -> None:
    """Refuse a file that becomes too large, or far larger than on disk."""
    if expanded > config.max_file_bytes:
        raise BoundError(
            f"holds {expanded:,} bytes or more, but a file may hold "
            f"{config.max_file_bytes:,}; split it, or raise questions.max_file_bytes"
        )
    if expanded > max(FREE_EXPANSION, stored * config.max_expansion):
        raise BoundError(
            f"{stored:,} bytes of it expand to {expanded:,} or more, over "
            f"{config.max_expansion} times as many, which no set of questions does; if "
            "that is intended, raise questions.max_expansion"
        )


def counted(
    rows: Iterator[FileRow], name: str, config: QuestionsConfig
) -> Iterator[FileRow]:
    """Yield the rows of a file until there are too many."""
    for number, row in enumerate(rows, 1):
        if number > config.max_rows:
            raise BoundError(
                f"{name}, {row.place}: is row {number:,}, but a file may hold "
                f"{config.max_rows:,}; split it, or raise questions.max_rows"
            )
        yield row
