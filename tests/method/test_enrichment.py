"""Counts of neurons and what chance would give, against counting by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.method.enrichment import (
    draw_alike,
    enrichment,
    false_shares,
    strata_of,
    tail_bound,
    tally,
)
from neuron_opsd.seeds import generator

Stratum = tuple[int, int, int]
"""Questions, those drawn, those that hold the neuron."""


def chances(strata: Sequence[Stratum]) -> list[float]:
    """Return how probable each count is in a draw, by convolution."""
    found = [1.0]
    for size, drawn, holders in strata:
        own = [
            math.comb(holders, k)
            * math.comb(size - holders, drawn - k)
            / math.comb(size, drawn)
            if drawn - k <= size - holders
            else 0.0
            for k in range(min(holders, drawn) + 1)
        ]
        found = np.convolve(found, own).tolist()
    return found


def bound_of(strata: Sequence[Stratum], count: int) -> tuple[float, float]:
    """Return what is expected of one neuron, and the bound for a count."""
    sizes, drawn, holders = (np.array(column) for column in zip(*strata, strict=True))
    found = enrichment(np.array([count]), holders[:, None], sizes, drawn)
    return float(found.expected[0]), float(found.p[0])


def test_counts_are_those_of_a_loop() -> None:
    rng = generator(0, "sets")
    sets = [
        np.sort(rng.choice(30, rng.integers(0, 12), replace=False)).astype(np.uint32)
        for _ in range(25)
    ]
    members = rng.random((4, 25)) < 0.4
    members[3] = False
    found = tally(sets, members, 30)
    for group, row in zip(members, found, strict=True):
        for neuron in range(30):
            own = [neuron in s for s, inside in zip(sets, group, strict=True) if inside]
            assert row[neuron] == sum(own)


strata = st.lists(
    st.integers(1, 14).flatmap(
        lambda size: st.tuples(
            st.just(size), st.integers(0, size), st.integers(0, size)
        )
    ),
    min_size=1,
    max_size=4,
)


@given(strata, st.data())
def test_the_bound_is_never_below_the_chance(
    some: list[Stratum], data: st.DataObject
) -> None:
    known = chances(some)
    possible = [k for k, p in enumerate(known) if p > 0]
    count = data.draw(st.sampled_from(possible))
    expected, bound = bound_of(some, count)
    assert expected == pytest.approx(sum(k * p for k, p in enumerate(known)))
    above, below = sum(known[count:]), sum(known[: count + 1])
    assert bound >= min(1.0, 2 * min(above, below)) * (1 - 1e-9)
    assert bound <= 1.0


@pytest.mark.parametrize(
    ("some", "count"),
    [
        ([(474, 96, 100)], 40),
        ([(474, 96, 3)], 3),
        ([(474, 96, 100)], 5),
        ([(200, 40, 30), (274, 56, 70)], 40),
        ([(200, 40, 180), (274, 56, 250)], 70),
    ],
)
def test_the_bound_is_not_far_above_the_chance(some: list[Stratum], count: int) -> None:
    known = chances(some)
    exact = 2 * min(sum(known[count:]), sum(known[: count + 1]))
    _, bound = bound_of(some, count)
    assert exact < 0.05
    assert exact <= bound < max(0.05, 2 * exact**0.7)


def test_what_length_explains_is_no_find() -> None:
    # The group is all of the one stratum, and the neuron is held by all of it.
    _, bound = bound_of([(50, 50, 50), (450, 0, 5)], 50)
    assert bound == 1.0
    _, pooled = bound_of([(500, 50, 55)], 50)
    assert pooled < 1e-20


def test_a_binomial_tail_is_bounded_closely() -> None:
    n, share = 40, 0.3
    terms = [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
    counts = np.arange(n + 1)
    found = tail_bound(counts, np.full(n + 1, n), np.full(n + 1, n * share))
    for k in range(n + 1):
        tail = sum(terms[k:])
        assert found[k] >= tail * (1 - 1e-9)
        if k >= 18:
            assert found[k] <= 1.3 * tail
        if k < 13:
            assert found[k] == 1.0


def test_q_is_the_least_false_share_at_which_a_neuron_counts() -> None:
    p = np.array([0.04, 0.01, 0.03, 0.5, 0.01])
    found = false_shares(p)
    for value, q in zip(p, found, strict=True):
        wanted = min(t * p.size / (p <= t).sum() for t in p if t >= value)
        assert q == pytest.approx(min(1.0, wanted))
    assert false_shares(np.empty(0)).size == 0


def test_nothing_is_found_of_what_nobody_holds() -> None:
    holders = np.array([[0, 4, 10]])
    found = enrichment(np.array([0, 4, 4]), holders, np.array([10]), np.array([4]))
    assert found.q[0] == found.p[0] == 1.0
    assert found.p[2] == 1.0
    assert 0 < found.p[1] < 0.2


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 10))
def test_strata_keep_equal_values_together_and_in_order(
    values: list[int], most: int
) -> None:
    found = strata_of(np.array(values, dtype=np.float64), most)
    assert set(found) == set(range(found.max() + 1))
    assert found.max() < most
    for (a, i), (b, j) in combinations(zip(values, found, strict=True), 2):
        if a == b:
            assert i == j
        if a < b:
            assert i <= j


def test_a_draw_has_as_many_of_every_stratum() -> None:
    rng = generator(0, "draw")
    strata = rng.integers(0, 5, 200)
    group = rng.random(200) < 0.3 * (strata == 2) + 0.1
    drawn = draw_alike(group, strata, rng)
    for stratum in range(5):
        assert drawn[strata == stratum].sum() == group[strata == stratum].sum()
    assert (drawn != group).any()
