"""Sets of neurons for tests of what lies near what, and how to rank them slowly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from hypothesis import strategies as st

from neuron_opsd.method.contexts.drawn import at_random
from neuron_opsd.method.contexts.search import (
    Found,
    Known,
    Search,
    jaccard_distance,
)
from neuron_opsd.records import NeuronIds, NeuronSet


def ids_of(*neurons: int) -> NeuronIds:
    """Return a set of neurons."""
    return np.array(sorted(neurons), dtype=np.uint32)


def random_neighbours(
    questions: Sequence[NeuronSet],
    pool: Sequence[NeuronSet],
    count: int,
    excluded: Mapping[str, frozenset[str]],
    seed: int,
) -> Found:
    """Return what the rule `random` finds."""
    return at_random(Search(Known(questions), Known(pool), count, excluded, seed))


few_neurons = st.frozensets(st.integers(0, 20)).map(lambda ids: ids_of(*ids))
any_neurons = st.frozensets(st.integers(0, 2**32 - 1), max_size=90).map(
    lambda ids: ids_of(*ids)
)


def skewed_sets(count: int, size: int, seed: int = 0) -> list[NeuronIds]:
    """Return sets of about `size` of 2,000 neurons, of which a few are in most sets.

    Every ten sets share half of their neurons.
    """
    rng = np.random.default_rng(seed)
    draws = (2000 * rng.random((count, size)) ** 3).astype(np.uint32)
    families = draws[np.arange(count) // 10 * 10]
    mixed = np.where(rng.random((count, size)) < 0.5, families, draws)
    return [np.unique(row) for row in mixed]


def slowly_nearest(
    ids: NeuronIds, pool: Sequence[NeuronIds], count: int, barred: Sequence[int] = ()
) -> tuple[list[int], list[float]]:
    """Rank a whole pool pair by pair; ties go to the earlier."""
    distances = [jaccard_distance(ids, other) for other in pool]
    rows = [row for row in range(len(pool)) if row not in barred]
    nearest = sorted(rows, key=distances.__getitem__)[:count]
    return nearest, [distances[row] for row in nearest]
