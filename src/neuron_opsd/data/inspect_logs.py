"""Stream the samples of an inspect log that is a zip file."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, BinaryIO, Final

import pyarrow as pa

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.json_text import parse_object
from neuron_opsd.data.rows import (
    BadRowError,
    FileRow,
    Values,
    long_row,
    refuse_expansion,
)
from neuron_opsd.errors import DataError

ZSTANDARD: Final = 93
"""In Python's own library from 3.14 on."""
HEADER: Final = struct.Struct("<26xHH")
"""A local header; lengths of its name and extra field."""


def read_eval(file: BinaryIO, config: QuestionsConfig) -> Iterator[FileRow]:
    """Yield the samples of a log."""
    size, expanded = file.seek(0, os.SEEK_END), 0
    try:
        with zipfile.ZipFile(file) as log:
            for entry in log.infolist():
                name = entry.filename
                if not (name.startswith("samples/") and name.endswith(".json")):
                    continue
                expanded += entry.file_size
                refuse_expansion(expanded, size, config)
                yield FileRow(name, sample_of(log, entry, file, config))
    except (zipfile.BadZipFile, pa.ArrowException, zlib.error) as error:
        raise DataError(f"is damaged ({error}); get it again") from None


def sample_of(
    log: zipfile.ZipFile,
    entry: zipfile.ZipInfo,
    file: BinaryIO,
    config: QuestionsConfig,
) -> Values | BadRowError:
    """Return the object of one entry, or why it cannot be used.

    Its events, which only repeat the rest, are left out.
    """
    if entry.file_size > config.max_row_bytes:
        return long_row(entry.file_size, config)
    with opened(log, entry, file) as stream:
        data = stream.read(config.max_row_bytes + 1)
    if len(data) != entry.file_size or zlib.crc32(data) != entry.CRC:
        return BadRowError("is damaged: it is not what its log's directory says")
    try:
        values = parse_object(data.decode(), config)
    except (BadRowError, UnicodeDecodeError) as error:
        return BadRowError(str(error))
    return {name: value for name, value in values.items() if name != "events"}


def opened(
    log: zipfile.ZipFile, entry: zipfile.ZipInfo, file: BinaryIO
) -> IO[bytes] | pa.CompressedInputStream:
    """Open an entry, also if compressed by Zstandard as inspect's are."""
    if entry.compress_type != ZSTANDARD:
        return log.open(entry)
    file.seek(entry.header_offset)
    name, more = HEADER.unpack(file.read(HEADER.size))
    file.seek(name + more, os.SEEK_CUR)
    packed = pa.BufferReader(file.read(entry.compress_size))
    return pa.CompressedInputStream(packed, "zstd")
