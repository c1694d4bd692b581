"""JSON lists with one record a line, written and read line by line.

A million selected questions fill some hundred megabytes; the text as a whole, its lines
and all that is read from it would each be held beside the records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from neuron_opsd.documents import DocumentError, parse_json
from neuron_opsd.storage.files import write_file


def write_listing(lines: Iterable[bytes], path: Path) -> None:
    """Write records, each as JSON on a line of its own."""

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(b"[\n")
            for number, line in enumerate(lines):
                file.write((b",\n" if number else b"") + line)
            file.write(b"\n]\n")

    write_file(path, fill)


def read_listing(path: Path) -> Iterator[Any]:
    """Yield the records of a file that `write_listing` wrote.

    Equal texts of different records are one object: the same answers and reasons stand
    in many contexts.
    """
    known: dict[str, str] = {}
    with path.open("rb") as file:
        if next(file, b"").strip() != b"[":
            raise DocumentError("it is not a JSON list with one record a line")
        for line in file:
            text = line.strip()
            if text == b"]":
                return
            if text:
                yield shared(parse_json(text.removesuffix(b",")), known)
    raise DocumentError("the JSON list breaks off")


def shared(value: Any, known: dict[str, str]) -> Any:
    """Return a value whose texts are those that are known, where they are equal."""
    if isinstance(value, str):
        return known.setdefault(value, value)
    if isinstance(value, list):
        return [shared(one, known) for one in value]
    if isinstance(value, dict):
        return {name: shared(one, known) for name, one in value.items()}
    return value
