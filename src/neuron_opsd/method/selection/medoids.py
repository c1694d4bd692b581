"""Clusters of questions with similar neurons, each around a medoid question.

Medoids of a large pool are found in a sample, as in CLARA, in 32 MB. The `kmedoids`
library needs all distances at once, 80 GB for 100,000 questions, under another licence
than ours.

Axes: Q questions, S questions of the sample, C clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.retrieval.bitsets import NeuronSets
from neuron_opsd.method.retrieval.exact import distance_rows, make_index
from neuron_opsd.seeds import generator

Distances: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.int64]

SAMPLE: Final = 2048
MOST_CLUSTERS: Final = 256
STARTS: Final = 10
"""Random starts, the best of which counts; NeuFS's number."""
ROUNDS: Final = 100
"""Most moves from one start; NeuFS's number."""


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """The cluster of each question."""

    clusters: Places
    distances: Distances
    """``(Q,)`` Jaccard distance to the medoid."""


def cluster(sets: NeuronSets, ids: Sequence[str], count: int, seed: int) -> Clusters:
    """Cluster questions by neurons around `count` medoids, or `MOST_CLUSTERS`.

    Sampling depends on question ids, not their order. Fewer distinct sets give fewer
    clusters.

    Source: Kaufman and Rousseeuw 1990, chapter 3 (CLARA); NeuFS, arXiv:2607.02423.
    """
    draws = [generator(seed, "medoids", name).random() for name in ids]
    sample = [sets[place] for place in np.argsort(draws, kind="stable")[:SAMPLE]]
    table = np.stack(list(distance_rows(make_index(sample), sample)))
    medoids = find_medoids(table, min(max(1, count), MOST_CLUSTERS, len(sample)), seed)
    found = Clusters(np.zeros(len(sets), np.int64), np.full(len(sets), np.inf))
    centres = [sample[place] for place in medoids]
    for number, row in enumerate(distance_rows(make_index(sets), centres)):
        nearer = row < found.distances
        found.clusters[nearer] = number
        found.distances[nearer] = row[nearer]
    return found


def find_medoids(table: Distances, count: int, seed: int) -> Places:
    """Return the medoids' places from the start with the least total distance.

    The table ``(S, S)`` holds the distances within the sample.
    """
    starts = (generator(seed, "medoids-start", number) for number in range(STARTS))
    tried = [settled(table, first_medoids(table, count, rng)) for rng in starts]
    return min(tried, key=lambda medoids: table[:, medoids].min(axis=1).sum())


def first_medoids(table: Distances, count: int, rng: np.random.Generator) -> Places:
    """Sample places far from one another: k-means++, by squared distances.

    Source: Arthur and Vassilvitskii 2007.
    """
    chosen = [int(rng.integers(len(table)))]
    nearest = table[chosen[0]].copy()
    while len(chosen) < count:
        weights = (nearest**2).cumsum()
        if weights[-1] == 0.0:  # all others equal a chosen one
            break
        drawn = rng.random() * weights[-1]
        chosen.append(int(np.searchsorted(weights, drawn, side="right")))
        np.minimum(nearest, table[chosen[-1]], out=nearest)
    return np.array(chosen, dtype=np.int64)


def settled(table: Distances, medoids: Places) -> Places:
    """Move each medoid to the middle of its cluster until none moves.

    Source: Park and Jun 2009, "A simple and fast algorithm for K-medoids clustering".
    """
    for _ in range(ROUNDS):
        owner = table[:, medoids].argmin(axis=1)
        moved = medoids.copy()
        for number in range(medoids.size):
            members = np.flatnonzero(owner == number)
            inside = table[np.ix_(members, members)].sum(axis=1)
            moved[number] = members[inside.argmin()]
        if (moved == medoids).all():
            break
        medoids = moved
    return medoids
