"""Nearest sets in a pool of a million: the sets with the nearest sketches, re-ranked.

The width of the search is chosen on a sample of queries, by its recall.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.retrieval import bitsets, exact
from neuron_opsd.method.retrieval.bitsets import NeuronSets
from neuron_opsd.method.retrieval.exact import Ranking, Rows
from neuron_opsd.method.retrieval.sketches import (
    Sketches,
    is_among,
    make_sketches,
    nearest_sketches,
)
from neuron_opsd.records import NeuronIds
from neuron_opsd.seeds import generator

RECALL = 0.97
"""Share of the sample's true nearest to find.

We promise 0.95, but the first width to pass is a lucky one: of a million sets, one with
0.965 on its sample found 0.948 of the others."""

NUM_SAMPLED = 128
"""Queries in the sample; its recall errs by about 0.006."""

NUM_COLUMNS = 1024
"""Neurons in the shortest sketches."""

HUGE = 64
"""Size ratio above which a set is searched, not scanned."""

MOST_BYTES = 2**30
"""Limit for a pool's sketches."""

NUM_CANDIDATES = (64, 128, 256)
"""Numbers of candidates to try before lengthening sketches."""


@dataclass(frozen=True, slots=True)
class Width:
    """How wide a search is."""

    num_candidates: int
    recall: float
    """On a sample, in [0, 1]."""


def rank_exactly(
    ids: NeuronIds, pool: NeuronSets, rows: Rows, barred: Rows, count: int
) -> Ranking:
    """Return the nearest of some pool rows by exact distance."""
    allowed = np.sort(rows[~is_among(rows, barred)])
    others = [pool[int(row)] for row in allowed]
    sizes = np.array([other.size for other in others], np.int64)
    shared = num_shared(ids, others)
    distances = exact.distances_of(shared, ids.size, sizes)
    places, distances = exact.first(distances, count)
    return allowed[places], distances


def num_shared(ids: NeuronIds, others: NeuronSets) -> NDArray[np.int32]:
    """Return how many neurons a set shares with each of the others."""
    # Otherwise one huge set would be scanned for every set that it is a candidate of.
    most = HUGE * (ids.size + 1)
    cut = [o if o.size <= most else ids[is_among(ids, o)] for o in others]
    flat, sizes = bitsets.flatten(cut)
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.isin(flat, ids))])
    ends = np.cumsum(sizes)
    return np.asarray(total[ends] - total[ends - sizes], np.int32)


def approximate_nearest(
    sketches: Sketches,
    pool: NeuronSets,
    sets: NeuronSets,
    barred: Sequence[Rows],
    count: int,
    num_candidates: int,
) -> Iterator[Ranking]:
    """Yield the nearest of each set's candidates, without its `barred` rows."""
    found = nearest_sketches(sketches, sets, num_candidates, barred)
    each = zip(sets, chain.from_iterable(found), barred, strict=True)
    for ids, rows, out in each:
        yield rank_exactly(ids, pool, rows, out, count)


def true_nearest(
    pool: NeuronSets, sample: NeuronSets, barred: Sequence[Rows], count: int
) -> list[Ranking]:
    """Return the exact nearest of a few sets, in one pass over the pool."""
    index = exact.make_index(sample)
    found = [exact.NONE for _ in sample]
    for chunk in bitsets.chunks(len(pool), bitsets.SETS_PER_CHUNK):
        shared = exact.shared_counts(index, pool[chunk])
        sizes = np.array([ids.size for ids in pool[chunk]], np.int64)
        for i, ids in enumerate(sample):
            counts = np.ascontiguousarray(shared[:, i])
            new = exact.distances_of(counts, ids.size, sizes)
            found[i] = exact.with_more(found[i], new, chunk, barred[i], count)
    return found


def recall_of(found: Sequence[Ranking], true: Sequence[Ranking]) -> float:
    """Return the share of the true nearest found; ties count as found."""
    hits = sum(
        int((mine <= best[-1]).sum())
        for (_, mine), (_, best) in zip(found, true, strict=True)
        if best.size
    )
    total = sum(rows.size for rows, _ in true)
    return hits / total if total else 1.0


def measure_width(
    pool: NeuronSets, sets: NeuronSets, barred: Sequence[Rows], count: int
) -> tuple[Width, Sketches]:
    """Return how wide to search, and the sketches for it.

    Tries more candidates, then longer sketches, until the sample's recall reaches
    `RECALL` or sketches their limit.
    """
    order = generator("candidates", len(sets)).permutation(len(sets))
    drawn = np.sort(order[:NUM_SAMPLED]).tolist()
    sample, out = [sets[i] for i in drawn], [barred[i] for i in drawn]
    true = true_nearest(pool, sample, out, count)

    def measured(sketches: Sketches, width: int) -> tuple[Width, Sketches]:
        ranked = approximate_nearest(sketches, pool, sample, out, count, width)
        recall = recall_of(list(ranked), true)
        return Width(width, recall), sketches

    tried = (
        measured(sketches, max(least, 2 * count))
        for sketches in lengthening(pool)
        for least in NUM_CANDIDATES
    )
    found = next(tried)
    while found[0].recall < RECALL and (wider := next(tried, None)):
        found = wider
    return found


def lengthening(pool: NeuronSets) -> Iterator[Sketches]:
    """Yield sketches of doubling length, up to whole sets or `MOST_BYTES`."""
    names, counts = bitsets.count_sets(pool)
    order = np.argsort(-counts, kind="stable")
    most = max(NUM_COLUMNS, 8 * MOST_BYTES // max(1, len(pool)))
    num_columns = NUM_COLUMNS
    while num_columns < names.size and 2 * num_columns <= most:
        yield make_sketches(pool, np.sort(names[order[:num_columns]]))
        num_columns *= 2
    yield make_sketches(pool, np.sort(names[order[:num_columns]]))
