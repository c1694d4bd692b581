"""Intervals and tests: by hand, against slow twins, and in bounded memory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuron_opsd.method.statistics import (
    bootstrap_p_values,
    bootstrap_weights,
    holm,
    pearson,
    percentile_intervals,
    spearman,
)
from neuron_opsd.seeds import generator

small_numbers = st.integers(-5, 5).map(float)
pairs = st.lists(st.tuples(small_numbers, small_numbers), min_size=2, max_size=30)


def test_every_resample_draws_as_many_questions_as_there_are() -> None:
    weights = bootstrap_weights(7, 100, generator(0))
    assert weights.shape == (100, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert (weights >= 0).all()
    assert (weights == np.floor(weights)).all()


def test_every_question_is_drawn_as_often_as_any_other() -> None:
    # 60,000 draws: each mean is 1 with a deviation of 0.0095, so 7 deviations.
    weights = bootstrap_weights(6, 10_000, generator(1))
    assert np.abs(weights.mean(axis=0) - 1.0).max() < 0.067


def test_drawing_in_parts_draws_the_same() -> None:
    whole = bootstrap_weights(5, 9, generator(2))
    rng = generator(2)
    parts = [bootstrap_weights(5, count, rng) for count in (4, 0, 5)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_no_questions_cannot_be_resampled() -> None:
    with pytest.raises(ValueError, match="0 questions"):
        bootstrap_weights(0, 10, generator(0))


def test_resamples_without_a_value_are_left_out() -> None:
    draws = np.array([[math.nan, 1.0], [2.0, 1.0], [2.0, 1.0]])
    first, second = percentile_intervals(np.array([2.0, math.nan]), draws)
    assert (first.low, first.high) == (2.0, 2.0)
    assert math.isnan(second.value)
    assert math.isnan(second.low)
    assert math.isnan(second.high)


def test_p_values_by_hand() -> None:
    # One of four draws at or below 0: 2 * (1 + 1) / (4 + 1); and none: 2 / 5.
    draws = np.array([[-1.0, 1.0], [1.0, 1.0], [2.0, 3.0], [3.0, 2.0]])
    assert bootstrap_p_values(np.array([1.25, 1.75]), draws) == pytest.approx(
        [0.8, 0.4]
    )
    # Draws of exactly 0 lie on both sides.
    assert bootstrap_p_values(np.zeros(1), np.zeros((9, 1))) == [1.0]


def test_a_difference_without_draws_has_no_p_value() -> None:
    draws = np.array([[math.nan, 1.0, math.nan], [2.0, 1.0, math.nan]])
    first, second, third = bootstrap_p_values(np.array([2.0, math.nan, 1.0]), draws)
    assert first == 1.0  # 2 / (1 + 1): the one draw that is there
    assert math.isnan(second)
    assert math.isnan(third)


@given(st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, math.nan]), min_size=1))
def test_p_values_do_not_depend_on_the_sign(column: list[float]) -> None:
    draws = np.array(column)[:, None]
    plus = bootstrap_p_values(np.ones(1), draws)
    minus = bootstrap_p_values(-np.ones(1), -draws)
    assert plus == pytest.approx(minus, nan_ok=True)
    assert math.isnan(plus[0]) == all(math.isnan(value) for value in column)
    assert math.isnan(plus[0]) or 0.0 < plus[0] <= 1.0


def test_a_small_p_value_and_an_interval_beside_zero_say_the_same() -> None:
    draws = generator(9).normal(size=(1000, 40)) + np.linspace(0.0, 4.0, 40)
    values = draws.mean(axis=0)
    for interval, p_value in zip(
        percentile_intervals(values, draws),
        bootstrap_p_values(values, draws),
        strict=True,
    ):
        # The added draw moves the limit by 2 / 1001.
        assert interval.holds_zero == (p_value > 0.05) or abs(p_value - 0.05) < 0.003


def test_holm_by_hand() -> None:
    # 4 * 0.005, then 3 * 0.01, 2 * 0.03, and 0.04 raised to the one before.
    adjusted = holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_refuses_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match=r"1\.5"):
        holm([0.5, 1.5])
    with pytest.raises(ValueError, match="nan"):
        holm([math.nan])


@given(st.lists(st.floats(0.0, 1.0)))
def test_holm_never_lowers_a_p_value_nor_changes_their_order(
    p_values: list[float],
) -> None:
    adjusted = holm(p_values)
    for p_value, new in zip(p_values, adjusted, strict=True):
        assert p_value <= new <= 1.0
    in_order = [adjusted[i] for i in np.argsort(p_values, kind="stable")]
    assert in_order == sorted(in_order)


def test_spearman_by_hand() -> None:
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5).
    expected = 4.5 / math.sqrt(4.5 * 5.0)
    assert spearman([1, 2, 2, 9], [1, 2, 3, 4]) == pytest.approx(expected)


def test_a_side_that_does_not_vary_has_no_correlation() -> None:
    assert math.isnan(pearson([0.1, 0.1, 0.1], [1, 2, 3]))
    assert math.isnan(spearman([1, 2, 3], [7, 7, 7]))


def test_huge_numbers_do_not_overflow() -> None:
    assert pearson([1e300, -1e300], [1e-300, 2e-300]) == pytest.approx(-1.0)


@pytest.mark.parametrize(("x", "y"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([], [])])
def test_a_correlation_needs_pairs(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match="two sequences of one length"):
        pearson(x, y)


def varies(values: NDArray[np.float64]) -> bool:
    """Say whether there is something to correlate."""
    return bool(np.ptp(values) > 0)


def slow_ranks(values: NDArray[np.float64]) -> list[float]:
    """Count for each value how many lie below it and how many are its like."""
    return [
        sum(other < value for other in values)
        + (1 + sum(other == value for other in values)) / 2
        for value in values
    ]


@given(pairs)
def test_correlations_match_their_slow_twins(both: list[tuple[float, float]]) -> None:
    x, y = np.array(both).T
    if varies(x) and varies(y):
        assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
        of_ranks = np.corrcoef(slow_ranks(x), slow_ranks(y))[0, 1]
        assert spearman(x, y) == pytest.approx(of_ranks, abs=1e-12)
