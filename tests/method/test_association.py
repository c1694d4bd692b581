"""Correlations, areas and bins over weighted questions: by hand, then slow twins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from neuron_opsd.method import statistics
from neuron_opsd.method.association import (
    Measured,
    correlations,
    equal_mass_bins,
    joined,
    mean_of,
    measure_resamples,
    residuals,
)
from neuron_opsd.method.statistics import (
    BoolArray,
    FloatArray,
    areas,
    means,
    mid_ranks,
    pearson,
    spearman,
)
from neuron_opsd.seeds import generator

small = st.integers(-4, 4).map(float)
rows = st.lists(st.tuples(small, small, small, st.integers(0, 3)), min_size=2)


def array(values: ArrayLike) -> FloatArray:
    """Return numbers as an array."""
    return np.asarray(values, dtype=np.float64)


def won_pairs(
    scores: FloatArray, correct: BoolArray, weights: FloatArray
) -> FloatArray:
    """Return the areas by counting the pairs at every distinct score."""
    distinct, value_of = np.unique(scores, return_inverse=True)
    member = np.equal.outer(value_of, np.arange(distinct.size)).astype(np.float64)
    right = weights @ (member * correct[:, None])
    wrong = weights @ (member * ~correct[:, None])
    below = wrong.cumsum(axis=1) - wrong
    wins = (right * (below + 0.5 * wrong)).sum(axis=1)
    pairs = right.sum(axis=1) * wrong.sum(axis=1)
    return np.where(pairs > 0, wins / np.maximum(pairs, 1.0), np.nan)


def once(count: int) -> FloatArray:
    """Return one row of weights that counts every question once."""
    return np.ones((1, count))


def test_ties_share_their_mean_rank_and_weights_are_repeats() -> None:
    values = array([20, 10, 20])
    assert mid_ranks(values, once(3))[0].tolist() == [2.5, 1, 2.5]
    # Twice the 10 and the last 20 alone: ranks 1 and 2 share 1.5, the 20 has 3.
    assert mid_ranks(values, array([[0, 2, 1]]))[0, 1:].tolist() == [1.5, 3]


def test_what_is_given_is_taken_from_both_sides() -> None:
    shared, own = array([-1, -1, 1, 1]), array([-1, 1, -1, 1])
    x, y = shared + own, shared - own
    assert correlations(x, y, once(4))[0] == pytest.approx(0.0)
    assert correlations(x, y, once(4), [shared])[0] == pytest.approx(-1.0)
    assert correlations(x, shared, once(4), [own])[0] == pytest.approx(1.0)


def test_a_side_that_does_not_vary_or_is_given_has_no_correlation() -> None:
    x, flat = array([1, 2, 4]), array([7, 7, 7])
    assert math.isnan(correlations(x, flat, once(3))[0])
    assert math.isnan(correlations(x, flat, once(3), ranked=True)[0])
    y = array([3, 1, 2])
    assert math.isnan(correlations(x, y, once(3), [2 * x - 1])[0])
    # Nor does it vary in a resample that drew one value alone.
    assert math.isnan(correlations(x, y, array([[3.0, 0, 0]]))[0])


def test_a_constant_that_is_given_changes_nothing() -> None:
    x, y = array([1, 2, 4, 3]), array([3, 1, 2, 2])
    given_flat = correlations(x, y, once(4), [array([5, 5, 5, 5])])
    assert given_flat == pytest.approx(correlations(x, y, once(4)))


def test_huge_and_tiny_values_are_correlated_too() -> None:
    x, y = array([1, 2, 4]), array([1, 3, 2])
    plain = correlations(x, y, once(3))
    assert correlations(x * 1e200, y * 1e-200, once(3)) == pytest.approx(plain)


@given(rows)
def test_plain_correlations_are_those_of_statistics(
    table: list[tuple[float, float, float, int]],
) -> None:
    x, y, *_ = (array(values) for values in zip(*table, strict=True))
    weights = once(len(table))
    found = correlations(x, y, weights)[0], correlations(x, y, weights, ranked=True)[0]
    assert found == pytest.approx((pearson(x, y), spearman(x, y)), nan_ok=True)


@given(rows)
def test_a_weight_is_as_many_copies(
    table: list[tuple[float, float, float, int]],
) -> None:
    x, y, z, counts = (array(values) for values in zip(*table, strict=True))
    if counts.sum() < 2:
        return
    times = counts.astype(int)
    many_x, many_y, many_z = (np.repeat(values, times) for values in (x, y, z))
    plain = once(many_x.size)
    for ranked in (False, True):
        for given_too in (False, True):
            weighted = correlations(
                x, y, counts[None], [z] if given_too else [], ranked=ranked
            )
            repeated = correlations(
                many_x, many_y, plain, [many_z] if given_too else [], ranked=ranked
            )
            assert weighted == pytest.approx(repeated, abs=1e-6, nan_ok=True)


@given(st.integers(0, 50))
def test_a_partial_correlation_is_that_of_residuals(seed: int) -> None:
    x, y, *others = generator(seed).normal(size=(5, 30))
    y = y + 0.5 * x + others[0]
    expected = pearson(residuals(x, others), residuals(y, others))
    found = correlations(x, y, once(30), others)[0]
    assert found == pytest.approx(expected, abs=1e-9)
    ranks = [statistics.ranks(values) for values in (x, y, *others)]
    expected = pearson(residuals(ranks[0], ranks[2:]), residuals(ranks[1], ranks[2:]))
    found = correlations(x, y, once(30), others, ranked=True)[0]
    assert found == pytest.approx(expected, abs=1e-9)


def test_what_rounding_leaves_over_is_nothing() -> None:
    length = np.arange(200.0) ** 1.5
    assert not residuals(np.full(200, 1344.0), [length]).any()
    assert not residuals(3.1 * length + 7, [length]).any()
    assert residuals(length**2, [length]).any()


def test_so_few_questions_have_no_partial_correlation() -> None:
    rng = np.random.default_rng(0)
    x, y, *given = rng.normal(size=(5, 6))
    weights = np.ones((2, 6))
    weights[1, 5] = 0
    found = correlations(x, y, weights, given)
    assert np.isfinite(found[0])
    assert np.isnan(found[1])
    assert np.isfinite(correlations(x, y, weights)).all()


def test_residuals_are_what_a_line_leaves_over() -> None:
    assert residuals(array([1, 3, 5]), [array([0, 1, 2])]) == pytest.approx([0] * 3)
    left = residuals(array([0, 2, 0, 2]), [array([0, 0, 1, 1])])
    assert left == pytest.approx([-1, 1, -1, 1])
    assert residuals(array([1, 3]), [array([5, 5])]) == pytest.approx([-1, 1])


def test_an_area_is_how_often_right_is_above_wrong() -> None:
    scores, correct = array([3, 1, 2, 2]), np.array([True, False, True, False])
    # Right 3 and 2 against wrong 1 and 2: three wins and a tie of four.
    assert areas(scores, correct, once(4))[0] == pytest.approx(3.5 / 4)
    assert areas(-scores, correct, once(4))[0] == pytest.approx(0.5 / 4)
    assert math.isnan(areas(scores, correct, array([[1, 0, 1, 0]]))[0])


@given(rows)
def test_areas_are_those_of_calibration(
    table: list[tuple[float, float, float, int]],
) -> None:
    scores, other, _, counts = (array(values) for values in zip(*table, strict=True))
    correct = other > 0
    weights = np.stack([np.ones(len(table)), counts])
    expected = won_pairs(scores, correct, weights)
    assert areas(scores, correct, weights) == pytest.approx(expected, nan_ok=True)


def test_means_are_weighted_and_of_nothing_there_is_none() -> None:
    found = means(array([1, 2]), array([[1, 1], [3, 1], [0, 0]]))
    assert found == pytest.approx([1.5, 1.25, math.nan], nan_ok=True)


def test_bins_hold_as_many_questions_and_keep_ties_together() -> None:
    assert [b.tolist() for b in equal_mass_bins(array([4, 1, 3, 2]), 2)] == [
        [1, 3],
        [0, 2],
    ]
    tied = equal_mass_bins(array([1, 1, 1, 1, 1, 9]), 3)
    assert [b.tolist() for b in tied] == [[0, 1, 2, 3, 4], [5]]
    with pytest.raises(ValueError, match="at least one bin"):
        equal_mass_bins(array([1]), 0)


def first_and_sum(weights: FloatArray) -> dict[str, FloatArray]:
    """Return two measures that show how often questions were drawn."""
    return {"first": weights[:, 0], "sum": weights.sum(axis=1)}


def test_resamples_are_measured_for_all_measures_alike() -> None:
    found = measure_resamples(first_and_sum, 5, 200, generator(0))
    assert found.names == ("first", "sum")
    assert found.values.tolist() == [1, 5]
    assert found.draws.shape == (200, 2)
    interval = found.intervals()["sum"]
    assert (interval.value, interval.low, interval.high) == (5, 5, 5)
    assert found.intervals()["first"].low == 0


def test_bounded_memory_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure_resamples(first_and_sum, 5, 20, generator(1))
    monkeypatch.setattr(statistics, "CHUNK_SIZE", 15)
    parts = measure_resamples(first_and_sum, 5, 20, generator(1))
    assert np.array_equal(parts.draws, whole.draws)


def test_measures_stand_side_by_side_and_are_averaged_by_name() -> None:
    one = Measured(("a", "b"), array([1, 2]), array([[1, 2], [3, 4]]))
    other = Measured(("c", "a"), array([9, 5]), array([[9, 5], [9, 7]]))
    both = joined([one, Measured(("c",), array([3]), array([[3], [3]]))])
    assert both.names == ("a", "b", "c")
    assert both.draws.tolist() == [[1, 2, 3], [3, 4, 3]]
    mean = mean_of([both, other])
    assert mean.names == ("a", "c")
    assert mean.values.tolist() == [3, 6]
    assert mean.draws.tolist() == [[3, 6], [5, 6]]
    with pytest.raises(ValueError, match="no groups"):
        mean_of([])
