"""Opening a file of samples: rows of a table, or an inspect log in either form."""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.json_rows import checked_object, parse_json
from neuron_opsd.data.question_files import READERS, open_table, refuse_no_file
from neuron_opsd.data.rows import (
    BadRowError,
    FileRow,
    Table,
    counted,
    long_row,
    refuse_deep_json,
    refuse_expansion,
)
from neuron_opsd.errors import DataError
from neuron_opsd.storage.disk import reading

LOG: Final = ".eval"
ZSTANDARD: Final = 93
"""The method of zip files that Python's own library reads from 3.14 on."""
HEADER: Final = struct.Struct("<26xHH")
"""What stands before an entry's data; the lengths of its name and of more."""


def open_samples(path: Path, config: QuestionsConfig) -> Table:
    """Return the rows of a file of samples, which is read as they are asked for.

    Raises:
        DataError: If the file is missing, no file, or of no known format.
    """
    refuse_no_file(path)
    name = path.name.lower()
    if name.endswith(LOG):
        return table_of(path, log_rows, config)
    if name.endswith(".json") and is_log(path):
        return table_of(path, json_log_rows, config)
    if not name.endswith(tuple(READERS)):
        raise DataError(
            f"{path} is no file of samples; allowed are {', '.join(READERS)} and "
            f"inspect's {LOG}"
        )
    return open_table(path, config)


def table_of(
    path: Path,
    rows: Callable[[Path, QuestionsConfig], Iterator[FileRow]],
    config: QuestionsConfig,
) -> Table:
    """Return the samples of an inspect log."""

    def named() -> Iterator[FileRow]:
        with reading(path):
            try:
                yield from rows(path, config)
            except (DataError, zipfile.BadZipFile, pa.ArrowException) as error:
                raise DataError(f"{path}: {error}") from None

    def digest() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return Table(str(path), path.stem, counted(named(), str(path), config), digest)


def is_log(path: Path) -> bool:
    """Say whether a JSON file is an inspect log: an object with its first fields."""
    with reading(path), path.open("rb") as file:
        head = file.read(2048).lstrip()
    return head.startswith(b"{") and b'"version"' in head and b'"status"' in head


def json_log_rows(path: Path, config: QuestionsConfig) -> Iterator[FileRow]:
    """Yield the samples of a log that is one JSON object; it is read whole."""
    refuse_expansion(path.stat().st_size, path.stat().st_size, config)
    try:
        log = parse_json(path.read_text("utf-8"))
    except (BadRowError, UnicodeDecodeError) as error:
        raise DataError(str(error)) from None
    samples = log.get("samples") if isinstance(log, dict) else None
    if not isinstance(samples, list):
        raise DataError("holds no samples; write the log with them")
    for number, sample in enumerate(samples, 1):
        yield FileRow(f"sample {number}", usable(sample, config))


def log_rows(path: Path, config: QuestionsConfig) -> Iterator[FileRow]:
    """Yield the samples of a log that is a zip file, one after the other."""
    expanded = 0
    with zipfile.ZipFile(path) as log, path.open("rb") as file:
        entries = [one for one in log.infolist() if one.filename.startswith("samples/")]
        for entry in entries:
            if not entry.filename.endswith(".json"):
                continue
            expanded += entry.file_size
            refuse_expansion(expanded, path.stat().st_size, config)
            yield FileRow(entry.filename, sample_of(log, entry, file, config))


def sample_of(
    log: zipfile.ZipFile,
    entry: zipfile.ZipInfo,
    file: IO[bytes],
    config: QuestionsConfig,
) -> Any:
    """Return the object of one entry, or why it cannot be used."""
    if entry.file_size > config.max_row_bytes:
        return long_row(entry.file_size, config)
    with opened(log, entry, file) as stream:
        data = stream.read(config.max_row_bytes + 1)
    if len(data) != entry.file_size or zlib.crc32(data) != entry.CRC:
        return BadRowError("is damaged: it is not what its log's directory says")
    try:
        text = data.decode()
        refuse_deep_json(text, config)
        return usable(parse_json(text), config)
    except (BadRowError, UnicodeDecodeError) as error:
        return BadRowError(str(error))


def opened(log: zipfile.ZipFile, entry: zipfile.ZipInfo, file: IO[bytes]) -> Any:
    """Open an entry, also one that is compressed by Zstandard, as inspect's are."""
    if entry.compress_type != ZSTANDARD:
        return log.open(entry)
    file.seek(entry.header_offset)
    name, more = HEADER.unpack(file.read(HEADER.size))
    file.seek(name + more, 1)
    packed = pa.BufferReader(file.read(entry.compress_size))
    return pa.CompressedInputStream(packed, "zstd")


def usable(sample: Any, config: QuestionsConfig) -> Any:
    """Return a sample's fields, or why they cannot be used.

    Its events, which only repeat the rest, are left out.
    """
    try:
        values = checked_object(sample, config)
    except BadRowError as error:
        return error
    return {name: value for name, value in values.items() if name != "events"}
