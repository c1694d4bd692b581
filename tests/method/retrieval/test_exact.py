"""The exact nearest: equal to ranking every pair, whatever the chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.method.retrieval import bitsets, exact
from neuron_opsd.method.retrieval.exact import (
    distance_rows,
    first,
    holders_of,
    make_index,
    nearest_rows,
    shared_counts,
)
from neuron_opsd.records import NeuronIds
from neuron_sets import (
    any_neurons,
    few_neurons,
    ids_of,
    skewed_sets,
    slowly_nearest,
)


def test_common_neurons_have_columns_and_rare_ones_holders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exact, "COMMON", 2)
    index = make_index([ids_of(1, 8), ids_of(1, 5), ids_of(1), ids_of(2, 5)])
    assert index.common.names.tolist() == [1, 5]
    assert index.rare.names.tolist() == [2, 8]
    assert index.ends.tolist() == [0, 1, 2]
    assert index.holders.tolist() == [3, 0]
    assert holders_of(index, ids_of(1, 2, 3, 8)).tolist() == [3, 0]
    assert shared_counts(index, [ids_of(1, 2, 5, 7)]).tolist() == [[1, 2, 1, 2]]


@pytest.mark.parametrize("common", [1, 3, 32, 10**6])
def test_counts_do_not_hang_on_which_neurons_have_columns(
    monkeypatch: pytest.MonkeyPatch, common: int
) -> None:
    pool = skewed_sets(150, 40)
    monkeypatch.setattr(exact, "COMMON", common)
    counts = shared_counts(make_index(pool), pool[:20])
    expected = [[np.intersect1d(a, b).size for b in pool] for a in pool[:20]]
    assert counts.tolist() == expected


def test_small_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = skewed_sets(90, 40)
    barred = [np.array([i]) for i in range(90)]
    whole = list(nearest_rows(make_index(pool), pool, 4, barred))
    monkeypatch.setattr(bitsets, "SETS_PER_CHUNK", 7)
    monkeypatch.setattr(exact, "COUNTS_PER_CHUNK", 200)
    monkeypatch.setattr(bitsets, "CHUNK_BYTES", 1)
    parts = list(nearest_rows(make_index(pool), pool, 4, barred))
    for (rows, distances), (same_rows, same_distances) in zip(
        whole, parts, strict=True
    ):
        assert rows.tolist() == same_rows.tolist()
        assert distances.tolist() == same_distances.tolist()


@pytest.mark.parametrize(
    ("count", "rows"),
    [
        pytest.param(0, [], id="none"),
        pytest.param(1, [1], id="the-earlier-of-two"),
        pytest.param(2, [1, 4], id="both"),
        pytest.param(3, [1, 4, 0], id="the-earliest-of-three"),
        pytest.param(5, [1, 4, 0, 2, 3], id="all"),
    ],
)
def test_ties_go_to_the_earlier_place(count: int, rows: list[int]) -> None:
    distances = np.array([0.5, 0.25, 0.5, 0.5, 0.25])
    places, found = first(distances, count)
    assert places.tolist() == rows
    assert found.tolist() == distances[rows].tolist()


def test_what_is_barred_is_not_found_and_fewer_may_be_left() -> None:
    pool = [ids_of(1), ids_of(1, 2), ids_of(1, 2)]
    ((rows, distances),) = nearest_rows(
        make_index(pool), pool[:1], 5, [np.array([0, 1])]
    )
    assert (rows.tolist(), distances.tolist()) == ([2], [0.5])


def test_an_empty_pool_has_no_nearest() -> None:
    ((rows, _),) = nearest_rows(make_index([]), [ids_of(1)], 5, [np.empty(0, int)])
    assert rows.size == 0
    assert [row.size for row in distance_rows(make_index([]), [ids_of(1)])] == [0]


@given(
    st.lists(st.one_of(few_neurons, any_neurons), max_size=8),
    st.lists(st.one_of(few_neurons, any_neurons), max_size=4),
    st.integers(0, 9),
    st.frozensets(st.integers(0, 7)),
)
def test_the_nearest_equal_those_of_every_pair_ranked(
    pool: list[NeuronIds], sets: list[NeuronIds], count: int, out: frozenset[int]
) -> None:
    barred = sorted(row for row in out if row < len(pool))
    rows = [np.array(barred, np.int64) for _ in sets]
    found = list(nearest_rows(make_index(pool), sets, count, rows))
    assert len(found) == len(sets)
    for ids, (places, distances) in zip(sets, found, strict=True):
        expected = slowly_nearest(ids, pool, count, barred)
        assert (places.tolist(), distances.tolist()) == expected


def test_skewed_sets_are_ranked_like_every_pair() -> None:
    pool = skewed_sets(300, 60)
    barred = [np.array([i]) for i in range(25)]
    found = nearest_rows(make_index(pool), pool[:25], 10, barred)
    for i, (rows, distances) in enumerate(found):
        expected = slowly_nearest(pool[i], pool, 10, [i])
        assert (rows.tolist(), distances.tolist()) == expected
