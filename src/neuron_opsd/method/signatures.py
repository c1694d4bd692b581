"""The sets of a pool of a million that look nearest by their signatures.

A signature is a set cut to the neurons that most sets hold: one bit for each.

Axes: Q sets asked about, P sets of the pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.incidence import (
    SETS_PER_BLOCK,
    Columns,
    NeuronSets,
    blocks,
    make_columns,
    pack,
    shared_bits,
)
from neuron_opsd.method.neighbours import Rows
from neuron_opsd.records import NeuronIds

BYTES_PER_MOVE = 32

ROWS_PER_PASS = 2048
"""Sets that are asked about in one pass over the pool."""


@dataclass(frozen=True, slots=True)
class Signatures:
    """A pool's sets cut to some neurons, smallest first."""

    columns: Columns
    packed: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    """Bits that are set; ascending, so that a block's sizes differ little."""
    rows: Rows
    """Where each stands in the pool."""


def make_signatures(pool: NeuronSets, names: NeuronIds) -> Signatures:
    """Cut a pool to the sorted `names`."""
    columns = make_columns(names)
    packed = pack(pool, columns)
    sizes = num_bits(packed)
    rows = np.argsort(sizes, kind="stable")
    # Some bytes of all rows at a time: a second copy of a million would be too much.
    for few in blocks(packed.shape[1], BYTES_PER_MOVE):
        packed[:, few] = packed[rows, few]
    return Signatures(columns, packed, sizes[rows], rows)


def num_bits(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how many bits are set in each row."""
    sizes = np.empty(len(packed), np.int64)
    for block in blocks(len(packed), SETS_PER_BLOCK):
        sizes[block] = np.bitwise_count(packed[block]).sum(axis=1, dtype=np.int64)
    return sizes


@dataclass(slots=True)
class Finds:
    """What a pass over the pool has found for each of its sets so far.

    A find is a set asked about, a place in `Signatures`, and the share of bits.
    """

    asked: Rows
    places: Rows
    shares: NDArray[np.float64]

    def keep(self, rows: Rows, count: int) -> None:
        """Drop all but the `count` best finds of each set; ties to the earlier row."""
        order = np.lexsort((rows[self.places], -self.shares, self.asked))
        asked = self.asked[order]
        rank = np.arange(asked.size) - np.searchsorted(asked, asked)
        kept = order[rank < count]
        self.asked = self.asked[kept]
        self.places = self.places[kept]
        self.shares = self.shares[kept]

    def add(self, asked: Rows, places: Rows, shares: NDArray[np.float64]) -> None:
        """Take in more finds."""
        self.asked = np.concatenate([self.asked, asked])
        self.places = np.concatenate([self.places, places])
        self.shares = np.concatenate([self.shares, shares])


def candidates(
    signatures: Signatures, sets: NeuronSets, count: int
) -> Iterator[list[Rows]]:
    """Yield, pass by pass, the rows of the `count` nearest signatures of each set.

    Equal to sorting the whole pool by the share of common bits and then by row,
    whatever the size of a block.
    """
    for block in blocks(len(sets), ROWS_PER_PASS):
        finds = search(signatures, pack(sets[block], signatures.columns), count)
        edges = np.searchsorted(finds.asked, np.arange(1, block.stop - block.start))
        yield np.split(signatures.rows[finds.places], edges)


def search(signatures: Signatures, asked: NDArray[np.uint8], count: int) -> Finds:
    """Go through the pool once for some packed sets and keep the nearest `count`."""
    sizes = num_bits(asked)
    # A share is at least `bounds` for a find to be among the best.
    bounds = np.zeros(len(asked))
    finds = Finds(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    for block, shared in shared_bits(asked, signatures.packed):
        others = signatures.sizes[block]
        if block.start == 0:
            bounds = kth_shares(shared, sizes, others, count)
        spots = np.flatnonzero(shared >= least_shared(bounds, sizes, int(others[0])))
        rows, columns = np.divmod(spots, shared.shape[1])
        shares = share_of(shared.ravel()[spots], sizes[rows], others[columns])
        good = shares >= bounds[rows]
        finds.add(rows[good], block.start + columns[good], shares[good])
        if finds.asked.size > 2 * count * len(asked):
            finds.keep(signatures.rows, count)
            bounds = raised(bounds, finds, count)
    finds.keep(signatures.rows, count)
    return finds


def share_of(
    shared: NDArray[np.int32], sizes: NDArray[np.int64], others: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the share of bits that two signatures have in common; 1 for empty ones."""
    used = sizes + others - shared
    shares = np.ones(used.shape)
    np.divide(shared, used, out=shares, where=used > 0)
    return shares


def kth_shares(
    shared: NDArray[np.int32],
    sizes: NDArray[np.int64],
    others: NDArray[np.int64],
    count: int,
) -> NDArray[np.float64]:
    """Return the `count`-th best share of each row of a block; 0 if there is none."""
    if count > others.size:
        return np.zeros(sizes.size)
    shares = np.empty(sizes.size)
    for i, row in enumerate(shared):
        share = share_of(row, np.broadcast_to(sizes[i], row.shape), others)
        shares[i] = np.partition(share, row.size - count)[row.size - count]
    return shares


def least_shared(
    bounds: NDArray[np.float64], sizes: NDArray[np.int64], smallest: int
) -> NDArray[np.int32]:
    """Return how many bits ``(Q, 1)`` a find must share at least.

    One comparison of integers then stands for a division; nothing that reaches the
    bound is lost, since no other set of the block is smaller.
    """
    least = bounds / (1.0 + bounds) * (sizes + smallest)
    return np.ceil(least - 1e-6).astype(np.int32)[:, None]


def raised(
    bounds: NDArray[np.float64], finds: Finds, count: int
) -> NDArray[np.float64]:
    """Return the bounds after `Finds.keep`: the share of the `count`-th find."""
    ends = np.searchsorted(finds.asked, np.arange(bounds.size), side="right")
    starts = np.searchsorted(finds.asked, np.arange(bounds.size))
    is_full = ends - starts == count
    higher = bounds.copy()
    higher[is_full] = finds.shares[ends[is_full] - 1]
    return higher
