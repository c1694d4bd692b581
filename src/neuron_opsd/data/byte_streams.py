"""Stream a text file's bytes, however it is stored.

It is read once; only a piece and the current line are in memory.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol, TypeAlias

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.rows import BoundError, refuse_expansion
from neuron_opsd.errors import DataError

PIECE: Final = 1 << 18
BLANK: Final = b" \t\r\n"
Pieces: TypeAlias = Iterator[bytes]


class Hash(Protocol):
    """A `hashlib` object."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Hash more bytes."""
        ...


class HashedFile(io.RawIOBase):
    """Counts and hashes a file's bytes as they are read."""

    def __init__(self, file: BinaryIO, digest: Hash) -> None:
        self.file = file
        self.digest = digest
        self.num_bytes = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer and return the number of bytes."""
        data = self.file.read(len(buffer))
        buffer[: len(data)] = data
        self.digest.update(data)
        self.num_bytes += len(data)
        return len(data)


def pieces_of(file: BinaryIO, digest: Hash, config: QuestionsConfig) -> Pieces:
    """Yield a text file as UTF-8 without a byte order mark."""
    source = HashedFile(file, digest)
    return as_utf8(bounded(source.read, source, config))


def unzipped(file: BinaryIO, digest: Hash, config: QuestionsConfig) -> Pieces:
    """Yield the same from gzip, in one or more members."""
    source = HashedFile(file, digest)
    with gzip.GzipFile(fileobj=io.BufferedReader(source, PIECE)) as source_text:
        yield from as_utf8(bounded(source_text.read, source, config))


def bounded(
    read: Callable[[int], bytes | None], source: HashedFile, config: QuestionsConfig
) -> Pieces:
    """Yield pieces until they exceed the bound."""
    expanded = 0
    try:
        while piece := read(PIECE):
            expanded += len(piece)
            refuse_expansion(expanded, source.num_bytes, config)
            yield piece
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{error}, after {expanded:,} bytes of text; compress it again"
        ) from None


def as_utf8(pieces: Pieces) -> Pieces:
    """Yield UTF-8 without a byte order mark, from that or UTF-16."""
    first = next(pieces, b"")
    if b"\0" in first[:2]:
        raise DataError("seems to be UTF-16 without a mark; save it as UTF-8")
    if not first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from pieces
        return
    decoder = codecs.getincrementaldecoder("utf-16")()
    try:
        yield decoder.decode(first).encode()
        for piece in pieces:
            yield decoder.decode(piece).encode()
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise DataError("begins like UTF-16 but is not; save it as UTF-8") from None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a text."""

    number: int
    """From 1."""
    data: bytes
    """With the line ending; only the start if too long."""
    num_bytes: int
    """Of the whole line."""

    @property
    def is_whole(self) -> bool:
        """Whether all of it was kept."""
        return self.num_bytes == len(self.data)


def lines_of(pieces: Pieces, max_bytes: int, *, blank: bool = False) -> Iterator[Line]:
    r"""Yield the lines of a text, which end in ``\n``, ``\r\n`` or ``\r``.

    At most `max_bytes` of each are kept. Unless `blank`, blank lines may be left out.
    """
    number, held, length = 1, b"", 0
    try:
        for piece in unparted(pieces):
            if not blank and is_blank(piece, held):
                ends, rest = passed_over(held + piece)
                number, held, length = number + ends, rest[:max_bytes], len(rest)
                continue
            for part in piece.splitlines(keepends=True):
                length += len(part)
                held = (held + part)[:max_bytes]
                if part.endswith((b"\n", b"\r")):
                    yield Line(number, held, length)
                    number, held, length = number + 1, b"", 0
    except BoundError as error:
        raise BoundError(f"line {number}: {error}") from None
    if length:
        yield Line(number, held, length)


def unparted(pieces: Pieces) -> Pieces:
    r"""Yield pieces that never end between ``\r`` and ``\n``."""
    kept = b""
    for piece in pieces:
        whole = kept + piece
        kept = whole[-1:] if whole.endswith(b"\r") else b""
        yield whole.removesuffix(kept) if kept else whole
    yield kept


def is_blank(piece: bytes, held: bytes) -> bool:
    """Say whether a piece and its line's start are blank, if that is quick."""
    return len(held) <= PIECE and not piece.strip(BLANK) and not held.strip(BLANK)


def passed_over(blank: bytes) -> tuple[int, bytes]:
    """Return the number of lines that end in a blank text, and the rest."""
    ends = blank.count(b"\n") + blank.count(b"\r") - blank.count(b"\r\n")
    return ends, blank[max(blank.rfind(b"\n"), blank.rfind(b"\r")) + 1 :]
