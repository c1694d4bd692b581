"""Lossless conversion of records to files and back.

Tables are Parquet, the rest is JSON; neither can hold code. Equal values give equal
bytes. Half a surrogate pair, which no file can hold, becomes U+FFFD.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from neuron_opsd.documents import DocumentError, fault_in, parse_json
from neuron_opsd.records import (
    NeuronSet,
    Rollout,
    SelectionEntry,
    TeacherCheck,
    TeacherContext,
)
from neuron_opsd.records.beliefs import Belief, Medoid, QuestionState
from neuron_opsd.storage import stored_rollouts
from neuron_opsd.storage.disk import MAKE_AGAIN, read_plain, reading
from neuron_opsd.storage.files import write_atomic, write_file

T = TypeVar("T")
Record = TypeVar("Record")
NEURON_SCHEMA = pa.schema(
    {
        "question_id": pa.string(),
        "neuron_count": pa.int64(),
        "neuron_ids": pa.list_(pa.uint32()),
        "scores": pa.list_(pa.float32()),
        "num_tokens": pa.int64(),
    }
)

STATE_SCHEMA = pa.schema({"question_id": pa.string(), "values": pa.list_(pa.float32())})

ROWS_PER_GROUP = 4096


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """How one type of value is written and read."""

    file_name: str
    """Its file in a run directory, `/` for folders."""
    save: Callable[[T, Path], None]
    """Writes the file atomically."""
    read: Callable[[Path], T]
    """Reads it; library errors pass through."""

    def load(self, path: Path) -> T:
        """Read a file of ours, or raise why it cannot be read."""
        try:
            with reading(path, MAKE_AGAIN):
                return self.read(path)
        except (DocumentError, UnicodeDecodeError, ValidationError) as error:
            raise stored_rollouts.damaged(path, fault_in(error)) from None

    def named(self, name: str) -> Codec[T]:
        """Return this codec for another name, without suffix."""
        return replace(self, file_name=name + Path(self.file_name).suffix)


def json_codec(file_name: str) -> Codec[Any]:
    """Return a codec for JSON values; tuples become lists."""
    return Codec(file_name, save_json, load_json)


def text_codec(file_name: str) -> Codec[str]:
    """Return a codec for text."""
    return Codec(
        file_name,
        lambda text, path: write_atomic(path, encode(text)),
        lambda path: read_plain(path).decode(),
    )


def record_codec(file_name: str, kind: type[Record]) -> Codec[Record]:
    """Return a codec for one record as a JSON object."""
    adapter = TypeAdapter(kind)

    def save(record: Record, path: Path) -> None:
        save_json(adapter.dump_python(record), path)

    def load(path: Path) -> Record:
        return adapter.validate_python(load_json(path))

    return Codec(file_name, save, load)


def records_codec(file_name: str, kind: type[Record]) -> Codec[Sequence[Record]]:
    """Return a codec for a JSON list, one record per line."""
    adapter = TypeAdapter(kind)

    def save(records: Sequence[Record], path: Path) -> None:
        tables = (adapter.dump_python(record) for record in records)
        write_listing((encode(to_json(table)) for table in tables), path)

    def load(path: Path) -> Sequence[Record]:
        return tuple(adapter.validate_python(table) for table in read_listing(path))

    return Codec(file_name, save, load)


def write_listing(lines: Iterable[bytes], path: Path) -> None:
    """Stream records as JSON, one per line."""

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(b"[\n")
            for number, line in enumerate(lines):
                file.write((b",\n" if number else b"") + line)
            file.write(b"\n]\n")

    write_file(path, fill)


def read_listing(path: Path) -> Iterator[Any]:
    """Yield records from `write_listing`; equal texts are shared."""
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
    """Replace texts in a value by known equal ones."""
    if isinstance(value, str):
        return known.setdefault(value, value)
    if isinstance(value, list):
        return [shared(one, known) for one in value]
    if isinstance(value, dict):
        return {name: shared(one, known) for name, one in value.items()}
    return value


def save_json(value: Any, path: Path) -> None:
    """Write a value as JSON with one field per line."""
    write_atomic(path, encode(to_json(value, indent=2) + "\n"))


def load_json(path: Path) -> Any:
    """Read a JSON file, or raise a `DocumentError`."""
    return parse_json(read_plain(path))


def without_nan(value: Any) -> Any:
    """Replace NaN and infinities by `None`."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value):
        return {f.name: without_nan(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {name: without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return value


def to_json(value: Any, indent: int | None = None) -> str:
    """Write a value as JSON; infinite numbers as Python reads them."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def encode(text: str) -> bytes:
    """Encode text as UTF-8 without half surrogate pairs."""
    return writable(text).encode()


def writable(text: str) -> str:
    """Replace half surrogate pairs by U+FFFD."""
    # UTF-16 also joins pairs given as two characters.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def rollout_batch(rollouts: Sequence[Rollout]) -> pa.RecordBatch:
    """Convert rollouts to columns."""
    completions = [rollout.completion for rollout in rollouts]
    answers = [rollout.answer for rollout in rollouts]
    columns = {
        "question_id": [writable(rollout.question_id) for rollout in rollouts],
        "index": [rollout.index for rollout in rollouts],
        "temperature": [rollout.temperature for rollout in rollouts],
        "token_ids": [completion.token_ids for completion in completions],
        "text": [writable(completion.text) for completion in completions],
        "finished": [completion.finished for completion in completions],
        "logprob": [completion.logprob for completion in completions],
        "entropy": [completion.entropy for completion in completions],
        "answer": [None if answer is None else writable(answer) for answer in answers],
        "final_start": [completion.final_start for completion in completions],
    }
    return pa.RecordBatch.from_pydict(columns, schema=stored_rollouts.ROLLOUT_SCHEMA)


def neuron_batch(sets: Sequence[NeuronSet]) -> pa.RecordBatch:
    """Convert neuron sets to columns."""
    columns = {
        "question_id": [writable(item.question_id) for item in sets],
        "neuron_count": [item.neuron_count for item in sets],
        "neuron_ids": list_array([item.neuron_ids for item in sets], pa.uint32()),
        "scores": list_array([item.scores for item in sets], pa.float32()),
        "num_tokens": [int(item.num_tokens) for item in sets],
    }
    return pa.RecordBatch.from_pydict(columns, schema=NEURON_SCHEMA)


def neuron_sets(batch: pa.RecordBatch) -> Iterator[NeuronSet]:
    """Yield neuron sets from rows."""
    return map(
        NeuronSet,
        batch.column("question_id").to_pylist(),
        batch.column("neuron_count").to_pylist(),
        list_items(batch.column("neuron_ids")),
        list_items(batch.column("scores")),
        batch.column("num_tokens").to_pylist(),
    )


def state_batch(states: Sequence[QuestionState]) -> pa.RecordBatch:
    """Convert hidden states to columns."""
    columns = {
        "question_id": [writable(item.question_id) for item in states],
        "values": list_array([item.values for item in states], pa.float32()),
    }
    return pa.RecordBatch.from_pydict(columns, schema=STATE_SCHEMA)


def states_in(batch: pa.RecordBatch) -> Iterator[QuestionState]:
    """Yield hidden states from rows."""
    return map(
        QuestionState,
        batch.column("question_id").to_pylist(),
        list_items(batch.column("values")),
    )


def list_array(arrays: Sequence[NDArray[Any]], kind: pa.DataType) -> pa.ListArray:
    """Convert arrays of any lengths to a column of lists."""
    lengths = [len(array) for array in arrays]
    offsets = np.cumsum([0, *lengths], dtype=np.int32)
    values = pa.array(np.concatenate(arrays)).cast(kind)
    return pa.ListArray.from_arrays(offsets, values)


def list_items(column: pa.ListArray) -> list[NDArray[Any]]:
    """Convert a column of lists to arrays."""
    offsets = column.offsets.to_numpy()
    values = column.values.to_numpy()
    return [values[start:stop] for start, stop in pairwise(offsets)]


def groups(records: Iterable[T], size: int | None = None) -> Iterator[Sequence[T]]:
    """Group records by `size` or `ROWS_PER_GROUP`."""
    remaining = iter(records)
    while group := list(islice(remaining, size or ROWS_PER_GROUP)):
        yield group


def save_table(table: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> None:
    """Write a Parquet file, one row group per batch."""

    def fill(temporary: Path) -> None:
        # A Python file's errors, unlike Arrow's, keep the disk's reason.
        with temporary.open("xb") as file:
            writer = pq.ParquetWriter(file, schema, compression="zstd")
            try:
                for batch in table:
                    writer.write_batch(batch, row_group_size=max(1, batch.num_rows))
                writer.close()
            finally:
                # Otherwise it writes and fails again on collection.
                writer.is_open = False

    write_file(path, fill)


def table_codec(
    file_name: str,
    schema: pa.Schema,
    batch_of: Callable[[Sequence[Record]], pa.RecordBatch],
    records_in: Callable[[pa.RecordBatch], Iterator[Record]],
) -> Codec[Sequence[Record]]:
    """Return a Parquet codec; its arrays are read-only."""

    def save(records: Sequence[Record], path: Path) -> None:
        save_table(map(batch_of, groups(records)), schema, path)

    def load(path: Path) -> Sequence[Record]:
        with stored_rollouts.opened_table(path, schema) as file:
            batches = file.iter_batches(ROWS_PER_GROUP)
            return tuple(record for batch in batches for record in records_in(batch))

    return Codec(file_name, save, load)


ROLLOUTS: Codec[Sequence[Rollout]] = Codec(
    "rollouts.parquet",
    lambda rollouts, path: save_table(
        map(rollout_batch, groups(rollouts)), stored_rollouts.ROLLOUT_SCHEMA, path
    ),
    stored_rollouts.StoredRollouts,
)
NEURONS = table_codec("neurons.parquet", NEURON_SCHEMA, neuron_batch, neuron_sets)
STATES = table_codec("hidden-states.parquet", STATE_SCHEMA, state_batch, states_in)
SELECTION = records_codec("selection.json", SelectionEntry)
MEDOIDS = records_codec("medoids.json", Medoid)
CONTEXTS = records_codec("contexts.json", TeacherContext)
BELIEFS = records_codec("beliefs.json", Belief)
TEACHER_CHECK = record_codec("teacher_check.json", TeacherCheck)
