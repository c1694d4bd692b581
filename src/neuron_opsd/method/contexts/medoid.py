"""Which of some neuron sets the others are most like. Axis: S sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.contexts.search import jaccard_distance
from neuron_opsd.records import NeuronIds


def mean_distances(sets: Sequence[NeuronIds]) -> NDArray[np.float64]:
    """Return the mean Jaccard distance ``(S,)`` of each set to the others.

    That of a single set is 0.
    """
    table = np.zeros((len(sets), len(sets)))
    for i, one in enumerate(sets):
        for j in range(i):
            table[i, j] = table[j, i] = jaccard_distance(one, sets[j])
    return np.asarray(table.sum(axis=1) / max(1, len(sets) - 1), np.float64)


def medoid_of(
    sets: Sequence[NeuronIds], allowed: Sequence[bool]
) -> tuple[int, float] | None:
    """Return the place of the set nearest to all others, and its mean distance.

    Of all sets only those `allowed` may be it; `None` where none is. Ties go to the
    earlier one.

    Source: NAD, arXiv:2510.26277, which takes the answer of such a sample.
    """
    distances = np.where(allowed, mean_distances(sets), np.inf)
    if not np.isfinite(distances).any():
        return None
    place = int(np.argmin(distances))
    return place, float(distances[place])
