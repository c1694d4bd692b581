"""Distances within and between pools: by hand, then a slow twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.method.contexts.search import jaccard_distance
from neuron_opsd.method.retrieval import spread
from neuron_opsd.method.retrieval.spread import (
    distance_between,
    mean_distance,
    measure_spread,
)
from neuron_opsd.records import NeuronIds
from neuron_opsd.seeds import generator

some_ids = st.frozensets(st.integers(0, 12), max_size=6)


def ids(*values: int) -> NeuronIds:
    """Return neuron ids as an array."""
    return np.array(sorted(values), dtype=np.uint32)


def test_every_question_has_a_mean_and_a_nearest_distance() -> None:
    found = measure_spread([ids(1, 2), ids(2, 3), ids(4)], generator(0))
    assert found.mean == pytest.approx([(2 / 3 + 1) / 2, (2 / 3 + 1) / 2, 1])
    assert found.nearest == pytest.approx([2 / 3, 2 / 3, 1])
    assert found.mean.size == 3
    assert mean_distance(found, np.ones((1, 3)))[0] == pytest.approx(8 / 9)


def test_the_mean_moves_twice_as_far_as_one_question_says() -> None:
    found = measure_spread([ids(1, 2), ids(2, 3), ids(4)], generator(0))
    moved = mean_distance(found, np.array([[0.0, 0.0, 3.0]]))[0]
    assert moved == pytest.approx(8 / 9 + 2 * (1 - 8 / 9))


def test_pools_are_compared_pair_by_pair() -> None:
    assert distance_between([ids(1)], [ids(1), ids(2)], generator(0)) == 0.5


def test_one_question_has_no_distance() -> None:
    with pytest.raises(ValueError, match="at least two"):
        measure_spread([ids(1)], generator(0))
    with pytest.raises(ValueError, match="of each"):
        distance_between([], [ids(1)], generator(0))


def test_of_large_pools_some_questions_are_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spread, "MOST_ROWS", 3)
    sets = [ids(n, n + 1) for n in range(10)]
    found = measure_spread(sets, generator(0))
    assert found.mean.size == 3
    assert found.nearest == pytest.approx([2 / 3] * 3)
    assert np.array_equal(found.mean, measure_spread(sets, generator(0)).mean)
    assert 0 < distance_between(sets, sets, generator(0)) <= 1


@given(st.lists(some_ids, min_size=2, max_size=8))
def test_distances_are_those_of_every_pair(pool: list[frozenset[int]]) -> None:
    sets = [ids(*values) for values in pool]
    table = np.array([[jaccard_distance(a, b) for b in sets] for a in sets])
    others = table[~np.eye(len(sets), dtype=bool)].reshape(len(sets), -1)
    found = measure_spread(sets, generator(0))
    assert found.mean == pytest.approx(others.mean(axis=1))
    assert found.nearest == pytest.approx(others.min(axis=1))
    assert distance_between(sets, sets, generator(0)) == pytest.approx(table.mean())
