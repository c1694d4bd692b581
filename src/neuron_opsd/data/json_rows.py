"""Stream the rows of JSON lines and arrays, holding only what is being read."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from itertools import chain, tee
from typing import Final

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.byte_streams import Line, Pieces, lines_of
from neuron_opsd.data.json_text import TextAhead, parse_object
from neuron_opsd.data.rows import (
    BadRowError,
    FileRow,
    Values,
    kind_of,
    long_row,
    not_utf8,
)
from neuron_opsd.errors import DataError

MARK: Final = "\ufeff"
"""Byte order mark at the start of a file, or of a line of joined files."""


def read_json_lines(pieces: Pieces, config: QuestionsConfig) -> Iterator[FileRow]:
    """Yield the rows of a JSON-lines file, skipping blank lines."""
    found = lines_of(pieces, config.max_row_bytes)
    lines = (line for line in found if line.data.strip() or not line.is_whole)
    first, second = next(lines, None), next(lines, None)
    if first is not None:
        refuse_document(first, second)
    for line in chain(filter(None, (first, second)), lines):
        yield FileRow(f"line {line.number}", parse_json_line(line, config))


def refuse_document(first: Line, second: Line | None) -> None:
    """Refuse one JSON document if an object per line was expected."""
    start = b"".join(first.data[:99].split())
    then = b"" if second is None else second.data.lstrip()[:1]
    whole = second is None or not is_json(first)
    if (start.startswith(b"[{") and whole) or (start == b"[" and then == b"{"):
        raise DataError(
            "holds a JSON array, not one object per line; give it a name that ends in "
            ".json"
        )
    if start == b"{" and then == b'"':
        raise DataError(
            "holds one JSON object over several lines; write each object on one line"
        )


def is_json(line: Line) -> bool:
    """Say whether a line is exactly one JSON value."""
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
        return parse_object(text, config)
    except UnicodeDecodeError as error:
        return BadRowError(not_utf8(error))
    except BadRowError as error:
        return error


INSPECT_LOG: Final = re.compile(
    rb'\s*\{\s*"version"\s*:\s*\d{1,3}\s*,\s*"status"\s*:\s*"'
)
"""How inspect's logs begin: one object with `samples` of any size."""


def read_json(pieces: Pieces, config: QuestionsConfig) -> Iterator[FileRow]:
    """Yield the objects of a JSON array; JSON lines are recognised too."""
    head = next((piece for piece in pieces if piece.strip()), b"")
    if INSPECT_LOG.match(head.removeprefix(codecs.BOM_UTF8)):
        yield from read_samples(TextAhead(chain([head], pieces), config))
        return
    if head.lstrip().startswith(b"{"):
        ahead, whole = tee(chain([head], pieces))
        refuse_object(TextAhead(ahead, config))
        del ahead  # else the whole rest would stay in memory
        yield from read_json_lines(whole, config)
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


def refuse_object(text: TextAhead) -> None:
    """Refuse a file that is a single object."""
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


def read_samples(text: TextAhead) -> Iterator[FileRow]:
    """Yield the samples of an inspect log, skipping its other parts."""
    try:
        text.skip("{")
        while True:
            name, _ = text.value()
            text.skip(":")
            if name == "samples" and text.next() == "[":
                yield from items_of(text, "sample")
            elif isinstance(passed := text.value()[0], BadRowError):
                raise passed
            if text.stopped or text.next() == "}":
                return
            text.skip(",")
    except BadRowError as error:
        yield FileRow("the log", error)


def read_items(text: TextAhead) -> Iterator[FileRow]:
    """Yield the items of an array that is the whole file."""
    number = 1
    for number, row in enumerate(items_of(text, "item"), 2):  # noqa: B007 - used after
        yield row
    if text.next():
        yield FileRow(f"item {number}", text.lacks("the end"))


def items_of(text: TextAhead, what: str) -> Iterator[FileRow]:
    """Yield the items of an array up to the first that is not JSON."""
    text.skip("[")
    number = 1
    try:
        while number > 1 or text.next() != "]":
            yield FileRow(f"{what} {number}", text.item())
            number += 1
            if text.next() == "]":
                break
            text.skip(",")
        text.skip("]")
    except BadRowError as error:
        text.stop()
        yield FileRow(f"{what} {number}", error)
