"""Intervals and tests over questions. Pure NumPy.

Axes: Q questions, R bootstrap resamples, M measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuron_opsd.records.scores import Interval

FloatArray: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]
Sample = TypeVar("Sample")

Statistic: TypeAlias = Callable[[Sample, FloatArray], FloatArray]
"""Takes questions and weights ``(R, Q)``; returns measures ``(R, M)``."""

CHUNK_SIZE: Final = 1 << 20
"""Weights in memory at once; does not change the draws."""

COVERAGE: Final = 0.95


def bootstrap_weights(
    num_questions: int, num_resamples: int, rng: np.random.Generator
) -> FloatArray:
    """Return how often each resample draws each question, ``(R, Q)``.

    Splitting the rows over several calls gives the same rows.
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
    """Yield the weights of all resamples in chunks of bounded size."""
    if num_resamples < 1:
        raise ValueError(f"need at least one resample, got {num_resamples}")
    rows = max(1, CHUNK_SIZE // max(1, num_questions))
    for start in range(0, num_resamples, rows):
        yield bootstrap_weights(num_questions, min(rows, num_resamples - start), rng)


def percentile_intervals(values: FloatArray, draws: FloatArray) -> tuple[Interval, ...]:
    """Return the 95 % intervals of values ``(M,)`` from draws ``(R, M)``.

    NaN draws are left out.

    Source: Efron and Tibshirani 1993, chapter 13 (percentile interval).
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
    """Return two-sided p-values of no difference, for values ``(M,)``.

    Each is twice the share of draws ``(R, M)`` at or beyond 0, one draw added to both:
    never below ``2 / (R + 1)``. NaN draws are left out.

    Returns:
        M numbers in (0, 1]; NaN where the value or all its draws are.

    Source: the percentile interval, inverted (Efron and Tibshirani 1993, section 15.4);
    the added draw as in Davison and Hinkley 1997, chapter 4.
    """
    num_known = (~np.isnan(draws)).sum(axis=0)
    far = np.minimum((draws <= 0.0).sum(axis=0), (draws >= 0.0).sum(axis=0))
    p_values = np.minimum(1.0, 2.0 * (1.0 + far) / (num_known + 1.0))
    unknown = np.isnan(values) | (num_known == 0)
    return [float(p) for p in np.where(unknown, np.nan, p_values)]


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact p-value of two models being right equally often.

    A two-sided binomial test on the questions that only one model answers correctly.

    Returns:
        A number in (0, 1]; 1 without such questions, 0 below the least positive double.

    Source: McNemar 1947, in its exact form.
    """
    if min(only_first, only_second) < 0:
        raise ValueError(f"counts cannot be negative: {only_first}, {only_second}")
    count, fewer = only_first + only_second, min(only_first, only_second)
    if 2 * fewer == count:
        return 1.0
    at = (
        math.lgamma(count + 1) - math.lgamma(fewer + 1) - math.lgamma(count - fewer + 1)
    )
    term = total = 1.0
    # Going down, each probability is a ratio to the one above.
    for value in range(fewer, 0, -1):
        term *= value / (count - value + 1)
        total += term
        if term < 1e-18 * total:
            break
    return min(1.0, 2.0 * total * math.exp(at - count * math.log(2.0)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for multiple tests, in the given order.

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
    """Return the linear correlation; NaN if either side is constant."""
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
    """Scale values to mean 0 and length 1."""
    # Scaling first keeps the squares of huge and tiny values within range.
    centred = values / np.abs(values).max()
    centred -= centred.mean()
    return np.asarray(centred / np.linalg.norm(centred), dtype=np.float64)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Return the rank correlation; ties share their mean rank."""
    return pearson(ranks(np.asarray(x)), ranks(np.asarray(y)))


def ranks(values: NDArray[np.generic]) -> FloatArray:
    """Return ranks from 1; ties share their mean rank."""
    once = np.ones((1, values.size))
    return np.asarray(mid_ranks(values, once)[0], dtype=np.float64)


def means(values: FloatArray | BoolArray, weights: FloatArray) -> FloatArray:
    """Return the weighted mean of ``(Q,)`` values per row; NaN for no weight."""
    total = weights.sum(axis=1)
    mean = np.full(len(weights), np.nan)
    np.divide(weights @ values, total, out=mean, where=total > 0)
    return mean


def mid_ranks(values: NDArray[np.generic], weights: FloatArray) -> FloatArray:
    """Return ranks ``(R, Q)`` in each row, from 1; ties share their mean.

    Ranks of questions with weight 0 are meaningless.
    """
    _, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    mass = np.add.reduceat(weights[:, order], starts, axis=1)
    middle = mass.cumsum(axis=1) - 0.5 * mass + 0.5
    return middle[:, place]


def areas(scores: FloatArray, correct: BoolArray, weights: FloatArray) -> FloatArray:
    """Return the area under the ROC curve of scores ``(Q,)``, per row of weights.

    How often a correct question outscores a wrong one, ties counting one half; NaN in
    rows with only one kind.
    """
    right = weights * correct
    num_right = right.sum(axis=1)
    num_wrong = weights.sum(axis=1) - num_right
    # The mass below each correct question and half its ties, less the pairs of two
    # correct questions.
    below = (right * (mid_ranks(scores, weights) - 0.5)).sum(axis=1)
    wins = below - 0.5 * num_right**2
    pairs = num_right * num_wrong
    area = np.full(len(weights), np.nan)
    np.divide(wins, pairs, out=area, where=pairs > 0)
    return area
