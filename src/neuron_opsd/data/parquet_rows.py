"""Read Parquet rows in batches, even if a tiny file expands enormously.

A few bytes can repeat a dictionary value in a million rows, or endlessly in a list. So
the longest value of every dictionary limits how many rows are read together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.rows import (
    VALUE_BYTES,
    BadRowError,
    BoundError,
    FileRow,
    Values,
    long_row,
    measured,
    not_utf8,
    refuse_columns,
    refuse_expansion,
    refuse_twins,
)
from neuron_opsd.documents import first_line
from neuron_opsd.errors import DataError
from neuron_opsd.storage.disk import PASSING

BATCH_BYTES: Final = 16_000_000
BATCH_ROWS: Final = 2048
NESTED_BYTES: Final = 64_000_000
"""Size of a row group's lists above which equal texts are shared."""
BUFFER: Final = 1 << 20
TEXTS: Final = ("STRING", "JSON", "ENUM", "NONE")
"""Logical types of byte columns that may be shared."""


def read_parquet(file: BinaryIO, config: QuestionsConfig) -> Iterator[FileRow]:
    """Yield the rows of a Parquet file."""
    number = expanded = 0
    try:
        source = Source(file)
        check_columns(source.open(()).schema_arrow, config)
        check_size(source, config)
        for group in range(source.metadata.num_row_groups):
            for batch in batches_of(source, group):
                for values in values_of_rows(batch, config):
                    number += 1
                    found, num_bytes = measured(values, config)
                    expanded += num_bytes
                    refuse_expansion(expanded, source.num_bytes, config)
                    yield FileRow(f"row {number}", found)
    except BoundError as error:
        raise BoundError(f"row {number}: {error}" if number else str(error)) from None
    except MemoryError:
        raise  # Arrow's own is also an ArrowException
    except (pa.ArrowException, OSError, OverflowError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno in PASSING:
            raise  # a fault of the disk, not of the file
        reason = first_line(error)
        after = f" after row {number:,}" if number else ""
        raise DataError(f"not a readable Parquet file{after} ({reason})") from None


class Source:
    """A Parquet file that can be opened in several ways."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.num_bytes = file.seek(0, 2)
        self.metadata = pq.read_metadata(file)

    def open(self, shared: Sequence[str]) -> pq.ParquetFile:
        """Return a reader that shares equal texts of some columns."""
        self.file.seek(0)
        return pq.ParquetFile(
            self.file,
            metadata=self.metadata,
            read_dictionary=list(shared),
            buffer_size=BUFFER,
            pre_buffer=False,
        )


def check_columns(schema: pa.Schema, config: QuestionsConfig) -> None:
    """Refuse too many columns or duplicate names."""
    try:
        refuse_columns(len(schema.names), config)
    except BadRowError as error:
        raise DataError(str(error)) from None
    refuse_twins(schema.names)


def check_size(source: Source, config: QuestionsConfig) -> None:
    """Refuse a file that expands too far."""
    meta = source.metadata
    groups = [meta.row_group(n) for n in range(meta.num_row_groups)]
    columns = [group.column(n) for group in groups for n in range(group.num_columns)]
    sizes = (
        max(c.total_uncompressed_size, VALUE_BYTES * c.num_values) for c in columns
    )
    refuse_expansion(sum(sizes), source.num_bytes, config)


def batches_of(source: Source, group: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a group in batches that fit in memory."""
    metadata = source.metadata.row_group(group)
    num_rows = max(1, metadata.num_rows)
    row_bytes = 1.0
    shared: list[str] = []
    for place in range(metadata.num_columns):
        column = metadata.column(place)
        stored = column.total_uncompressed_size + VALUE_BYTES * column.num_values
        row_bytes += stored / num_rows
        longest = longest_text(source, group, place)
        if not source.metadata.schema.column(place).max_repetition_level:
            row_bytes += longest
        elif longest * column.num_values > NESTED_BYTES:
            shared.append(column.path_in_schema)
        else:
            row_bytes += longest * column.num_values / num_rows
    size = int(min(BATCH_ROWS, max(1, BATCH_BYTES // row_bytes)))
    reader = source.open(shared)
    yield from reader.iter_batches(size, row_groups=[group], use_threads=False)


def longest_text(source: Source, group: int, place: int) -> int:
    """Return the bytes of the longest text in a column's dictionary, or 0."""
    column = source.metadata.row_group(group).column(place)
    is_text = source.metadata.schema.column(place).logical_type.type in TEXTS
    coded = any("DICTIONARY" in name for name in column.encodings)
    if column.physical_type != "BYTE_ARRAY" or not is_text or not coded:
        return 0
    path = column.path_in_schema
    reader = source.open([path])
    batches = reader.iter_batches(
        BATCH_ROWS, row_groups=[group], columns=[path], use_threads=False
    )
    # Rows without a value come before the dictionary is read.
    lengths = (max(map(longest_in, batch.columns), default=0) for batch in batches)
    return next(filter(None, lengths), 0)


def longest_in(array: pa.Array) -> int:
    """Return the bytes of an array's longest dictionary text."""
    if pa.types.is_dictionary(array.type):
        return pc.max(pc.binary_length(array.dictionary)).as_py() or 0
    return max(map(longest_in, parts_of(array)), default=0)


def parts_of(array: pa.Array) -> Sequence[pa.Array]:
    """Return the child arrays of an array of lists or objects."""
    kind = array.type
    if pa.types.is_struct(kind):
        return list(array.flatten())
    if pa.types.is_map(kind):
        return [array.keys, array.items]
    return [array.values] if is_list(kind) else []


def is_list(kind: pa.DataType) -> bool:
    """Say whether values are lists of any length."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def values_of_rows(
    batch: pa.RecordBatch, config: QuestionsConfig
) -> Iterator[Values | BadRowError]:
    """Yield the values of every row, or why they cannot be read."""
    size = VALUE_BYTES * sum(map(num_values, batch.columns))
    problem = None if size <= config.max_row_bytes else long_row(size, config)
    columns: list[list[Any]] = []
    try:
        columns = [] if problem else [values_of(column) for column in batch.columns]
    except UnicodeDecodeError as error:
        problem = BadRowError(f"a text is {not_utf8(error)}")
    except (ValueError, OverflowError, pa.ArrowException) as error:
        problem = BadRowError(f"has a value that cannot be read ({error})")
    if problem is None:
        for row in zip(*columns, strict=True):
            yield dict(zip(batch.schema.names, row, strict=True))
    elif batch.num_rows == 1:
        yield problem
    else:
        half = batch.num_rows // 2
        yield from values_of_rows(batch.slice(0, half), config)
        yield from values_of_rows(batch.slice(half), config)


def num_values(array: pa.Array) -> int:
    """Count an array's values, including those in lists and objects."""
    kind = array.type
    if pa.types.is_struct(kind):
        return sum(map(num_values, array.flatten()))
    if is_list(kind):
        return len(array) + num_values(array.flatten())
    return len(array)


def values_of(array: pa.Array) -> list[Any]:
    """Return an array's values; equal dictionary texts are one object.

    32-bit floats keep their digits: 0.1 stays 0.1.
    """
    kind = array.type
    if pa.types.is_dictionary(kind):
        used = array.indices.unique().drop_null()
        known = array.dictionary.take(used).to_pylist()
        texts = dict(zip(used.to_pylist(), known, strict=True))
        return [texts.get(place) for place in array.indices.to_pylist()]
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        rows = zip(*map(values_of, array.flatten()), strict=True)
        filled = array.is_valid().to_pylist()
        return [
            dict(zip(names, row, strict=True)) if is_there else None
            for row, is_there in zip(rows, filled, strict=True)
        ]
    if is_list(kind):
        items = iter(values_of(array.flatten()))
        lengths = array.value_lengths().to_pylist()
        return [None if n is None else list(islice(items, n)) for n in lengths]
    if pa.types.is_float32(kind):
        # Through text, which has the fewest digits that identify the number.
        array = array.cast(pa.string()).cast(pa.float64())
    elif pa.types.is_timestamp(kind) and kind.tz is not None:
        array = array.cast(pa.timestamp(kind.unit))  # whose zone may be unknown here
    return list(array.to_pylist())
