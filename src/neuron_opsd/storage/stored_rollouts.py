"""Rollouts that stay in their file, so memory holds neither texts nor tokens.

Eight long rollouts for each of 50,000 questions take tens of gigabytes as objects.
Iteration reads batches; votes and measures take summaries.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import accumulate, chain, groupby, islice
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, overload

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neuron_opsd.answers.reasoning import final_start
from neuron_opsd.documents import first_line
from neuron_opsd.errors import DataError
from neuron_opsd.records import Completion, Rollout, RolloutSummary, StoredSummary
from neuron_opsd.storage.disk import MAKE_AGAIN, reading

Item = TypeVar("Item")
Given = TypeVar("Given")
Given_co = TypeVar("Given_co", covariant=True)

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
ADDED_LATER = frozenset({"final_start"})
"""Columns missing in files of version 0.1."""

ROWS_READ: Final = 64
"""Rollouts held as objects while iterating."""
SUMMARIES_READ: Final = 4096

SUMMARY_COLUMNS: Final = (
    *("question_id", "index", "temperature", "answer", "finished"),
    *("logprob", "entropy"),
)
"""Columns copied into a summary."""

REPEATED: Final = frozenset(("question_id", "answer"))
"""Columns of recurring texts, held once per batch."""


class StoredRollouts(Sequence[Rollout]):
    """The rollouts of a Parquet file, reread on each iteration."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened_table(path, ROLLOUT_SCHEMA) as file:
            meta = file.metadata
            sizes = [meta.row_group(n).num_rows for n in range(meta.num_row_groups)]
        self._ends = list(accumulate(sizes))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Rollout]:
        known: dict[int, int] = {}
        with opened_table(self.path, ROLLOUT_SCHEMA) as file:
            for batch in file.iter_batches(ROWS_READ):
                yield from rollouts_in(batch, known)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return False
        return all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # equal to other sequences

    @overload
    def __getitem__(self, index: int) -> Rollout: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Rollout]: ...
    def __getitem__(self, index: int | slice) -> Rollout | Sequence[Rollout]:
        places = range(len(self))[index]
        if isinstance(places, range):
            return tuple(self.at(places))
        return next(self.at([places]))

    def at(self, rows: Iterable[int]) -> Iterator[Rollout]:
        """Yield the full rollouts of some rows, in the given order.

        Rows count from 0; neighbours are read together.
        """
        known: dict[int, int] = {}
        with opened_table(self.path, ROLLOUT_SCHEMA) as file:
            for group, places in groupby(map(self._place, rows), key=lambda p: p[0]):
                table = file.read_row_group(group)
                while some := [row for _, row in islice(places, ROWS_READ)]:
                    for batch in table.take(some).to_batches():
                        yield from rollouts_in(batch, known)

    def summaries(self) -> Iterator[StoredSummary]:
        """Yield each rollout's summary for votes and measures."""
        row = 0
        with opened_table(self.path, ROLLOUT_SCHEMA) as file:
            # Files of version 0.1 lack the start of the final answer.
            known = "final_start" in file.schema_arrow.names
            closing = "final_start" if known else "text"
            columns = [*SUMMARY_COLUMNS, "token_ids", closing]
            for batch in file.iter_batches(SUMMARIES_READ, columns=columns):
                yield from summaries_in(batch, row)
                row += batch.num_rows

    def _place(self, row: int) -> tuple[int, int]:
        group = bisect_right(self._ends, row)
        return group, row - (self._ends[group - 1] if group else 0)


def summaries_of(rollouts: Iterable[Rollout]) -> Iterable[RolloutSummary]:
    """Return summaries for votes and measures, from any file."""
    return rollouts.summaries() if isinstance(rollouts, StoredRollouts) else rollouts


def in_full(whole: Sequence[Rollout], some: Iterable[RolloutSummary]) -> list[Rollout]:
    """Return some rollouts with texts and tokens."""
    if not isinstance(whole, StoredRollouts):
        return [one for one in some if isinstance(one, Rollout)]
    return list(whole.at(one.row for one in some if isinstance(one, StoredSummary)))


class Held(Protocol[Given_co]):
    """Gives access to what was written to questions."""

    def completions(self, ids: Sequence[str]) -> Sequence[Given_co]:
        """Return what was written to some questions, in full."""


def rows_of(whole: Sequence[Rollout], rows: Iterable[int]) -> Iterator[Rollout]:
    """Yield the full rollouts of some rows."""
    if isinstance(whole, StoredRollouts):
        return whole.at(rows)
    return (whole[row] for row in rows)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rollout that represents each question."""

    rollouts: Sequence[Rollout]
    facts: Mapping[str, RolloutSummary]
    """By question id, without texts if a file keeps them."""

    def completions(self, ids: Sequence[str]) -> list[Completion]:
        """Return the completions of some questions in full."""
        some = in_full(self.rollouts, [self.facts[name] for name in ids])
        return [rollout.completion for rollout in some]


class Samples:
    """All sampled rollouts of each question, by place only."""

    def __init__(self, rollouts: Sequence[Rollout]) -> None:
        """Index rollouts, given in any order."""
        self._rollouts = rollouts
        self._rows: dict[str, array[int]] = {}
        for row, one in enumerate(summaries_of(rollouts)):
            if one.temperature > 0.0:
                self._rows.setdefault(one.question_id, array("q")).append(row)

    def completions(self, ids: Sequence[str]) -> list[tuple[Rollout, ...]]:
        """Return the sampled rollouts of some questions in full."""
        groups = [self._rows.get(name, array("q")) for name in ids]
        found = rows_of(self._rollouts, chain.from_iterable(groups))
        return [tuple(islice(found, len(group))) for group in groups]


class Made(Sequence[Item]):
    """Items computed in batches on each iteration."""

    def __init__(self, places: range, make: Callable[[range], Sequence[Item]]) -> None:
        self._places = places
        self._make = make

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._make(self._places))

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return Made(self._places[index], self._make)
        place = self._places[index]
        (found,) = self._make(range(place, place + 1))
        return found


class Answered(Made[tuple[Item, Given]]):
    """Items with what was written to their questions, read on iteration.

    That is the chosen completion, or all sampled rollouts.
    """

    def __init__(
        self, items: Sequence[Item], ids: Sequence[str], chosen: Held[Given]
    ) -> None:
        def make(places: range) -> list[tuple[Item, Given]]:
            found = chosen.completions([ids[place] for place in places])
            some = [items[place] for place in places]
            return list(zip(some, found, strict=True))

        super().__init__(range(len(items)), make)


def summaries_in(batch: pa.RecordBatch, row: int) -> Iterator[StoredSummary]:
    """Yield summaries of a batch that begins at `row` of the file."""
    lengths = pc.list_value_length(batch.column("token_ids")).to_pylist()
    if "final_start" in batch.schema.names:
        closed = batch.column("final_start").is_valid().to_pylist()
    else:
        texts = batch.column("text").to_pylist()
        closed = [final_start(text) is not None for text in texts]
    columns = {name: plain_list(batch, name) for name in SUMMARY_COLUMNS}
    columns |= {"num_tokens": lengths, "is_closed": closed}
    columns |= {"row": list(range(row, row + batch.num_rows))}
    ordered = [columns[field.name] for field in fields(StoredSummary)]
    return (StoredSummary(*values) for values in zip(*ordered, strict=True))


def plain_list(batch: pa.RecordBatch, name: str) -> list[Any]:
    """Return a column as Python values, sharing equal texts."""
    column = batch.column(name)
    if name not in REPEATED:
        return list(column.to_pylist())
    coded = column.dictionary_encode()
    values = coded.dictionary.to_pylist()
    codes = coded.indices.to_pylist()
    return [None if code is None else values[code] for code in codes]


def rollouts_in(batch: pa.RecordBatch, known: dict[int, int]) -> Iterator[Rollout]:
    """Yield the full rollouts of a batch."""
    return (rollout_of(row, known) for row in batch.to_pylist())


def rollout_of(row: Mapping[str, Any], known: dict[int, int]) -> Rollout:
    """Convert a Parquet row, by column, to a rollout.

    Sharing token id objects takes a fifth of the memory of long traces.
    """
    ids, text = row["token_ids"], row["text"]
    known_start = None if "final_start" in row else final_start(text)
    return Rollout(
        question_id=row["question_id"],
        index=row["index"],
        temperature=row["temperature"],
        completion=Completion(
            token_ids=tuple(map(known.setdefault, ids, ids)),
            text=text,
            finished=row["finished"],
            logprob=row["logprob"],
            entropy=row["entropy"],
            # Files of version 0.1 have no such column.
            final_start=row.get("final_start", known_start),
        ),
        answer=row["answer"],
    )


@contextmanager
def opened_table(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file of ours: the doorway of Arrow."""
    try:
        with reading(path, MAKE_AGAIN), pq.ParquetFile(path) as file:
            check_columns(path, file.schema_arrow, schema)
            yield file
    except MemoryError:
        raise  # Arrow's own is of both kinds
    except pa.ArrowException as error:
        raise damaged(path, first_line(error)) from error


def check_columns(path: Path, found: pa.Schema, wanted: pa.Schema) -> None:
    """Refuse a table without the required columns."""
    for one in wanted:
        place = found.get_field_index(one.name)
        if place < 0 and one.name not in ADDED_LATER:
            raise damaged(path, f"the table has no column {one.name}")
        if place >= 0 and (kind := found.field(place).type) != one.type:
            raise damaged(path, f"the column {one.name} holds {kind}, not {one.type}")


def damaged(path: Path, reason: str) -> DataError:
    """Return the error for a damaged file of ours."""
    return DataError(f"{path} does not hold what it should: {reason}{MAKE_AGAIN}")
