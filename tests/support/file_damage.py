"""Ways to damage a file of a run.

Every kind is a function of the file alone, so that a whole sweep is a product of files,
kinds and commands.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuron_opsd.storage.manifest import SEAL, json_sha256

DEEP = 100_000
HUGE = "1" + "0" * 5000
HALF = "\\ud800"


def whole(data: bytes) -> dict[str, bytes]:
    """Return what any file may hold after damage, by name."""
    return {
        "empty": b"",
        "torn": data[: len(data) // 2],
        "a byte short": data[:-2],
        "binary": bytes(range(256)) * 16,
        "zeros": bytes(len(data)),
        "not UTF-8": data[:9] + b"\xff\xfe" + data[9:],
        "marked": b"\xef\xbb\xbf" + data,
        "a bit": flipped(data),
    }


AS_JSON: Mapping[str, bytes] = {
    "deep lists": b"[" * DEEP,
    "deep objects": b'{"a":' * DEEP,
    "deep and whole": b"[" * 900 + b"]" * 900,
    "a list": b"[]",
    "a number": b"5",
    "a huge number": HUGE.encode(),
    "a text": b'"x"',
    "a half pair": f'"{HALF}"'.encode(),
    "null": b"null",
    "no fields": b"{}",
    "not a number": b"NaN",
}
"""What may stand in the place of a JSON document, by name."""

VALUES: Mapping[str, str] = {
    "null": "null",
    "text": '"x"',
    "half pair": f'"{HALF}"',
    "list": "[]",
    "object": "{}",
    "deep": "[" * 900 + "]" * 900,
    "negative": "-1",
    "huge": HUGE,
    "larger": "1" + "0" * 400,
    "infinite": "1e999",
    "not a number": "NaN",
    "true": "true",
    "upwards": '"../../../victim"',
}
"""What may stand in the place of a value of a JSON document, by name."""

PLACES = ("gone", "folder", "pipe", "link to nothing", "link to itself")
"""What may stand in the place of a file."""

AS_TOML: Mapping[str, bytes] = {
    "deep": b"seed = " + b"[" * DEEP,
    "deep names": b"[" + b".".join([b"a"] * 100_000) + b"]\n",
    "huge": b"seed = " + HUGE.encode(),
    "twice": b"seed = 1\nseed = 2\n",
    "types": b"seed = []\ndistill = 5\n",
    "infinite": b"[distill]\nlearning_rate = inf\n",
}

MARK = "MARK"
"""Stands in a document where a value that `json` cannot write is put."""


@dataclass(frozen=True)
class Damage:
    """One way to damage a file."""

    kind: str
    data: bytes | None = None
    """What the file holds then; `None` where it is no file any more."""

    def __str__(self) -> str:
        return self.kind

    def do(self, path: Path) -> None:
        """Damage a file."""
        path.unlink()
        if self.data is not None:
            path.write_bytes(self.data)
        elif self.kind == "folder":
            path.mkdir()
        elif self.kind == "pipe":
            os.mkfifo(path)
        elif self.kind == "link to nothing":
            path.symlink_to("nothing-is-here")
        elif self.kind == "link to itself":
            path.symlink_to(path.name)


def flipped(data: bytes) -> bytes:
    """Flip a low bit in the middle, of a digit where there is one near."""
    middle = len(data) // 2
    digits = [i for i in range(middle, len(data)) if data[i : i + 1].isdigit()]
    at = digits[0] if digits else middle
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if data else b"\x01"


def damages(path: Path) -> Iterator[Damage]:
    """Yield every way to damage a file, of which each changes it."""
    data = path.read_bytes()
    yield from map(Damage, PLACES)
    found = whole(data)
    if path.suffix in (".json", ".done", ".holder"):
        found |= {**AS_JSON, **dict(inside(data))}
    elif path.suffix == ".jsonl":
        found |= dict(in_lines(data))
    elif path.suffix == ".toml":
        found |= AS_TOML
    for kind, spoilt in found.items():
        if spoilt != data:
            yield Damage(kind, spoilt)


def inside(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a JSON document with each of some values replaced by each of `VALUES`.

    A document with a seal is damaged both under it and under one that fits.
    """
    try:
        document = json.loads(data)
    except ValueError:
        return
    for place in places_in(document):
        name = ".".join(map(str, place)) or "all"
        before = json.dumps(value_at(document, place))
        marked = with_mark(document, place)
        for kind, text in VALUES.items():
            if text == before:
                continue
            spoilt = marked.replace(f'"{MARK}"', text, 1)
            yield f"{name} is {kind}", spoilt.encode()
            if isinstance(document, dict) and SEAL in document:
                yield f"{name} is {kind}, sealed", sealed_again(spoilt).encode()
    if isinstance(document, dict) and document:
        first = json.dumps(next(iter(document)))
        yield "a field twice", f"{{{first}: 1, {json.dumps(document)[1:]}".encode()


def sealed_again(text: str) -> str:
    """Return a document as an earlier version, or a liar, would have written it."""
    try:
        table = json.loads(text)
        table.pop(SEAL, None)
        return json.dumps({**table, SEAL: json_sha256(table)})
    except (ValueError, RecursionError):
        return re.sub(rf',?\s*"{SEAL}": "[0-9a-f]*"', "", text)


def value_at(document: Any, place: Sequence[Any]) -> Any:
    """Return the value at a place of a document."""
    for key in place:
        document = document[key]
    return document


def with_mark(document: Any, place: Sequence[Any]) -> str:
    """Return a document as text with a mark in place of a value."""
    spoilt = copy.deepcopy(document)
    inner = spoilt
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = MARK
    return json.dumps(spoilt, indent=1)


def places_in(value: Any, depth: int = 4) -> Iterator[tuple[Any, ...]]:
    """Yield the places of fields, in lists and long tables of the first one alone."""
    if depth == 0 or not isinstance(value, dict | list):
        return
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    alike = len(keys) > 40 or isinstance(value, list)
    for key in keys[:1] if alike else keys:
        if key != SEAL:
            yield (key,)
            yield from ((key, *rest) for rest in places_in(value[key], depth - 1))


def in_lines(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield JSON lines with the second line replaced, or with a value of it."""
    lines = data.splitlines(keepends=True)
    if len(lines) < 2:
        return
    for kind, line in AS_JSON.items():
        yield f"line 2 is {kind}", b"".join([lines[0], line + b"\n", *lines[2:]])
    for kind, line in inside(lines[1]):
        flat = line.replace(b"\n", b"") + b"\n"
        yield f"in line 2 {kind}", b"".join([lines[0], flat, *lines[2:]])
    yield "a line fewer", b"".join(lines[:-1])
    yield "a line twice", b"".join([*lines, lines[-1]])
