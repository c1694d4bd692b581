"""Candidates from a pool of a million sets, by sketches.

A sketch has one bit for each of the most common neurons. Axes: Q query sets, P sets of
the pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.retrieval import bitsets
from neuron_opsd.method.retrieval.bitsets import Columns, NeuronSets, chunks
from neuron_opsd.method.retrieval.exact import Rows
from neuron_opsd.records import NeuronIds

BYTES_PER_MOVE = 32

FEW_BARRED = 64
"""Longest list of barred rows stored per set."""

ROWS_PER_PASS = 2048


@dataclass(frozen=True, slots=True)
class Sketches:
    """A pool's sketches, smallest first."""

    columns: Columns
    packed: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    """Bits set; ascending, so that a chunk's sizes differ little."""
    rows: Rows
    """Each sketch's row in the pool."""


def make_sketches(pool: NeuronSets, names: NeuronIds) -> Sketches:
    """Cut a pool to the sorted `names`."""
    columns = bitsets.make_columns(names)
    packed = bitsets.pack(pool, columns)
    sizes = num_bits(packed)
    rows = np.argsort(sizes, kind="stable")
    # A few bytes of all rows at a time: a second copy of a million is too much.
    for few in chunks(packed.shape[1], BYTES_PER_MOVE):
        packed[:, few] = packed[rows, few]
    return Sketches(columns, packed, sizes[rows], rows)


def num_bits(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the bits set in each row."""
    sizes = np.empty(len(packed), np.int64)
    for chunk in chunks(len(packed), bitsets.SETS_PER_CHUNK):
        sizes[chunk] = np.bitwise_count(packed[chunk]).sum(axis=1, dtype=np.int64)
    return sizes


class Barring:
    """Which rows of a pool may not be found for which sets."""

    def __init__(self, barred: Sequence[Rows], num_rows: int) -> None:
        """Take each set's sorted barred rows.

        Sets may share a long list, as a million questions with one text do.
        """
        self.num_rows = num_rows
        self.sizes = np.fromiter((rows.size for rows in barred), np.int64, len(barred))
        few = [i for i, rows in enumerate(barred) if rows.size <= FEW_BARRED]
        none = np.empty(0, np.int64)
        keys = np.concatenate([none, *(i * num_rows + barred[i] for i in few)])
        self.keys = np.sort(keys)
        """Pairs of a set and a row, for sets with few."""
        many: dict[int, list[int]] = {}
        for i, rows in enumerate(barred):
            if rows.size > FEW_BARRED:
                many.setdefault(id(rows), []).append(i)
        self.many = [(np.array(sets), barred[sets[0]]) for sets in many.values()]

    def allows(self, asked: Rows, rows: Rows) -> NDArray[np.bool_]:
        """Tell for each pair of a set and a row whether it may be found."""
        allowed = ~is_among(asked * self.num_rows + rows, self.keys)
        for sets, barred in self.many:
            mine = np.flatnonzero(is_among(asked, sets))
            allowed[mine] = ~is_among(rows[mine], barred)
        return allowed


def is_among(values: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which integers are among some sorted others."""
    if not others.size:
        return np.zeros(values.size, np.bool_)
    places = np.minimum(np.searchsorted(others, values), others.size - 1)
    return np.asarray(others[places] == values, np.bool_)


@dataclass(slots=True)
class Matches:
    """Matches of a pass so far: queries, places in `Sketches`, shares of bits."""

    asked: Rows
    places: Rows
    shares: NDArray[np.float64]

    def keep(self, rows: Rows, count: int) -> None:
        """Keep the `count` best matches of each set, ties by row."""
        order = np.lexsort((rows[self.places], -self.shares, self.asked))
        asked = self.asked[order]
        rank = np.arange(asked.size) - np.searchsorted(asked, asked)
        kept = order[rank < count]
        self.asked = self.asked[kept]
        self.places = self.places[kept]
        self.shares = self.shares[kept]

    def add(self, asked: Rows, places: Rows, shares: NDArray[np.float64]) -> None:
        """Add matches."""
        self.asked = np.concatenate([self.asked, asked])
        self.places = np.concatenate([self.places, places])
        self.shares = np.concatenate([self.shares, shares])


def nearest_sketches(
    sketches: Sketches, sets: NeuronSets, count: int, barred: Sequence[Rows]
) -> Iterator[list[Rows]]:
    """Yield, per pass, the rows of the `count` nearest sketches of each set.

    Equals sorting all rows not `barred` (sorted) by share of common bits, then by row.
    """
    for chunk in chunks(len(sets), ROWS_PER_PASS):
        asked = bitsets.pack(sets[chunk], sketches.columns)
        barring = Barring(barred[chunk], sketches.rows.size)
        matches = search(sketches, asked, count, barring)
        edges = np.searchsorted(matches.asked, np.arange(1, chunk.stop - chunk.start))
        yield np.split(sketches.rows[matches.places], edges)


def search(
    sketches: Sketches, asked: NDArray[np.uint8], count: int, barring: Barring
) -> Matches:
    """Return the nearest `count` for packed sets, in one pass over the pool."""
    sizes = num_bits(asked)
    bounds = Bounds(np.zeros(len(asked)), np.full(len(asked), sketches.rows.size))
    matches = Matches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    for chunk, shared in bitsets.shared_bits(asked, sketches.packed):
        others, rows = sketches.sizes[chunk], sketches.rows[chunk]
        if chunk.start == 0:
            bounds.shares = kth_shares(shared, sizes, others, count + barring.sizes)
        least = least_shared(bounds, sizes, int(others[0]), int(rows.min()))
        spots = np.flatnonzero(shared >= least)
        sets, columns = np.divmod(spots, shared.shape[1])
        shares = bitsets.share_of(shared.ravel()[spots], sizes[sets], others[columns])
        good = np.flatnonzero(bounds.reached(sets, shares, rows[columns]))
        good = good[barring.allows(sets[good], rows[columns[good]])]
        matches.add(sets[good], chunk.start + columns[good], shares[good])
        if matches.asked.size > 2 * count * len(asked):
            matches.keep(sketches.rows, count)
            bounds.rise(matches, sketches.rows, count)
    matches.keep(sketches.rows, count)
    return matches


@dataclass(slots=True)
class Bounds:
    """What a match must exceed to be among the best of its set so far."""

    shares: NDArray[np.float64]
    """``(Q,)`` shares of bits; larger is good."""
    rows: Rows
    """``(Q,)``; at an equal share, earlier rows are good."""

    def reached(
        self, asked: Rows, shares: NDArray[np.float64], rows: Rows
    ) -> NDArray[np.bool_]:
        """Tell which matches are good."""
        bound = self.shares[asked]
        earlier = rows < self.rows[asked]
        return np.greater(shares, bound) | (np.equal(shares, bound) & earlier)

    def rise(self, matches: Matches, rows: Rows, count: int) -> None:
        """Rise, after `Matches.keep`, to the last match of each set with `count`."""
        ends = np.searchsorted(matches.asked, np.arange(self.rows.size), side="right")
        starts = np.searchsorted(matches.asked, np.arange(self.rows.size))
        is_full = ends - starts == count
        last = ends[is_full] - 1
        self.shares[is_full] = matches.shares[last]
        self.rows[is_full] = rows[matches.places[last]]


def kth_shares(
    shared: NDArray[np.int32],
    sizes: NDArray[np.int64],
    others: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return each row's share at its rank in `counts`; 0 if the chunk has none."""
    shares = np.zeros(sizes.size)
    for i in np.flatnonzero(counts <= others.size):
        row, place = shared[i], others.size - counts[i]
        share = bitsets.share_of(row, np.broadcast_to(sizes[i], row.shape), others)
        shares[i] = np.partition(share, place)[place]
    return shares


def least_shared(
    bounds: Bounds, sizes: NDArray[np.int64], smallest: int, first_row: int
) -> NDArray[np.int32]:
    """Return the fewest bits ``(Q, 1)`` a match in a chunk must share.

    An integer comparison then replaces a division, and loses nothing that reaches the
    bounds. Equal shares do not suffice if no row precedes the bound's.
    """
    least = bounds.shares / (1.0 + bounds.shares) * (sizes + smallest)
    # Far below any such quotient's distance from a whole number.
    above = np.floor(least + 1e-9) + 1.0
    either = np.where(bounds.rows <= first_row, above, np.ceil(least - 1e-6))
    return either.astype(np.int32)[:, None]
