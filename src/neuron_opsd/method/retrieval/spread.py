"""How far apart a pool's neuron sets are. Axes: Q questions, P of the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from neuron_opsd.method.retrieval.exact import distance_rows, make_index
from neuron_opsd.method.statistics import FloatArray
from neuron_opsd.records import NeuronIds

MOST_ROWS: Final = 2000
"""Questions compared with all others; larger pools are sampled."""


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """How far each question is from the others of the pool."""

    mean: FloatArray
    """``(Q,)`` mean Jaccard distance to all others."""
    nearest: FloatArray
    """``(Q,)`` distance to the nearest."""


def measure_spread(sets: Sequence[NeuronIds], rng: np.random.Generator) -> Spread:
    """Measure the distances of all questions, or of a sample, to all others."""
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
    """Return the mean Jaccard distance between sets of two pools.

    Pools of more than `MOST_ROWS` are sampled.
    """
    if not sets or not others:
        raise ValueError("a distance between pools needs a neuron set of each")
    rows = [sets[place] for place in sampled_places(len(sets), rng)]
    columns = [others[place] for place in sampled_places(len(others), rng)]
    found = [row.mean() for row in distance_rows(make_index(columns), rows)]
    return float(np.mean(found))


def mean_distance(spread: Spread, weights: FloatArray) -> FloatArray:
    """Return the mean distance of two questions, per row of weights.

    A question counts in others' distances too, so this moves twice as far as the mean
    of `Spread.mean`.

    Source: Hoeffding 1948, the projection of a U-statistic of two arguments.
    """
    value = spread.mean.mean()
    moved = (weights @ spread.mean) / weights.sum(axis=1)
    return np.asarray(2.0 * moved - value, dtype=np.float64)


def sampled_places(count: int, rng: np.random.Generator) -> list[int]:
    """Return all places of a list in order, or a sample of `MOST_ROWS`."""
    if count <= MOST_ROWS:
        return list(range(count))
    drawn = rng.choice(count, size=MOST_ROWS, replace=False)
    return sorted(int(place) for place in drawn)
