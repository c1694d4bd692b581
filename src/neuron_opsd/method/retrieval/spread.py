"""How far apart the neuron sets of a pool lie. Axes: Q questions, P of the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from neuron_opsd.method.retrieval.exact import distance_rows, make_index
from neuron_opsd.method.statistics import FloatArray
from neuron_opsd.records import NeuronIds

MOST_ROWS: Final = 2000
"""Questions whose distances to all others are counted; more are drawn from."""


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """How far each of some questions lies from the others of the pool."""

    mean: FloatArray
    """``(Q,)`` mean Jaccard distance to all other questions of the pool."""
    nearest: FloatArray
    """``(Q,)`` distance to the nearest of them."""


def measure_spread(sets: Sequence[NeuronIds], rng: np.random.Generator) -> Spread:
    """Measure the distances of every pair, or of `MOST_ROWS` drawn questions to all."""
    if len(sets) < 2:
        raise ValueError(f"a distance needs at least two neuron sets, got {len(sets)}")
    places = sampled_places(len(sets), rng)
    mean, nearest = [], []
    rows = distance_rows(make_index(sets), [sets[place] for place in places])
    for place, row in zip(places, rows, strict=True):
        others = np.delete(row, place)
        mean.append(others.mean())
        nearest.append(others.min())
    return Spread(np.array(mean), np.array(nearest))


def distance_between(
    sets: Sequence[NeuronIds], others: Sequence[NeuronIds], rng: np.random.Generator
) -> float:
    """Return the mean Jaccard distance of a set of one pool to one of another.

    Of more than `MOST_ROWS` questions that many are drawn.
    """
    if not sets or not others:
        raise ValueError("a distance between pools needs a neuron set of each")
    rows = [sets[place] for place in sampled_places(len(sets), rng)]
    columns = [others[place] for place in sampled_places(len(others), rng)]
    found = [row.mean() for row in distance_rows(make_index(columns), rows)]
    return float(np.mean(found))


def mean_distance(spread: Spread, weights: FloatArray) -> FloatArray:
    """Return the mean distance of two questions, per row of weights.

    A question counts in the distances of all others as well as in its own, so the mean
    moves twice as far as the mean of `Spread.mean` does.

    Source: Hoeffding 1948, the projection of a U-statistic of two arguments.
    """
    value = spread.mean.mean()
    moved = (weights @ spread.mean) / weights.sum(axis=1)
    return np.asarray(2.0 * moved - value, dtype=np.float64)


def sampled_places(count: int, rng: np.random.Generator) -> list[int]:
    """Return all places of a list in order, or `MOST_ROWS` of them."""
    if count <= MOST_ROWS:
        return list(range(count))
    drawn = rng.choice(count, size=MOST_ROWS, replace=False)
    return sorted(int(place) for place in drawn)
