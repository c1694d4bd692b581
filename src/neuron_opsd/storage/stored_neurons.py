"""Neuron sets that stay in their file: memory holds a few hundred at a time.

The sets of 100,000 questions of a 4B model are 4 GB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, overload

from neuron_opsd.records import NeuronSet
from neuron_opsd.storage.codecs import NEURON_SCHEMA, NEURONS, neuron_sets
from neuron_opsd.storage.stored_rollouts import opened_table

SETS_READ: Final = 512


class StoredNeurons(Sequence[NeuronSet]):
    """The sets of a Parquet file, reread on each iteration."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened_table(path, NEURON_SCHEMA) as file:
            self._size = int(file.metadata.num_rows)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[NeuronSet]:
        with opened_table(self.path, NEURON_SCHEMA) as file:
            for batch in file.iter_batches(SETS_READ):
                yield from neuron_sets(batch)

    @overload
    def __getitem__(self, index: int) -> NeuronSet: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[NeuronSet]: ...
    def __getitem__(self, index: int | slice) -> NeuronSet | Sequence[NeuronSet]:
        return tuple(self)[index]


STORED_NEURONS: Final = replace(NEURONS, read=StoredNeurons)
