"""Which questions of the pool become a question's demonstrations.

Axes: Q questions asked for, P questions of the pool, W words of 64 bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.records import NeuronIds, NeuronSet
from neuron_opsd.seeds import generator

BLOCK = 64


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A question of the pool and how far its neurons are."""

    question_id: str
    distance: float
    """Jaccard distance in [0, 1]."""
    reason: str


def jaccard_distance(a: NeuronIds, b: NeuronIds) -> float:
    """Return the share of the neurons used by either completion but not by both.

    Returns:
        A distance in [0, 1]; 0 for equal sets, two empty ones included.

    Source: Eq. 5 of arXiv:2607.02460.
    """
    num_shared = np.intersect1d(a, b, assume_unique=True).size
    num_used = a.size + b.size - num_shared
    return 1.0 - num_shared / num_used if num_used else 0.0


def jaccard_distances(
    rows: Sequence[NeuronIds], columns: Sequence[NeuronIds]
) -> NDArray[np.float64]:
    """Return the distances ``(Q, P)`` between two lists of sets.

    Equal to `jaccard_distance` of every pair; sets become bit masks over the neurons
    that occur, and shared neurons are counted by popcount, block by block.
    """
    names = np.unique(np.concatenate([*rows, *columns, np.empty(0, np.uint32)]))
    left, right = bit_masks(rows, names), bit_masks(columns, names)
    sizes = np.array([ids.size for ids in columns])
    distances = np.empty((len(rows), len(columns)))
    for i, ids in enumerate(rows):
        shared = np.zeros(len(columns), dtype=np.int64)
        for start in range(0, len(columns), BLOCK * BLOCK):
            block = slice(start, start + BLOCK * BLOCK)
            both = np.bitwise_count(left[i] & right[block])
            shared[block] = both.sum(axis=1, dtype=np.int64)
        used = ids.size + sizes - shared
        share = np.divide(shared, used, out=np.ones(len(columns)), where=used > 0)
        distances[i] = 1.0 - share
    return distances


def bit_masks(sets: Sequence[NeuronIds], names: NeuronIds) -> NDArray[np.uint64]:
    """Return one row of ``(len(sets), W)`` bits per set over the sorted `names`."""
    num_words = max(1, -(-names.size // BLOCK))
    masks = np.zeros((len(sets), num_words), dtype=np.uint64)
    for row, ids in enumerate(sets):
        places = np.searchsorted(names, ids)
        bits = np.uint64(1) << (places % BLOCK).astype(np.uint64)
        np.bitwise_or.at(masks[row], places // BLOCK, bits)
    return masks


def nearest(
    questions: Sequence[NeuronSet],
    pool: Sequence[NeuronSet],
    count: int,
    excluded: Mapping[str, frozenset[str]],
) -> dict[str, tuple[Neighbour, ...]]:
    """Return for every question the nearest of the pool, nearest first.

    Args:
        questions: Those that need demonstrations.
        pool: Those that may become one.
        count: Demonstrations for each question.
        excluded: For a question's id the ids that may not be its demonstrations, such
            as questions of the same text; the question itself never may.

    Returns:
        By question id; ties go to the question that stands earlier in the pool.
    """
    distances = jaccard_distances(
        [entry.neuron_ids for entry in questions], [entry.neuron_ids for entry in pool]
    )
    found = {}
    for entry, row in zip(questions, distances, strict=True):
        barred = excluded.get(entry.question_id, frozenset()) | {entry.question_id}
        order = [int(i) for i in np.argsort(row, kind="stable")]
        allowed = [i for i in order if pool[i].question_id not in barred][:count]
        found[entry.question_id] = tuple(
            Neighbour(
                pool[i].question_id,
                float(row[i]),
                f"nearest {place} of {len(pool) - 1}: Jaccard distance {row[i]:.3f}",
            )
            for place, i in enumerate(allowed, start=1)
        )
    return found


def random_neighbours(
    questions: Sequence[NeuronSet],
    pool: Sequence[NeuronSet],
    count: int,
    excluded: Mapping[str, frozenset[str]],
    seed: int,
) -> dict[str, tuple[Neighbour, ...]]:
    """Return random questions of the pool for every question, the paper's control."""
    found = {}
    for entry in questions:
        barred = excluded.get(entry.question_id, frozenset()) | {entry.question_id}
        allowed = [other for other in pool if other.question_id not in barred]
        order = generator(seed, "contexts", entry.question_id).permutation(len(allowed))
        drawn = [allowed[int(i)] for i in order[:count]]
        found[entry.question_id] = tuple(
            Neighbour(
                other.question_id,
                jaccard_distance(entry.neuron_ids, other.neuron_ids),
                f"drawn at random, place {place}",
            )
            for place, other in enumerate(drawn, start=1)
        )
    return found
