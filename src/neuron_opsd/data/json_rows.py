"""The rows of JSON lines, and how JSON is parsed: nothing twice, nothing endless."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final, NoReturn

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.bounds import long_row, refuse_columns, refuse_deep_json
from neuron_opsd.data.byte_streams import Line, Pieces, lines_of
from neuron_opsd.data.rows import BadRowError, FileRow, Values, kind_of, not_utf8
from neuron_opsd.errors import DataError

MARK: Final = "\ufeff"
"""What stands at the beginning of a file, and at a line of files that were joined."""


def read_json_lines(pieces: Pieces, config: QuestionsConfig) -> Iterator[FileRow]:
    """Yield the rows of a JSON-lines file; blank lines are passed over."""
    lines = (
        line
        for line in lines_of(pieces, config.max_row_bytes)
        if line.data.strip() or not line.is_whole
    )
    first, second = next(lines, None), next(lines, None)
    if first is not None:
        refuse_document(first, second)
    for line in chain(filter(None, (first, second)), lines):
        yield FileRow(f"line {line.number}", parse_json_line(line, config))


def refuse_document(first: Line, second: Line | None) -> None:
    """Refuse one JSON document where an object a line was promised."""
    start = b"".join(first.data[:99].split())
    then = b"" if second is None else second.data.lstrip()[:1]
    whole = second is None or not is_json(first)
    if (start.startswith(b"[{") and whole) or (start == b"[" and then == b"{"):
        raise DataError(
            "holds a JSON array, not an object a line; let its name end in .json"
        )
    if start == b"{" and then == b'"':
        raise DataError(
            "holds one JSON object over several lines; write each object on one line"
        )


def is_json(line: Line) -> bool:
    """Say whether a line holds a JSON value and nothing else."""
    try:
        json.loads(line.data)
    except (ValueError, RecursionError):
        return False
    return line.is_whole


def parse_json_line(line: Line, config: QuestionsConfig) -> Values | BadRowError:
    """Return the object of one line, or why there is none."""
    if line.num_bytes > config.max_row_bytes:
        return long_row(line.num_bytes, config)
    try:
        text = line.data.rstrip(b"\r\n").decode().removeprefix(MARK)
        refuse_deep_json(text, config)
        return checked_object(parse_json(text), config)
    except UnicodeDecodeError as error:
        return BadRowError(not_utf8(error))
    except BadRowError as error:
        return error


def parse_json(text: str) -> Any:
    """Return what a JSON text holds."""
    try:
        return STRICT.decode(text)
    except json.JSONDecodeError as error:
        raise BadRowError(not_json(error)) from None
    except (ValueError, RecursionError) as error:
        raise unusable(error) from None


def unusable(error: Exception) -> BadRowError:
    """Return what is wrong with JSON that Python cannot hold."""
    if isinstance(error, BadRowError):
        return error
    deep = isinstance(error, RecursionError)
    why = "nested too deep" if deep else "a number has too many digits"
    return BadRowError(f"not usable JSON ({why})")


def checked_object(values: Any, config: QuestionsConfig) -> Values:
    """Return a row's values."""
    if not isinstance(values, dict):
        raise BadRowError(f"not a JSON object but {kind_of(values)}")
    refuse_columns(len(values), config)
    return values


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> Values:
    """Make an object of its pairs, refusing a name that appears twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise BadRowError(f"{twice!r} appears twice in one JSON object")
    return values


def refuse_constant(name: str) -> NoReturn:
    """Refuse what Python's JSON reader allows and JSON does not."""
    raise BadRowError(f"not JSON ({name} is no JSON number)")


STRICT: Final = json.JSONDecoder(
    object_pairs_hook=unique_keys, parse_constant=refuse_constant
)


def not_json(error: json.JSONDecodeError, where: str = "") -> str:
    """Say where a text stops being JSON."""
    what = error.msg[0].lower() + error.msg[1:].removesuffix(" delimiter")
    hint = "; is the file UTF-16? save it as UTF-8" if "\0" in error.doc else ""
    return f"not JSON ({what} after {where or f'column {error.colno - 1}'}){hint}"
