"""Parse JSON one value at a time, refusing duplicate names."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.byte_streams import Pieces
from neuron_opsd.data.rows import (
    BadRowError,
    Values,
    kind_of,
    long_row,
    not_utf8,
    refuse_columns,
    refuse_deep_json,
    repeated,
)
from neuron_opsd.errors import DataError


def unusable(error: Exception) -> BadRowError:
    """Say why Python cannot hold some JSON."""
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
    """Build an object from its pairs, refusing a duplicate name."""
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = repeated(name for name, _ in pairs)
        raise BadRowError(f"{twice!r} appears twice in one JSON object")
    return values


def refuse_constant(name: str) -> NoReturn:
    """Refuse constants that Python's JSON reader allows and JSON does not."""
    raise BadRowError(f"not JSON ({name} is not a JSON number)")


STRICT: Final = json.JSONDecoder(
    object_pairs_hook=unique_keys, parse_constant=refuse_constant
)
LENIENT: Final = json.JSONDecoder(parse_int=str, parse_float=str)
"""Finds the end of an unusable value."""
NEAR: Final = 16
"""Characters from the end so far within which an error may mean that more is to come.
"""
BLANK: Final = re.compile(r"[ \t\r\n]*")


def not_json(error: json.JSONDecodeError, where: str = "") -> str:
    """Say where a text stops being JSON."""
    what = error.msg[0].lower() + error.msg[1:].removesuffix(" delimiter")
    hint = "; is the file UTF-16? save it as UTF-8" if "\0" in error.doc else ""
    return f"not JSON ({what} after {where or f'column {error.colno - 1}'}){hint}"


def parse_object(text: str, config: QuestionsConfig) -> Values:
    """Return the object in a JSON text."""
    refuse_deep_json(text, config)
    try:
        return checked_object(STRICT.decode(text), config)
    except json.JSONDecodeError as error:
        raise BadRowError(not_json(error)) from None
    except (ValueError, RecursionError) as error:
        raise unusable(error) from None


class TextAhead:
    """A JSON file, of which only the part being read is held."""

    def __init__(self, pieces: Pieces, config: QuestionsConfig) -> None:
        self.pieces = pieces
        self.config = config
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.text = ""
        self.place = 0
        """Of the next character."""
        self.line, self.column = 1, 0
        """Where the text begins in the file."""
        self.stopped = False

    def stop(self) -> None:
        """Stop reading, as the rest is unknown."""
        self.pieces, self.text, self.place, self.stopped = iter(()), "", 0, True

    def more(self) -> bool:
        """Drop what was read, and hold twice as much of the rest."""
        self.line, self.column = self.position(self.place)
        rest = self.text[self.place :]
        fresh: list[str] = []
        while sum(map(len, fresh)) <= len(rest) and (piece := next(self.pieces, b"")):
            fresh.append(self.decoded(piece))
        if not fresh:
            fresh.append(self.decoded(b"", final=True))
        self.text, self.place = rest + "".join(fresh), 0
        return len(self.text) > len(rest)

    def decoded(self, piece: bytes, *, final: bool = False) -> str:
        """Decode some bytes."""
        try:
            return self.decoder.decode(piece, final)
        except UnicodeDecodeError as error:
            held, _ = self.position(len(self.text))
            line = held + error.object.count(b"\n", 0, error.start)
            raise DataError(f"line {line}: {not_utf8(error)}") from None

    def next(self) -> str:
        """Return the next non-blank character, empty at the end."""
        while True:
            blank = BLANK.match(self.text, self.place)
            self.place = blank.end() if blank is not None else self.place
            if self.place < len(self.text):
                return self.text[self.place]
            if not self.more():
                return ""

    def skip(self, mark: str) -> None:
        """Skip a mark that must come next."""
        if self.next() != mark:
            raise self.lacks(repr(mark))
        self.place += 1

    def item(self) -> Values | BadRowError:
        """Return the next object, or why it cannot be used."""
        found, raw = self.value()
        if isinstance(found, BadRowError):
            return found
        if len(raw) > self.config.max_row_bytes:
            return long_row(len(raw), self.config)
        try:
            refuse_deep_json(raw, self.config)
            return checked_object(found, self.config)
        except BadRowError as error:
            return error

    def value(self) -> tuple[Any, str]:
        """Return the next value, or what is wrong with it, and its text."""
        self.next()
        found, end = self.whole()
        raw = self.text[self.place : end]
        self.place = end
        return found, raw

    def whole(self) -> tuple[Any, int]:
        """Return the next value and its end in the text."""
        while True:
            try:
                found, end = self.scan()
                # More digits may come.
                is_open = end == len(self.text) and not isinstance(found, dict | list)
                if not is_open or not self.more():
                    return found, end
            except json.JSONDecodeError as error:
                near = error.pos > len(self.text) - NEAR
                may_be_cut = near or error.msg.startswith("Unterminated")
                held = len(self.text) - self.place
                if may_be_cut and held > self.config.max_row_bytes:
                    hint = "; is a text not closed?"
                    raise long_row(held, self.config, hint) from None
                if not (may_be_cut and self.more()):
                    raise BadRowError(not_json(error, self.where(error.pos))) from None

    def scan(self) -> tuple[Any, int]:
        """Return the next value and its end."""
        try:
            return STRICT.raw_decode(self.text, self.place)
        except json.JSONDecodeError:
            raise
        except RecursionError as error:
            raise unusable(error) from None
        except ValueError as error:
            try:
                return unusable(error), LENIENT.raw_decode(self.text, self.place)[1]
            except RecursionError as deep:
                raise unusable(deep) from None

    def lacks(self, what: str) -> BadRowError:
        """Say what is wrong if something else must come next."""
        return BadRowError(
            f"not JSON (expecting {what} after {self.where(self.place)})"
        )

    def where(self, place: int) -> str:
        """Name a place in the file."""
        line, column = self.position(place)
        return f"column {column} of line {line}"

    def position(self, place: int) -> tuple[int, int]:
        """Return line and column in the file of an index in the text."""
        breaks = self.text.count("\n", 0, place)
        if not breaks:
            return self.line, self.column + place
        return self.line + breaks, place - self.text.rfind("\n", 0, place) - 1
