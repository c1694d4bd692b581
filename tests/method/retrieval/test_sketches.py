"""Sketches: cut sets, and a search that equals a full sort of the pool."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuron_opsd.method.retrieval import bitsets, sketches
from neuron_opsd.method.retrieval.bitsets import pack
from neuron_opsd.method.retrieval.sketches import (
    Barring,
    Bounds,
    Matches,
    kth_shares,
    least_shared,
    make_sketches,
    nearest_sketches,
    num_bits,
    search,
)
from neuron_opsd.records import NeuronIds
from neuron_sets import few_neurons, ids_of, skewed_sets, slowly_nearest

NONE = np.empty(0, np.int64)


def test_sketches_stand_by_size_and_know_their_rows() -> None:
    found = make_sketches([ids_of(1, 2, 9), ids_of(9), ids_of(2)], ids_of(1, 2))
    assert found.sizes.tolist() == [0, 1, 2]
    assert found.rows.tolist() == [1, 2, 0]
    assert num_bits(found.packed).tolist() == [0, 1, 2]


def test_the_best_finds_are_kept_and_ties_go_to_the_earlier_row() -> None:
    matches = Matches(
        np.array([1, 0, 0, 0, 1]),
        np.array([0, 1, 2, 3, 3]),
        np.array([0.1, 0.5, 0.5, 0.9, 0.2]),
    )
    matches.keep(np.array([7, 6, 5, 4]), 2)
    assert matches.asked.tolist() == [0, 0, 1, 1]
    assert matches.places.tolist() == [3, 2, 3, 0]
    assert matches.shares.tolist() == [0.9, 0.5, 0.2, 0.1]


def test_the_share_of_two_empty_sketches_is_whole() -> None:
    shared = np.array([0, 0, 2], np.int32)
    sizes, others = np.array([0, 1, 3]), np.array([0, 0, 3])
    assert bitsets.share_of(shared, sizes, others).tolist() == [1.0, 0.0, 0.5]


def test_the_bound_of_a_block_is_its_rows_kth_share() -> None:
    shared = np.array([[1, 2, 0]], np.int32)
    others = np.array([1, 2, 4])
    for count, share in ((2, 0.5), (4, 0.0)):
        found = kth_shares(shared, np.array([2]), others, np.array([count]))
        assert found.tolist() == [share]


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_no_find_that_reaches_the_bound_is_passed_over(
    size: int, other: int, smaller: int, shared: int
) -> None:
    shared = min(shared, size, other)
    used = size + other - shared
    share = np.array([shared / used if used else 1.0])
    bounds = Bounds(share, np.array([5]))
    assert (
        shared >= least_shared(bounds, np.array([size]), min(smaller, other), 4)[0, 0]
    )
    if shared < min(size, other):  # one bit more is a larger share
        least = least_shared(bounds, np.array([size]), min(smaller, other), 5)
        assert shared + 1 >= least[0, 0]


@given(
    st.lists(few_neurons, max_size=12),
    st.lists(few_neurons, max_size=4),
    few_neurons,
    st.integers(1, 9),
    st.tuples(st.frozensets(st.integers(0, 11)), st.frozensets(st.integers(0, 11))),
    st.integers(0, 3),
)
def test_candidates_equal_those_of_all_cut_sets_ranked(
    pool: list[NeuronIds],
    sets: list[NeuronIds],
    names: NeuronIds,
    count: int,
    kept_out: tuple[frozenset[int], frozenset[int]],
    few: int,
) -> None:
    cut = [np.intersect1d(ids, names) for ids in pool]
    lists = [np.array(sorted(rows), np.int64) for rows in kept_out]
    barred = [lists[i % 2] for i in range(len(sets))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitsets, "SETS_PER_CHUNK", 3)
        patch.setattr(sketches, "ROWS_PER_PASS", 3)
        patch.setattr(sketches, "FEW_BARRED", few)
        passes = list(nearest_sketches(make_sketches(pool, names), sets, count, barred))
    found = [rows.tolist() for rows_of_pass in passes for rows in rows_of_pass]
    expected = [
        slowly_nearest(np.intersect1d(ids, names), cut, count, out.tolist())[0]
        for ids, out in zip(sets, barred, strict=True)
    ]
    assert found == expected


def test_sets_that_are_all_alike_take_no_more_memory_than_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of matches as good as the last, those of later rows are not kept."""
    monkeypatch.setattr(bitsets, "SETS_PER_CHUNK", 50)
    most = []
    keep = Matches.keep

    def noted(matches: Matches, rows: NDArray[np.int64], count: int) -> None:
        most.append(matches.asked.size)
        keep(matches, rows, count)

    monkeypatch.setattr(Matches, "keep", noted)
    cut = make_sketches([ids_of(1, 2)] * 2000, ids_of(1, 2))
    asked = pack([ids_of(1, 2)] * 10, cut.columns)
    found = search(cut, asked, 4, Barring([NONE] * 10, 2000))
    assert found.places.tolist() == [0, 1, 2, 3] * 10
    assert len(most) == 2
    assert max(most) <= 10 * 50  # those of one chunk


def test_small_blocks_and_late_cuts_give_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = skewed_sets(400, 40)
    cut = make_sketches(pool, np.arange(300, dtype=np.uint32))
    asked = pack(pool[:30], cut.columns)
    none = Barring([NONE] * 30, 400)
    whole = search(cut, asked, 8, none)
    monkeypatch.setattr(bitsets, "SETS_PER_CHUNK", 11)
    parts = search(cut, asked, 8, none)
    assert whole.places.tolist() == parts.places.tolist()
    assert whole.shares.tolist() == parts.shares.tolist()
    assert whole.asked.tolist() == np.repeat(np.arange(30), 8).tolist()
