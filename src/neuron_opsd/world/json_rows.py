"""The rows of JSON lines, and of a JSON array."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from neuron_opsd.errors import DataError
from neuron_opsd.world.rows import (
    BadRowError,
    Row,
    Values,
    attempt,
    decode_whole,
    kind_of,
    not_utf8,
    without_mark,
)


def read_json_lines(data: bytes) -> Iterator[Row]:
    """Yield the rows of a JSON-lines file; blank lines are passed over."""
    text = without_mark(data)
    refuse_document(text)
    for number, line in enumerate(text.split(b"\n"), 1):
        if line.strip():
            yield Row(f"line {number}", attempt(parse_json_line, line))


def refuse_document(data: bytes) -> None:
    """Refuse one JSON document where an object a line was promised.

    Raises:
        DataError: If the whole is an array, or an object over several lines.
    """
    first = data.lstrip()
    if not first.startswith((b"[", b"{\n", b"{\r", b"{ \n")) or first == b"[":
        return
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(document, list) and all(isinstance(row, dict) for row in document):
        raise DataError(
            "holds a JSON array, not an object a line; let its name end in .json"
        )
    if isinstance(document, dict):
        raise DataError(
            "holds one JSON object over several lines; write each object on one line"
        )


def read_json(data: bytes) -> Iterator[Row]:
    """Yield the objects of a JSON array; a file of JSON lines is read as such.

    Raises:
        DataError: If it is neither.
    """
    text = decode_whole(without_mark(data))
    if text.lstrip().startswith("{") and json_value(text) is None:
        yield from read_json_lines(text.encode())
        return
    document = parse_json(text)
    if isinstance(document, dict):
        names = ", ".join(list(document)[:5])
        raise DataError(
            f"holds one JSON object with {names}, not an array of objects; write one "
            "object for each question"
        )
    if not isinstance(document, list):
        raise DataError(f"holds {kind_of(document)}, not an array of objects")
    for number, item in enumerate(document, 1):
        yield Row(f"item {number}", attempt(checked_object, item))


def json_value(text: str) -> Any:
    """Return what a JSON text holds, `None` where it is not one value."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_zipped_json_lines(data: bytes) -> Iterator[Row]:
    """Yield the rows of a gzipped JSON-lines file."""
    return read_json_lines(gzip.decompress(data))


def parse_json_line(line: bytes) -> Values:
    """Read one JSON object.

    Raises:
        BadRowError: If it is none, or says the same thing twice.
    """
    try:
        text = line.rstrip(b"\r").decode()
    except UnicodeDecodeError as error:
        raise BadRowError(not_utf8(error)) from None
    return checked_object(parse_json(text))


def parse_json(text: str) -> Any:
    """Return what a JSON text holds.

    Raises:
        BadRowError: If it is none, or says the same thing twice.
    """
    try:
        return json.loads(
            text, object_pairs_hook=unique_keys, parse_constant=refuse_constant
        )
    except BadRowError:
        raise
    except json.JSONDecodeError as error:
        raise BadRowError(not_json(error)) from None
    except RecursionError:
        raise BadRowError("not usable JSON (nested too deep)") from None
    except ValueError:
        raise BadRowError("not usable JSON (a number has too many digits)") from None


def checked_object(values: Any) -> Values:
    """Return a row's values.

    Raises:
        BadRowError: If they are no object.
    """
    if not isinstance(values, dict):
        raise BadRowError(f"not a JSON object but {kind_of(values)}")
    return values


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> Values:
    """Make an object of its pairs, refusing a name that appears twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRowError(f"{twice!r} appears twice in one JSON object")
    return values


def refuse_constant(name: str) -> NoReturn:
    """Refuse what Python's JSON reader allows and JSON does not."""
    raise BadRowError(f"not JSON ({name} is no JSON number)")


def not_json(error: json.JSONDecodeError) -> str:
    """Say where a line stops being JSON."""
    what = error.msg[0].lower() + error.msg[1:].removesuffix(" delimiter")
    hint = "; is the file UTF-16? save it as UTF-8" if "\0" in error.doc else ""
    return f"not JSON ({what} after column {error.colno - 1}){hint}"
