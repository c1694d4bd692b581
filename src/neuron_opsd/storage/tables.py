"""The doorway of Arrow: our own Parquet files, read back or refused with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from neuron_opsd.documents import first_line
from neuron_opsd.errors import DataError
from neuron_opsd.storage.disk import MAKE_AGAIN, reading

ROLLOUT_SCHEMA = pa.schema(
    {
        "question_id": pa.string(),
        "index": pa.int64(),
        "temperature": pa.float64(),
        "token_ids": pa.list_(pa.int32()),
        "text": pa.string(),
        "finished": pa.bool_(),
        "logprob": pa.float64(),
        "entropy": pa.float64(),
        "answer": pa.string(),
        "final_start": pa.int64(),
    }
)

NEURON_SCHEMA = pa.schema(
    {
        "question_id": pa.string(),
        "neuron_count": pa.int64(),
        "neuron_ids": pa.list_(pa.uint32()),
        "scores": pa.list_(pa.float32()),
        "num_tokens": pa.int64(),
    }
)

ADDED_LATER = frozenset({"final_start"})
"""Columns that files of version 0.1 do not have."""


@contextmanager
def opened_table(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file that we wrote, and turn what Arrow raises over it."""
    try:
        with reading(path, MAKE_AGAIN), pq.ParquetFile(path) as file:
            check_columns(path, file.schema_arrow, schema)
            yield file
    except MemoryError:
        raise  # Arrow's own is of both kinds
    except pa.ArrowException as error:
        raise damaged(path, first_line(error)) from error


def batches(path: Path, schema: pa.Schema, size: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file that `save_table` wrote."""
    with opened_table(path, schema) as file:
        yield from file.iter_batches(batch_size=size)


def check_columns(path: Path, found: pa.Schema, wanted: pa.Schema) -> None:
    """Refuse a table without the columns that it should have."""
    for field in wanted:
        place = found.get_field_index(field.name)
        if place < 0 and field.name not in ADDED_LATER:
            raise damaged(path, f"the table has no column {field.name}")
        if place >= 0 and found.field(place).type != field.type:
            kind = found.field(place).type
            raise damaged(
                path, f"the column {field.name} holds {kind}, not {field.type}"
            )


def damaged(path: Path, reason: str) -> DataError:
    """Return what to raise over a file of ours that does not hold what it should."""
    return DataError(f"{path} does not hold what it should: {reason}{MAKE_AGAIN}")
