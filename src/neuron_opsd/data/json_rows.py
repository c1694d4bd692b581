"""The rows of JSON lines and arrays, of which no more is held than what is being read.

Nothing is named twice, and nothing is endless.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final, NoReturn

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.byte_streams import Line, Pieces, lines_of
from neuron_opsd.data.rows import (
    BadRowError,
    FileRow,
    Values,
    kind_of,
    long_row,
    not_utf8,
    refuse_columns,
    refuse_deep_json,
)
from neuron_opsd.errors import DataError

MARK: Final = "\ufeff"
"""What stands at the beginning of a file, and at a line of files that were joined."""


def read_json_lines(pieces: Pieces, config: QuestionsConfig) -> Iterator[FileRow]:
    """Yield the rows of a JSON-lines file; blank lines are passed over."""
    found = lines_of(pieces, config.max_row_bytes)
    lines = (line for line in found if line.data.strip() or not line.is_whole)
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
LENIENT: Final = json.JSONDecoder(parse_int=str, parse_float=str)
"""Finds where a value ends that cannot be used."""
NEAR: Final = 16
"""Characters from the end of what was read so far in which an error may only mean that
there is more to come."""
BLANK: Final = re.compile(r"[ \t\r\n]*")


def not_json(error: json.JSONDecodeError, where: str = "") -> str:
    """Say where a text stops being JSON."""
    what = error.msg[0].lower() + error.msg[1:].removesuffix(" delimiter")
    hint = "; is the file UTF-16? save it as UTF-8" if "\0" in error.doc else ""
    return f"not JSON ({what} after {where or f'column {error.colno - 1}'}){hint}"


def read_json(pieces: Pieces, config: QuestionsConfig) -> Iterator[FileRow]:
    """Yield the objects of a JSON array; a file of JSON lines is read as such."""
    head = next((piece for piece in pieces if piece.strip()), b"")
    if head.lstrip().startswith(b"{"):
        kept: list[bytes] = []
        again = keeping(chain([head], pieces), kept)
        refuse_object(TextAhead(again, config))
        yield from read_json_lines(chain(kept, pieces), config)
        return
    text = TextAhead(chain([head], pieces), config)
    if text.next() == "[":
        yield from read_items(text)
        return
    try:
        found, _ = text.value()
        if isinstance(found, BadRowError):
            raise found
    except BadRowError as error:
        raise DataError(str(error)) from None
    raise DataError(f"holds {kind_of(found)}, not an array of objects")


def keeping(pieces: Pieces, kept: list[bytes]) -> Pieces:
    """Yield pieces and keep them."""
    for piece in pieces:
        kept.append(piece)
        yield piece


def refuse_object(text: TextAhead) -> None:
    """Refuse a file that holds one object and nothing else."""
    try:
        found, _ = text.value()
    except BadRowError:
        return
    if isinstance(found, dict) and not text.next():
        names = ", ".join(list(found)[:5])
        raise DataError(
            f"holds one JSON object with {names}, not an array of objects; write one "
            "object for each question"
        )


def read_items(text: TextAhead) -> Iterator[FileRow]:
    """Yield the items of an array.

    What is no JSON ends it, since nobody can tell where the next item begins.
    """
    text.skip("[")
    number = 1
    try:
        while number > 1 or text.next() != "]":
            yield FileRow(f"item {number}", text.item())
            number += 1
            if text.next() == "]":
                break
            text.skip(",")
        text.skip("]")
        if text.next():
            raise text.lacks("the end")
    except BadRowError as error:
        yield FileRow(f"item {number}", error)


class TextAhead:
    """The text of a JSON file, of which only what is being read is held."""

    def __init__(self, pieces: Pieces, config: QuestionsConfig) -> None:
        self.pieces = pieces
        self.config = config
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.text = ""
        self.place = 0
        """In the text, of what comes next."""
        self.line, self.column = 1, 0
        """Where the text begins in the file."""

    def more(self) -> bool:
        """Drop what was read, and hold twice as much of the rest, if there is any."""
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
        """Return the text of some bytes."""
        try:
            return self.decoder.decode(piece, final)
        except UnicodeDecodeError as error:
            held, _ = self.position(len(self.text))
            line = held + error.object.count(b"\n", 0, error.start)
            raise DataError(f"line {line}: {not_utf8(error)}") from None

    def next(self) -> str:
        """Return the next character that is not blank, nothing at the end."""
        while True:
            blank = BLANK.match(self.text, self.place)
            self.place = blank.end() if blank is not None else self.place
            if self.place < len(self.text):
                return self.text[self.place]
            if not self.more():
                return ""

    def skip(self, mark: str) -> None:
        """Go behind a mark that must come next."""
        if self.next() != mark:
            raise self.lacks(repr(mark))
        self.place += 1

    def item(self) -> Values | BadRowError:
        """Return the object that comes next, or why it cannot be used."""
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
        """Return the value that comes next, or what is wrong with it, and its text."""
        self.next()
        found, end = self.whole()
        raw = self.text[self.place : end]
        self.place = end
        return found, raw

    def whole(self) -> tuple[Any, int]:
        """Return the value that comes next, and where it ends in the text."""
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
                if not (may_be_cut and self.more()):
                    raise BadRowError(not_json(error, self.where(error.pos))) from None
            if len(self.text) > self.config.max_row_bytes:
                raise long_row(len(self.text), self.config, "; is a text not closed?")

    def scan(self) -> tuple[Any, int]:
        """Return the value that comes next, and where it ends."""
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
        """Return what is wrong where something else must come next."""
        return BadRowError(
            f"not JSON (expecting {what} after {self.where(self.place)})"
        )

    def where(self, place: int) -> str:
        """Name a place in the file."""
        line, column = self.position(place)
        return f"column {column} of line {line}"

    def position(self, place: int) -> tuple[int, int]:
        """Return the line and column in the file of a place in the text."""
        breaks = self.text.count("\n", 0, place)
        if not breaks:
            return self.line, self.column + place
        return self.line + breaks, place - self.text.rfind("\n", 0, place) - 1
