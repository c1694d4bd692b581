"""Many models on the same resamples of questions and of seeds."""

from __future__ import annotations

import math
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.method import statistics
from neuron_opsd.method.resampling import (
    Resampled,
    over_seeds,
    resample,
    resampled_difference,
)
from neuron_opsd.method.statistics import (
    FloatArray,
    percentile_intervals,
    weight_chunks,
)
from neuron_opsd.seeds import generator


def two_measures(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weighted means of the values and of their squares, ``(R, 2)``."""
    total = weights.sum(axis=1)
    means = (weights @ values / total, weights @ values**2 / total)
    return np.stack(means, axis=1)


def mean_only(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weighted mean as the only measure, ``(R, 1)``."""
    means: FloatArray = (weights @ values / weights.sum(axis=1))[:, None]
    return means


def constant(*draws: float) -> Resampled:
    """Return one measure with these draws and their mean as value."""
    return Resampled(np.array([np.mean(draws)]), np.array(draws)[:, None])


def test_a_difference_is_what_the_paired_bootstrap_draws() -> None:
    rng = generator(0)
    before, after, other = rng.random((3, 20))
    both = resample(two_measures, [after, other, before], 20, 300, generator(1))
    difference = both[0] - both[2]
    paired = resampled_difference(two_measures, before, after, 20, 300, generator(1))
    assert np.array_equal(difference.values, paired.values)
    assert np.array_equal(difference.draws, paired.draws)
    weights = np.concatenate(list(weight_chunks(20, 300, generator(1))))
    drawn = two_measures(after, weights) - two_measures(before, weights)
    assert np.array_equal(difference.draws, drawn)


def test_the_size_of_chunks_changes_no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(10.0)
    (whole,) = resample(two_measures, [values], 10, 99, generator(2))
    monkeypatch.setattr(statistics, "CHUNK_SIZE", 70)
    (parts,) = resample(two_measures, [values], 10, 99, generator(2))
    assert np.array_equal(whole.draws, parts.draws)


def test_no_model_is_no_result() -> None:
    assert resample(two_measures, [], 10, 5, generator(0)) == []


def test_draws_need_a_resample() -> None:
    with pytest.raises(ValueError, match="at least one resample"):
        resample(two_measures, [np.ones(2)], 2, 0, generator(0))


def test_values_and_draws_follow_the_same_arithmetic() -> None:
    one, other = constant(1.0, 3.0), constant(4.0, 2.0)
    mean = (one + other) / 2
    assert mean.values.tolist() == [2.5]
    assert mean.draws[:, 0].tolist() == [2.5, 2.5]
    difference = one - other
    assert difference.values.tolist() == [-1.0]
    assert difference.draws[:, 0].tolist() == [-3.0, 1.0]


def test_one_seed_changes_nothing() -> None:
    draws = generator(3).normal(size=(50, 2))
    only = Resampled(draws.mean(axis=0), draws)
    mean = over_seeds([only], generator(4))
    assert np.array_equal(mean.values, only.values)
    assert np.array_equal(mean.draws, only.draws)


def test_seeds_that_disagree_spread_the_draws() -> None:
    # Two seeds: both drawn alike in half of the resamples, a quarter each way.
    mean = over_seeds([constant(*[0.0] * 4000), constant(*[1.0] * 4000)], generator(5))
    assert mean.values.tolist() == [0.5]
    found, counts = np.unique(mean.draws, return_counts=True)
    assert found.tolist() == [0.0, 0.5, 1.0]
    # Deviations of 0.007 and 0.008: 7 of them.
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.056)


def test_a_seed_that_was_not_drawn_has_no_say() -> None:
    missing = constant(*[math.nan] * 500)
    mean = over_seeds([constant(*[1.0] * 500), missing], generator(6))
    assert math.isnan(mean.values[0])
    share = np.isnan(mean.draws).mean()
    # Three quarters, up to 7 deviations of 0.019.
    assert 0.61 < share < 0.89
    assert np.nanmax(mean.draws) == np.nanmin(mean.draws) == 1.0


def test_a_mean_over_seeds_needs_one() -> None:
    with pytest.raises(ValueError, match="at least one array"):
        over_seeds([], generator(0))


@given(st.integers(1, 4), st.integers(1, 6))
def test_seeds_match_their_slow_twin(num_seeds: int, num_resamples: int) -> None:
    rng = generator(7, num_seeds, num_resamples)
    draws = rng.normal(size=(num_seeds, num_resamples, 2))
    by_seed = [Resampled(one.mean(axis=0), one) for one in draws]
    mean = over_seeds(by_seed, generator(8))

    picked = generator(8).integers(num_seeds, size=(num_seeds, num_resamples))
    for r in range(num_resamples):
        twin = np.mean([draws[seed, r] for seed in picked[:, r]], axis=0)
        assert mean.draws[r] == pytest.approx(twin)
    assert mean.values == pytest.approx(draws.mean(axis=(0, 1)))


def test_three_seeds_that_differ_alone_span_their_range() -> None:
    # Each seed makes up 1 in 27 resamples by itself, which is above the 2.5 % cut off.
    by_seed = [constant(*[value] * 5000) for value in (0.0, 0.1, 1.0)]
    mean = over_seeds(by_seed, generator(9))
    (interval,) = percentile_intervals(mean.values, mean.draws)
    assert (interval.low, interval.high) == (0.0, 1.0)


def test_an_interval_needs_a_resample() -> None:
    with pytest.raises(ValueError, match="at least one resample"):
        resampled_difference(mean_only, np.ones(2), np.ones(2), 2, 0, generator(0))


def test_the_bootstrap_matches_its_slow_twin() -> None:
    rng = generator(3)
    before, after = rng.random(20), rng.random(20)
    (interval,) = resampled_difference(
        mean_only, before, after, 20, 500, generator(4)
    ).intervals()

    twin, differences = generator(4), []
    for _ in range(500):
        drawn = twin.integers(20, size=20)
        differences.append(after[drawn].mean() - before[drawn].mean())
    low, high = np.percentile(differences, [2.5, 97.5])
    assert interval.value == pytest.approx(after.mean() - before.mean())
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_the_size_of_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = np.arange(10.0), np.arange(10.0) ** 2
    whole = resampled_difference(
        mean_only, before, after, 10, 300, generator(5)
    ).intervals()
    monkeypatch.setattr(statistics, "CHUNK_SIZE", 70)
    parts = resampled_difference(
        mean_only, before, after, 10, 300, generator(5)
    ).intervals()
    assert parts == whole


def test_a_constant_gain_has_an_interval_of_no_width() -> None:
    before = np.arange(8.0)
    (interval,) = resampled_difference(
        mean_only, before, before + 1, 8, 99, generator(6)
    ).intervals()
    assert (interval.low, interval.value, interval.high) == pytest.approx((1, 1, 1))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    # 400 trials at 93-95 %: 0.85 lies more than 6 deviations away.
    rng, covered = generator(7), 0
    for _ in range(400):
        sample = rng.normal(0.3, 1.0, size=60)
        (interval,) = resampled_difference(
            mean_only, np.zeros(60), sample, 60, 200, rng
        ).intervals()
        covered += interval.low <= 0.3 <= interval.high
    assert 0.85 < covered / 400 < 0.999


def test_ten_thousand_resamples_need_little_time_and_memory() -> None:
    before, after = np.zeros(600), np.ones(600)
    tracemalloc.start()
    start = time.process_time()
    resampled_difference(mean_only, before, after, 600, 10_000, generator(8))
    seconds = time.process_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 3.0
    assert peak < 100 << 20
