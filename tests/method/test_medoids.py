"""Clusters by Jaccard distance: against all choices of medoids, and large pools."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_opsd.method.contexts.search import jaccard_distance
from neuron_opsd.method.selection import medoids
from neuron_opsd.method.selection.medoids import (
    cluster,
    find_medoids,
    first_medoids,
    settled,
)
from neuron_opsd.records import NeuronIds
from neuron_sets import few_neurons, skewed_sets

pools = st.lists(few_neurons, min_size=2, max_size=9)


def named(count: int) -> list[str]:
    return [f"q{i}" for i in range(count)]


def table_of(sets: list[NeuronIds]) -> medoids.Distances:
    return np.array([[jaccard_distance(a, b) for b in sets] for a in sets])


@settings(deadline=None)
@given(pools, st.integers(1, 3))
def test_small_pools_have_nearly_the_best_medoids(
    sets: list[NeuronIds], count: int
) -> None:
    table = table_of(sets)
    count = min(count, len(sets))
    found = find_medoids(table, count, seed=0)
    sums = [
        table[:, list(c)].min(axis=1).sum()
        for c in combinations(range(len(sets)), count)
    ]
    # An alternating search may stop a little above the best of all.
    assert table[:, found].min(axis=1).sum() <= 1.25 * min(sums) + 1e-9


@settings(deadline=None)
@given(pools, st.integers(1, 4))
def test_every_question_is_with_its_nearest_medoid(
    sets: list[NeuronIds], count: int
) -> None:
    found = cluster(sets, named(len(sets)), count, seed=0)
    table = table_of(sets)
    centres = {
        int(number): int(
            np.flatnonzero((found.clusters == number) & (found.distances == 0.0))[0]
        )
        for number in np.unique(found.clusters)
    }
    for place, number in enumerate(found.clusters):
        own = table[place, centres[int(number)]]
        assert found.distances[place] == pytest.approx(own)
        assert own <= min(table[place, other] for other in centres.values()) + 1e-12


def test_two_families_are_told_apart() -> None:
    sets = [np.unique(row) for row in skewed_sets(20, 40)]  # two families of ten
    found = cluster(sets, named(20), 2, seed=0)
    assert len(set(found.clusters[:10].tolist())) == 1
    assert found.clusters[0] != found.clusters[19]
    assert len(set(found.clusters[10:].tolist())) == 1


def test_equal_sets_make_fewer_clusters() -> None:
    same = np.array([1, 2], dtype=np.uint32)
    found = cluster([same] * 5, named(5), 3, seed=0)
    assert found.clusters.tolist() == [0] * 5
    assert found.distances.tolist() == [0.0] * 5
    rng = np.random.default_rng(0)
    assert first_medoids(np.zeros((5, 5)), 3, rng).size == 1


def test_a_large_pool_is_clustered_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(medoids, "SAMPLE", 30)
    shapes: list[tuple[int, ...]] = []
    plain = medoids.find_medoids

    def watched(table: medoids.Distances, count: int, seed: int) -> medoids.Places:
        shapes.append(table.shape)
        return plain(table, count, seed)

    monkeypatch.setattr(medoids, "find_medoids", watched)
    sets = [np.unique(row) for row in skewed_sets(200, 40)]
    found = cluster(sets, named(200), 20, seed=0)
    assert shapes == [(30, 30)]  # never the pool's own distances
    assert found.clusters.size == 200
    assert np.isfinite(found.distances).all()
    # Families of ten stay together where one of them is in the sample.
    together = [
        len(set(found.clusters[n : n + 10].tolist())) for n in range(0, 200, 10)
    ]
    assert np.mean(together) < 3.0


def test_clusters_hang_on_the_seed_and_not_on_the_order() -> None:
    sets = [np.unique(row) for row in skewed_sets(40, 30)]
    names = named(40)
    there = cluster(sets, names, 6, seed=0)
    back = cluster(sets[::-1], names[::-1], 6, seed=0)
    assert (there.distances == back.distances[::-1]).all()
    assert (there.clusters == back.clusters[::-1]).all()


def test_no_more_clusters_than_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [np.unique(row) for row in skewed_sets(40, 30)]
    assert len(set(cluster(sets, named(40), 7, 0).clusters.tolist())) == 7
    monkeypatch.setattr(medoids, "MOST_CLUSTERS", 4)
    assert len(set(cluster(sets, named(40), 7, 0).clusters.tolist())) == 4


def test_a_medoid_moves_to_the_middle_of_its_cluster() -> None:
    # Three in a row, and one far from them that begins as the other medoid.
    places = np.array([0.0, 1.0, 2.0, 50.0])
    table = np.abs(places[:, None] - places)
    assert settled(table, np.array([0, 3])).tolist() == [1, 3]
    assert settled(table, np.array([2, 3])).tolist() == [1, 3]
