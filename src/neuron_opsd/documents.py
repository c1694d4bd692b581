"""The doorway of `json`, `tomllib` and pydantic.

Parsers raise `RecursionError` on deep nesting, and a plain `ValueError` on huge numbers
or bytes that are not UTF-8. All become a `DocumentError`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

MAX_DEPTH = 64
"""Of settings and our own JSON objects."""
LONG_NAME = re.compile(rf"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}""")
"""A name so deep that `tomllib` takes quadratic time."""


class DocumentError(ValueError):
    """A text is not JSON or TOML; the message is the reason."""


class TooDeepError(DocumentError):
    """Values are nested too deeply to work with."""

    def __init__(self) -> None:
        super().__init__("it is nested too deeply")


def parse_json(text: str | bytes) -> Any:
    """Parse JSON without repeated fields."""
    try:
        return json.loads(text, object_pairs_hook=without_doubles)
    except DocumentError:
        raise
    except RecursionError:
        raise TooDeepError from None
    except ValueError as error:
        raise DocumentError(why_not_parsed(error)) from None


def parse_toml(text: str | bytes) -> dict[str, Any]:
    """Parse a TOML text."""
    try:
        written = text if isinstance(text, str) else text.decode("utf-8-sig")
        if LONG_NAME.search(written):
            raise TooDeepError
        table = tomllib.loads(written)
    except TooDeepError:
        raise
    except RecursionError:
        raise TooDeepError from None
    except ValueError as error:
        raise DocumentError(why_not_parsed(error)) from None
    check_depth(table)
    return table


def parse_table(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object nested at most `MAX_DEPTH` deep."""
    value = parse_json(text)
    if not isinstance(value, dict):
        raise DocumentError("it holds no JSON object")
    check_depth(value)
    return value


def check_depth(value: object) -> None:
    """Refuse nesting deeper than `MAX_DEPTH`."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        tables = [one.values() for one in level if isinstance(one, dict)]
        lists = [one for one in level if isinstance(one, list)]
        if not tables and not lists:
            return
        level = [inner for one in (*tables, *lists) for inner in one]
    raise TooDeepError


def without_doubles(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object's fields, which must be unique."""
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise DocumentError(f"it names the field {double!r} twice")
    return table


def why_not_parsed(error: ValueError) -> str:
    """Say in one line why a parser refused a text."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    text = str(error).partition("\n")[0]
    if "integer string conversion" in text:
        return "a number has thousands of digits"
    return text[:1].lower() + text[1:]


def fault_in(error: ValidationError | DocumentError | UnicodeDecodeError) -> str:
    """Say why a text is no table, or which field is wrong."""
    if isinstance(error, DocumentError | UnicodeDecodeError):
        return first_line(error)
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].partition("\n")[0].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def first_line(error: Exception) -> str:
    """Return the first line of an error, or its type."""
    return str(error).partition("\n")[0].strip() or type(error).__name__


def half_pair(value: object) -> str | None:
    """Return the first text in nested values that no file can hold, if any.

    It holds half a surrogate pair, as from JSON escapes, or from arguments that are not
    UTF-8.
    """
    if isinstance(value, str):
        return value if is_half_pair(value) else None
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        return next((text for one in value if (text := half_pair(one))), None)
    return None


def is_half_pair(text: str) -> bool:
    """Return whether a text holds half a surrogate pair."""
    return any("\ud800" <= char <= "\udfff" for char in text)
