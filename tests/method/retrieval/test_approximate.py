"""Candidates: exact ranking, and a recall that is measured and reached."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.method.retrieval import approximate, bitsets
from neuron_opsd.method.retrieval.approximate import (
    approximate_nearest,
    lengthening,
    measure_width,
    num_shared,
    rank_exactly,
    recall_of,
    true_nearest,
)
from neuron_opsd.method.retrieval.exact import Ranking
from neuron_opsd.records import NeuronIds
from neuron_sets import any_neurons, few_neurons, ids_of, skewed_sets, slowly_nearest

POOL = [ids_of(1, 2), ids_of(1, 2, 3), ids_of(), ids_of(1, 2, 3), ids_of(9)]
NONE = np.empty(0, np.int64)


def ranking(rows: list[int], distances: list[float]) -> Ranking:
    return np.array(rows, np.int64), np.array(distances)


def test_candidates_are_ranked_by_whole_sets_and_ties_by_row() -> None:
    rows, distances = rank_exactly(
        ids_of(1, 2), POOL, np.array([4, 3, 1, 2, 0]), np.array([0]), 3
    )
    assert rows.tolist() == [1, 3, 2]
    assert distances.tolist() == [1 - 2 / 3, 1 - 2 / 3, 1.0]


@given(few_neurons, st.lists(st.one_of(few_neurons, any_neurons), max_size=5))
def test_neurons_shared_with_small_and_huge_sets(
    ids: NeuronIds, others: list[NeuronIds]
) -> None:
    expected = [np.intersect1d(ids, other).size for other in others]
    for huge in (0, 64):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(approximate, "HUGE", huge)
            assert num_shared(ids, others).tolist() == expected


def test_no_candidates_give_no_nearest() -> None:
    rows, _ = rank_exactly(ids_of(1), POOL, np.array([0]), np.array([0]), 3)
    assert rows.size == 0


def test_recall_counts_what_is_as_near_as_the_last() -> None:
    true = [ranking([1, 2], [0.2, 0.5]), ranking([3, 4], [0.1, 0.3])]
    found = [ranking([1, 9], [0.2, 0.5]), ranking([4, 8], [0.3, 0.4])]
    assert recall_of(found, true) == 3 / 4
    assert recall_of([ranking([], [])], [ranking([], [])]) == 1.0


@given(st.lists(few_neurons, max_size=9), st.integers(0, 9))
def test_the_true_nearest_equal_those_of_every_pair_ranked(
    pool: list[NeuronIds], count: int
) -> None:
    barred = [np.array([i]) for i in range(len(pool))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bitsets, "SETS_PER_CHUNK", 2)
        found = true_nearest(pool, pool, barred, count)
    for i, (rows, distances) in enumerate(found):
        expected = slowly_nearest(pool[i], pool, count, [i])
        assert (rows.tolist(), distances.tolist()) == expected


def test_sketches_double_until_they_hold_every_neuron(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(approximate, "NUM_COLUMNS", 1)
    names = [cut.columns.names.tolist() for cut in lengthening(POOL)]
    assert names == [[1], [1, 2], [1, 2, 3, 9]]


def test_sketches_double_while_memory_holds_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sets with nothing in common would need a column for each of their neurons."""
    pool = [ids_of(*range(9 * i, 9 * i + 9)) for i in range(40)]
    barred = [np.array([i]) for i in range(40)]
    monkeypatch.setattr(approximate, "NUM_COLUMNS", 8)
    monkeypatch.setattr(approximate, "NUM_CANDIDATES", (2,))
    monkeypatch.setattr(approximate, "MOST_BYTES", 160)
    assert [cut.columns.names.size for cut in lengthening(pool)] == [8, 16, 32]
    monkeypatch.setattr(approximate, "RECALL", 1.01)  # which none has
    _, cut = measure_width(pool, pool, barred, 2)
    assert cut.columns.names.size == 32


def test_barred_rows_do_not_take_the_place_of_candidates() -> None:
    (cut,) = lengthening(POOL)
    ((rows, _),) = approximate_nearest(
        cut, POOL, [ids_of(1, 2)], [np.array([0, 1])], count=1, num_candidates=1
    )
    assert rows.tolist() == [3]


def test_the_narrowest_search_that_is_good_enough_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = skewed_sets(400, 40)
    barred = [np.array([i]) for i in range(400)]
    monkeypatch.setattr(approximate, "NUM_COLUMNS", 16)
    monkeypatch.setattr(approximate, "NUM_CANDIDATES", (8, 16))
    widths = []
    for target in (0.3, 0.8, 1.0):
        monkeypatch.setattr(approximate, "RECALL", target)
        width, cut = measure_width(pool, pool, barred, 4)
        assert width.recall >= target
        widths.append((cut.columns.names.size, width.num_candidates))
    assert widths == sorted(widths)
    assert widths[0] < widths[2]


def test_the_recall_of_all_is_near_that_of_the_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = skewed_sets(400, 40)
    barred = [np.array([i]) for i in range(400)]
    monkeypatch.setattr(approximate, "NUM_COLUMNS", 64)
    monkeypatch.setattr(approximate, "NUM_CANDIDATES", (16, 32))
    width, cut = measure_width(pool, pool, barred, 5)
    found = list(approximate_nearest(cut, pool, pool, barred, 5, width.num_candidates))
    true = true_nearest(pool, pool, barred, 5)
    assert recall_of(found, true) == pytest.approx(width.recall, abs=0.03)
    again, _ = measure_width(pool, pool, barred, 5)
    assert again == width


def test_sets_without_likeness_are_searched_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    pool = [ids_of(*rng.choice(900, 5, replace=False)) for _ in range(120)]
    barred = [NONE for _ in pool]
    monkeypatch.setattr(approximate, "NUM_COLUMNS", 4)
    monkeypatch.setattr(approximate, "NUM_CANDIDATES", (3,))
    monkeypatch.setattr(approximate, "RECALL", 1.0)
    width, cut = measure_width(pool, pool, barred, 3)
    assert width.recall == 1.0
    for i, (rows, distances) in enumerate(
        approximate_nearest(cut, pool, pool, barred, 3, width.num_candidates)
    ):
        expected = slowly_nearest(pool[i], pool, 3)
        assert distances.tolist() == expected[1]
        assert cut.columns.names.size < 900 or rows.tolist() == expected[0]
