"""Contexts: a distance that is a metric, its fast table, and the nearest first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuron_opsd.method.contexts import drawn, overlap
from neuron_opsd.method.contexts.drawn import drawn_rows, free_row
from neuron_opsd.method.contexts.overlap import nearest, stated_recall
from neuron_opsd.method.contexts.search import Neighbour, jaccard_distance
from neuron_opsd.method.retrieval.exact import distance_rows, make_index
from neuron_opsd.records import NeuronIds, NeuronSet
from neuron_opsd.seeds import generator
from neuron_sets import (
    any_neurons,
    few_neurons,
    ids_of,
    random_neighbours,
    skewed_sets,
    slowly_nearest,
)


def jaccard_distances(
    rows: Sequence[NeuronIds], columns: Sequence[NeuronIds]
) -> NDArray[np.float64]:
    """Return the distances of all pairs as `nearest` counts them."""
    found = list(distance_rows(make_index(columns), rows))
    return np.array(found).reshape(len(rows), len(columns))


def question(question_id: str, *neurons: int) -> NeuronSet:
    ids = ids_of(*neurons)
    return NeuronSet(question_id, ids.size, ids, np.ones(ids.size, np.float32), 1)


def names(found: tuple[Neighbour, ...]) -> list[str]:
    return [neighbour.question_id for neighbour in found]


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        pytest.param(ids_of(1, 2), ids_of(1, 2), 0.0, id="equal"),
        pytest.param(ids_of(1, 2), ids_of(3), 1.0, id="disjoint"),
        pytest.param(ids_of(1, 2, 3), ids_of(2, 3, 4), 0.5, id="two-of-four-shared"),
        pytest.param(ids_of(), ids_of(), 0.0, id="both-empty"),
        pytest.param(ids_of(), ids_of(5), 1.0, id="one-empty"),
    ],
)
def test_jaccard_distance_by_hand(a: NeuronIds, b: NeuronIds, distance: float) -> None:
    assert jaccard_distance(a, b) == distance
    assert jaccard_distances([a], [b]).tolist() == [[distance]]


@given(few_neurons, few_neurons, few_neurons)
def test_jaccard_distance_is_a_metric(a: NeuronIds, b: NeuronIds, c: NeuronIds) -> None:
    assert jaccard_distance(a, a) == 0.0
    assert jaccard_distance(a, b) == jaccard_distance(b, a)
    assert 0.0 <= jaccard_distance(a, b) <= 1.0
    assert jaccard_distance(a, b) > 0.0 or np.array_equal(a, b)
    detour = jaccard_distance(a, b) + jaccard_distance(b, c)
    assert jaccard_distance(a, c) <= detour + 1e-12


@given(
    st.lists(st.one_of(few_neurons, any_neurons), max_size=4),
    st.lists(st.one_of(few_neurons, any_neurons), max_size=5),
)
def test_the_table_equals_the_distance_of_every_pair(
    rows: list[NeuronIds], columns: list[NeuronIds]
) -> None:
    table = jaccard_distances(rows, columns)
    assert table.shape == (len(rows), len(columns))
    for i, a in enumerate(rows):
        for j, b in enumerate(columns):
            assert table[i, j] == jaccard_distance(a, b)


def test_the_table_holds_beyond_one_block() -> None:
    rng = np.random.default_rng(0)
    columns = [ids_of(*rng.choice(150, 12, replace=False)) for _ in range(4100)]
    table = jaccard_distances(columns[:1], columns)
    for j in (0, 1, 4094, 4095, 4096, 4099):
        assert table[0, j] == jaccard_distance(columns[0], columns[j])


POOL = [
    question("far", 7, 8),
    question("asked", 1, 2, 3, 4),
    question("near", 1, 2, 3),
    question("copy", 1, 2, 3, 4),
    question("half", 1, 2, 9, 10),
    question("tied", 1, 2, 11, 12),
]


def test_the_nearest_come_first_and_ties_in_the_order_of_the_pool() -> None:
    found = nearest(POOL[1:2], POOL, 4, {})["asked"]
    assert names(found) == ["copy", "near", "half", "tied"]
    assert [n.distance for n in found] == pytest.approx([0, 1 / 4, 2 / 3, 2 / 3])
    assert found[1].reason == "nearest 2 of 5: Jaccard distance 0.250"


def test_neither_the_question_nor_its_duplicates_are_its_demonstrations() -> None:
    found = nearest(POOL[1:2], POOL, 9, {"asked": frozenset({"copy"})})["asked"]
    assert names(found) == ["near", "half", "tied", "far"]
    others = random_neighbours(POOL[1:2], POOL, 9, {"asked": frozenset({"copy"})}, 0)
    assert sorted(names(others["asked"])) == ["far", "half", "near", "tied"]


def test_no_demonstrations_may_be_asked_for() -> None:
    assert nearest(POOL, POOL, 0, {})["far"] == ()
    assert random_neighbours(POOL, POOL, 0, {}, 0)["far"] == ()


def test_a_pool_of_one_gives_itself_no_demonstration() -> None:
    assert nearest(POOL[:1], POOL[:1], 3, {}) == {"far": ()}
    assert random_neighbours(POOL[:1], POOL[:1], 3, {}, 0) == {"far": ()}


def pool_of(sets: list[NeuronIds]) -> list[NeuronSet]:
    return [question(f"q{i}", *ids.tolist()) for i, ids in enumerate(sets)]


@given(st.lists(few_neurons, max_size=8), st.integers(0, 4), st.booleans())
def test_the_nearest_equal_every_pair_ranked_slowly(
    sets: list[NeuronIds], count: int, by_sketches: bool
) -> None:
    pool = pool_of(sets)
    excluded = {"q0": frozenset({"q2", "q3", "elsewhere"})}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "EXACT_PAIRS", -1 if by_sketches else 64)
        found = nearest(pool, pool, count, excluded)
    assert list(found) == [entry.question_id for entry in pool]
    for i, entry in enumerate(pool):
        barred = [0, 2, 3] if i == 0 else [i]
        rows, distances = slowly_nearest(entry.neuron_ids, sets, count, barred)
        assert names(found[entry.question_id]) == [f"q{row}" for row in rows]
        assert [n.distance for n in found[entry.question_id]] == distances


def test_a_search_by_sketches_says_so_and_how_much_it_finds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = pool_of(skewed_sets(200, 30))
    exact = nearest(pool, pool, 3, {})
    monkeypatch.setattr(overlap, "EXACT_PAIRS", 200 * 200 - 1)
    found = nearest(pool, pool, 3, {})
    assert {q: names(found[q]) for q in found} == {q: names(exact[q]) for q in exact}
    reason = found["q7"][1].reason
    assert reason.startswith(
        "nearest 2 of 199 (by sketches, recall 1.000): Jaccard distance 0."
    )
    assert stated_recall(reason) == 1.0
    assert stated_recall(exact["q7"][1].reason) is None


def test_the_last_pair_that_is_counted_exactly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overlap, "EXACT_PAIRS", 6)
    assert "sketches" not in nearest(POOL[1:2], POOL, 1, {})["asked"][0].reason


def test_a_pool_with_the_same_id_twice_shows_neither_to_itself() -> None:
    pool = [question("a", 1), question("a", 1), question("b", 2)]
    assert names(nearest(pool[:1], pool, 5, {})["a"]) == ["b"]


@given(st.lists(few_neurons, min_size=2, max_size=8), st.integers(1, 4))
def test_no_neighbour_is_farther_than_one_left_out(
    sets: list[NeuronIds], count: int
) -> None:
    pool = [question(f"q{i}", *ids.tolist()) for i, ids in enumerate(sets)]
    for entry in pool:
        found = nearest(pool, pool, count, {})[entry.question_id]
        assert len(found) == min(count, len(pool) - 1)
        assert entry.question_id not in names(found)
        inside = [n.distance for n in found if n.distance is not None]
        assert len(inside) == len(found)
        assert inside == sorted(inside)
        outside = [
            jaccard_distance(entry.neuron_ids, other.neuron_ids)
            for other in pool
            if other.question_id not in {*names(found), entry.question_id}
        ]
        assert max(inside) <= min(outside, default=1.0)


def test_random_neighbours_carry_their_true_distance() -> None:
    (neighbour,) = random_neighbours(POOL[2:3], POOL[1:3], 1, {}, 0)["near"]
    assert neighbour == Neighbour("asked", 0.25, "drawn at random, place 1")


def test_random_neighbours_hang_on_the_seed_and_the_questions_own_id_alone() -> None:
    pool = [question(f"q{i}", i) for i in range(30)]
    all_at_once = random_neighbours(pool, pool, 5, {}, 3)
    for entry in pool[::-1]:
        alone = random_neighbours([entry], pool, 5, {}, 3)
        assert alone[entry.question_id] == all_at_once[entry.question_id]
        assert len(set(names(alone[entry.question_id]))) == 5
    other = random_neighbours(pool, pool, 5, {}, 4)
    assert sum(other[q] == all_at_once[q] for q in other) < 3
    assert len({tuple(names(found)) for found in all_at_once.values()}) > 25


PINNED = {
    "q3": ["q18", "q24", "q38", "q34"],
    "q4": ["q25", "q11", "q14", "q31"],
    "q5": ["q20", "q9", "q27", "q34"],
}


def test_random_neighbours_of_a_seed_stay_what_they_were() -> None:
    """Those of a pool up to `MOST_PERMUTED`: results that were told hang on them."""
    pool = [question(f"q{i}", i) for i in range(40)]
    excluded = {"q3": frozenset({"q3", "q0", "q39"}), "q4": frozenset({"q9"})}
    found = random_neighbours(pool[3:6], pool, 4, excluded, 7)
    assert {name: names(drawn) for name, drawn in found.items()} == PINNED
    for entry in pool[3:6]:
        barred = excluded.get(entry.question_id, frozenset()) | {entry.question_id}
        allowed = [other for other in pool if other.question_id not in barred]
        rng = generator(7, "contexts", entry.question_id)
        order = rng.permutation(len(allowed))[:4]
        shown = [allowed[int(i)].question_id for i in order]
        assert names(found[entry.question_id]) == shown


@given(st.frozensets(st.integers(0, 30), max_size=25), st.integers(31, 40))
def test_places_among_the_rows_that_may_be_drawn(
    barred: frozenset[int], num_rows: int
) -> None:
    out = np.array(sorted(barred), np.int64)
    free = [row for row in range(num_rows) if row not in barred]
    assert [free_row(place, out) for place in range(len(free))] == free


@pytest.mark.parametrize("most_permuted", [0, 100])
def test_all_rows_are_drawn_where_no_more_are_free(most_permuted: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawn, "MOST_PERMUTED", most_permuted)
        rows = drawn_rows(generator(1), 9, np.array([2, 5]), 50)
    assert sorted(rows) == [0, 1, 3, 4, 6, 7, 8]


@pytest.mark.parametrize("most_permuted", [0, 100])
def test_random_neighbours_are_drawn_evenly(
    most_permuted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawn, "MOST_PERMUTED", most_permuted)
    pool = [question(f"q{i}", i) for i in range(11)]
    asked = [question(f"a{i}", i) for i in range(1000)]
    found = random_neighbours(asked, pool, 1, {}, 0)
    shown = [names(neighbours)[0] for neighbours in found.values()]
    counts = np.array([shown.count(entry.question_id) for entry in pool])
    expected = 1000 / 11
    # 99.9 % of the chi-square distribution with 10 degrees of freedom lie below 29.6.
    assert ((counts - expected) ** 2 / expected).sum() < 29.6


def test_the_recall_of_a_search_of_version_0_1_is_still_read() -> None:
    reason = "nearest 1 of 9 (by signatures, recall 0.981): Jaccard distance 0.5"
    assert stated_recall(reason) == 0.981
