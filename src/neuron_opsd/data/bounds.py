"""How much of a file of rows is read, and what is said of what goes beyond it.

Each bound is a setting of the section `questions`, whose name stands in the message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.rows import BadRowError, FileRow, Values
from neuron_opsd.errors import DataError

FREE_EXPANSION: Final = 100_000_000
"""Bytes that any file may expand to, however small it is."""
VALUE_BYTES: Final = 8
"""What each value counts for in the length of a row of a table, besides its text."""

MARKS: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)
"""A text, or what opens or closes a list or an object, in JSON."""


class BoundError(DataError):
    """A file as a whole goes beyond a bound."""


def long_row(num_bytes: int, config: QuestionsConfig, hint: str = "") -> BadRowError:
    """Return what is wrong with a row of so many bytes or more."""
    return BadRowError(
        f"holds {num_bytes:,} bytes or more, but a row may hold "
        f"{config.max_row_bytes:,}{hint}; shorten it, or raise questions.max_row_bytes"
    )


def deep_row(depth: int, config: QuestionsConfig) -> BadRowError:
    """Return what is wrong with a row whose values are nested too deep."""
    return BadRowError(
        f"is nested {depth:,} deep or more, but may be {config.max_depth}; flatten it, "
        "or raise questions.max_depth"
    )


def refuse_columns(number: int, config: QuestionsConfig) -> None:
    """Refuse a row or a header with too many columns."""
    if number > config.max_columns:
        raise BadRowError(
            f"has {number:,} columns, but may have {config.max_columns:,}; leave some "
            "out, or raise questions.max_columns"
        )


def refuse_deep_json(text: str, config: QuestionsConfig) -> None:
    """Refuse a JSON text that is nested too deep, before it is parsed."""
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
    """Return a table's row, or why it cannot be used, and about how many bytes it has.

    It cannot if it is too long, too wide or nested too deep.
    """
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
    """Return about how many bytes a value has; `depth` more may be within it."""
    if isinstance(value, str | bytes):
        return VALUE_BYTES + len(value)
    if not isinstance(value, list | tuple | Mapping):
        return VALUE_BYTES
    if depth == 0:
        raise deep_row(config.max_depth + 1, config)
    inner = value.values() if isinstance(value, Mapping) else value
    return sum(size_of(one, depth - 1, config) for one in inner)


def refuse_expansion(expanded: int, stored: int, config: QuestionsConfig) -> None:
    """Refuse a file that becomes too large, or far larger than it is on the disk."""
    if expanded > config.max_file_bytes:
        raise BoundError(
            f"holds {expanded:,} bytes or more, but a file may hold "
            f"{config.max_file_bytes:,}; split it, or raise questions.max_file_bytes"
        )
    if expanded > max(FREE_EXPANSION, stored * config.max_expansion):
        raise BoundError(
            f"{stored:,} bytes of it expand to {expanded:,} or more, over "
            f"{config.max_expansion} times as many, as no set of questions does; if it "
            "is meant, raise questions.max_expansion"
        )


def counted(
    rows: Iterator[FileRow], name: str, config: QuestionsConfig
) -> Iterator[FileRow]:
    """Yield the rows of a file as long as there are not too many."""
    for number, row in enumerate(rows, 1):
        if number > config.max_rows:
            raise BoundError(
                f"{name}, {row.place}: is row {number:,}, but a file may hold "
                f"{config.max_rows:,}; split it, or raise questions.max_rows"
            )
        yield row
