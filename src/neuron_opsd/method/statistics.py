"""Intervals and tests over questions. Pure NumPy.

Axes: Q questions, R bootstrap resamples, M measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuron_opsd.results.scores import Interval

FloatArray: TypeAlias = NDArray[np.float64]
Sample = TypeVar("Sample")

Statistic: TypeAlias = Callable[[Sample, FloatArray], FloatArray]
"""Takes answered questions and weights ``(R, Q)``; returns measures ``(R, M)``."""

CHUNK_SIZE: Final = 1 << 20
"""Weights held at once; changes memory, not the draws."""

COVERAGE: Final = 0.95


def bootstrap_weights(
    num_questions: int, num_resamples: int, rng: np.random.Generator
) -> FloatArray:
    """Return how often each question was drawn in each resample.

    Returns:
        ``(R, Q)`` whole numbers; each row is multinomial and sums to Q. Drawing rows
        in several calls gives the same rows as drawing them in one.
    """
    if num_questions < 1 or num_resamples < 0:
        raise ValueError(
            f"cannot draw {num_resamples} resamples of {num_questions} questions; "
            "there must be at least one question"
        )
    drawn = rng.integers(num_questions, size=(num_resamples, num_questions))
    # One count for all rows: question q of resample r is numbered r * Q + q.
    drawn += np.arange(num_resamples)[:, None] * num_questions
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_questions)
    return counts.reshape(num_resamples, num_questions).astype(np.float64)


def weight_chunks(
    num_questions: int, num_resamples: int, rng: np.random.Generator
) -> Iterator[FloatArray]:
    """Yield the weights of all resamples, a bounded number of rows at a time."""
    if num_resamples < 1:
        raise ValueError(f"need at least one resample, got {num_resamples}")
    rows = max(1, CHUNK_SIZE // max(1, num_questions))
    for start in range(0, num_resamples, rows):
        yield bootstrap_weights(num_questions, min(rows, num_resamples - start), rng)


def paired_bootstrap(
    statistic: Statistic[Sample],
    before: Sample,
    after: Sample,
    num_questions: int,
    num_resamples: int,
    rng: np.random.Generator,
) -> tuple[Interval, ...]:
    """Return each measure's difference, after minus before, with its interval.

    The same resampled questions count before and after, and for every measure.

    Args:
        statistic: What is measured; linear algebra over weights, so fast.
        before: Answered questions, of whatever type the statistic takes.
        after: The same questions in the same order, answered by the other model.
        num_questions: Q.
        num_resamples: R.
        rng: Used up by this call and by nothing else.

    Returns:
        M percentile intervals of 95 %; NaN where the difference itself is.

    Raises:
        ValueError: If there are no questions.

    Source: Efron and Tibshirani 1993, chapter 13 (percentile interval).
    """
    values = plain_difference(statistic, before, after, num_questions)
    draws = resampled_differences(
        statistic, before, after, num_questions, num_resamples, rng
    )
    return percentile_intervals(values, draws)


def plain_difference(
    statistic: Statistic[Sample], before: Sample, after: Sample, num_questions: int
) -> FloatArray:
    """Return ``(M,)`` differences with every question counted once."""
    once = np.ones((1, num_questions))
    difference: FloatArray = (statistic(after, once) - statistic(before, once))[0]
    return difference


def resampled_differences(
    statistic: Statistic[Sample],
    before: Sample,
    after: Sample,
    num_questions: int,
    num_resamples: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Return ``(R, M)`` differences, after minus before, of resampled questions.

    Raises:
        ValueError: If there are no questions or no resamples.
    """
    return np.concatenate(
        [
            statistic(after, weights) - statistic(before, weights)
            for weights in weight_chunks(num_questions, num_resamples, rng)
        ]
    )


def percentile_intervals(values: FloatArray, draws: FloatArray) -> tuple[Interval, ...]:
    """Return the 95 % interval of each column of draws around its value.

    Resamples in which a measure does not exist (NaN) are left out of its interval.

    Args:
        values: ``(M,)``.
        draws: ``(R, M)``.
    """
    tails = [50.0 * (1.0 - COVERAGE), 50.0 * (1.0 + COVERAGE)]
    intervals: list[Interval] = []
    for value, column in zip(values.tolist(), draws.T, strict=True):
        known = column[~np.isnan(column)]
        if np.isnan(value) or known.size == 0:
            intervals.append(Interval(value, float("nan"), float("nan")))
            continue
        low, high = np.percentile(known, tails).tolist()
        intervals.append(Interval(value, low, high))
    return tuple(intervals)


def bootstrap_p_values(values: FloatArray, draws: FloatArray) -> list[float]:
    """Return for each column of draws the two-sided p-value of no difference.

    It is twice the share of draws that lie on the far side of 0 or on it, one draw
    added to each, so it is never below ``2 / (R + 1)``. Resamples in which a measure
    does not exist are left out.

    Args:
        values: ``(M,)`` differences.
        draws: ``(R, M)``.

    Returns:
        M numbers in (0, 1]; NaN where the difference is or no draw exists.

    Source: the percentile interval, inverted (Efron and Tibshirani 1993, section
    15.4); the added draw as in Davison and Hinkley 1997, chapter 4.
    """
    num_known = (~np.isnan(draws)).sum(axis=0)
    far = np.minimum((draws <= 0.0).sum(axis=0), (draws >= 0.0).sum(axis=0))
    p_values = np.minimum(1.0, 2.0 * (1.0 + far) / (num_known + 1.0))
    unknown = np.isnan(values) | (num_known == 0)
    return [float(p) for p in np.where(unknown, np.nan, p_values)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for testing several hypotheses at once.

    Args:
        p_values: One per hypothesis, in any order; the result keeps it.

    Raises:
        ValueError: If a p-value lies outside [0, 1].

    Source: Holm 1979, the step-down procedure.
    """
    for p_value in p_values:
        if not 0.0 <= p_value <= 1.0:
            raise ValueError(f"p-value {p_value} lies outside [0, 1]")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    ascending = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, place in enumerate(ascending):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Return the linear correlation, NaN where either side does not vary."""
    one, other = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape or one.size < 2:
        raise ValueError(
            "a correlation needs two sequences of one length, at least 2, got shapes "
            f"{one.shape} and {other.shape}"
        )
    if one.min() == one.max() or other.min() == other.max():
        return float("nan")
    one, other = standardise(one), standardise(other)
    return float(np.clip(one @ other, -1.0, 1.0))


def standardise(values: FloatArray) -> FloatArray:
    """Return values with mean 0 and length 1."""
    # Scaling first keeps the squares of huge and of tiny values within range.
    centred = values / np.abs(values).max()
    centred -= centred.mean()
    return np.asarray(centred / np.linalg.norm(centred), dtype=np.float64)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Return the correlation of ranks, ties sharing their mean rank.

    Raises:
        ValueError: If the lengths differ or there are fewer than two pairs.
    """
    return pearson(ranks(np.asarray(x)), ranks(np.asarray(y)))


def ranks(values: NDArray[np.generic]) -> FloatArray:
    """Return ranks from 1, ties sharing their mean rank."""
    _, group_of, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    mean_rank = last - (sizes - 1) / 2.0
    return np.asarray(mean_rank[group_of], dtype=np.float64)
