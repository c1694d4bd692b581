"""The nearest sets of a pool, exactly, for tens of thousands of sets.

Common neurons are counted by a product of zeros and ones, rare ones through the few
sets that hold them; either alone would be far slower.

Axes: Q query sets, P sets of the pool, N neurons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.retrieval import bitsets
from neuron_opsd.method.retrieval.bitsets import Columns, NeuronSets, chunks, columns_of
from neuron_opsd.records import NeuronIds

Rows: TypeAlias = NDArray[np.int64]
Ranking: TypeAlias = tuple[Rows, NDArray[np.float64]]
"""Rows and distances, nearest first."""

NONE: Final[Ranking] = np.empty(0, np.int64), np.empty(0)

COMMON = 32
"""A neuron gets a column if at least one set in this many holds it.

A pair of sets costs 1/400 ns per column, and 3 ns per shared neuron without one:
columns pay if more than about one pair in 1,000 shares the neuron."""

COUNTS_PER_CHUNK = 2**25


@dataclass(frozen=True, slots=True)
class Index:
    """A pool, laid out to count the neurons it shares with other sets."""

    sizes: NDArray[np.int64]
    """``(P,)``."""
    common: Columns
    packed: NDArray[np.uint8]
    rare: Columns
    ends: NDArray[np.int64]
    """Where each rare neuron's part of `holders` ends, after a leading 0."""
    holders: NDArray[np.uint32]
    """Pool rows, by rare neuron."""


def make_index(pool: NeuronSets) -> Index:
    """Lay out a pool, in about as much memory as the pool itself."""
    names, counts = bitsets.count_sets(pool)
    is_common = counts * COMMON >= len(pool)
    common = bitsets.make_columns(names[is_common])
    rare = bitsets.make_columns(names[~is_common])
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts[~is_common])])
    return Index(
        sizes=np.fromiter((ids.size for ids in pool), np.int64, len(pool)),
        common=common,
        packed=bitsets.pack(pool, common),
        rare=rare,
        ends=ends,
        holders=list_holders(pool, rare, ends),
    )


def list_holders(
    pool: NeuronSets, rare: Columns, ends: NDArray[np.int64]
) -> NDArray[np.uint32]:
    """Return the pool rows that hold each rare neuron, by neuron."""
    holders = np.empty(int(ends[-1]), np.uint32)
    free = ends[:-1].copy()
    for chunk in chunks(len(pool), bitsets.SETS_PER_CHUNK):
        flat, sizes = bitsets.flatten(pool[chunk])
        known, places = columns_of(flat, rare)
        rows = np.repeat(np.arange(chunk.start, chunk.stop), sizes)[known]
        order = np.argsort(places, kind="stable")
        times = np.bincount(places, minlength=rare.names.size)
        firsts = np.cumsum(times) - times
        holders[np.repeat(free - firsts, times) + np.arange(order.size)] = rows[order]
        free += times
    return holders


def shared_counts(index: Index, sets: NeuronSets) -> NDArray[np.int32]:
    """Return how many neurons each set shares with each of the pool, ``(Q, P)``."""
    shared = np.empty((len(sets), index.sizes.size), np.int32)
    step = min(1024, bitsets.CHUNK_BYTES // (8 * index.packed.shape[1]))
    for rows in chunks(len(sets), step):
        packed = bitsets.pack(sets[rows], index.common)
        for columns, counts in bitsets.shared_bits(packed, index.packed):
            shared[rows, columns] = counts
    for i, ids in enumerate(sets):
        holders = holders_of(index, ids)
        shared[i] += np.bincount(holders, minlength=index.sizes.size).astype(np.int32)
    return shared


def holders_of(index: Index, ids: NeuronIds) -> NDArray[np.uint32]:
    """Return the pool rows that hold the rare neurons among `ids`, with repeats."""
    _, places = columns_of(ids, index.rare)
    firsts = index.ends[places]
    lengths = index.ends[places + 1] - firsts
    before = np.cumsum(lengths) - lengths
    spots = np.repeat(firsts - before, lengths) + np.arange(int(lengths.sum()))
    return index.holders[spots]


def distances_of(
    shared: NDArray[np.int32], size: int, sizes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return distances ``(P,)`` from shared counts; see `jaccard_distance`."""
    shares = bitsets.share_of(shared, size, sizes)
    return np.subtract(1.0, shares, out=shares)


def distance_rows(index: Index, sets: NeuronSets) -> Iterator[NDArray[np.float64]]:
    """Yield each set's distances ``(P,)`` to the pool, in order."""
    num_columns = max(1, index.sizes.size)
    for chunk in chunks(len(sets), COUNTS_PER_CHUNK // num_columns):
        part = sets[chunk]
        for ids, shared in zip(part, shared_counts(index, part), strict=True):
            yield distances_of(shared, ids.size, index.sizes)


def nearest_rows(
    index: Index, sets: NeuronSets, count: int, barred: Sequence[Rows]
) -> Iterator[Ranking]:
    """Yield each set's `count` nearest pool rows at most, none `barred`."""
    for row, out in zip(distance_rows(index, sets), barred, strict=True):
        row[out] = np.inf
        yield first(row, count)


def first(distances: NDArray[np.float64], count: int) -> Ranking:
    """Return the places of the smallest finite distances; ties go to the earlier."""
    count = min(count, int(np.isfinite(distances).sum()))
    if count == 0:
        return NONE
    bound = np.partition(distances, count - 1)[count - 1]
    rows = np.flatnonzero(distances <= bound)
    order = rows[np.argsort(distances[rows], kind="stable")[:count]]
    return order, distances[order]


def with_more(
    found: Ranking,
    distances: NDArray[np.float64],
    chunk: slice,
    barred: Rows,
    count: int,
) -> Ranking:
    """Update the nearest so far with one more chunk of the pool.

    Leaves out `barred` rows and overwrites their distances.
    """
    start, stop = np.searchsorted(barred, [chunk.start, chunk.stop])
    distances[barred[start:stop] - chunk.start] = np.inf
    places, near = first(np.concatenate([found[1], distances]), count)
    rows = np.concatenate([found[0], np.arange(chunk.start, chunk.stop)])
    return rows[places], near
