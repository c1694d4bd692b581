"""What goes with what over questions, with bootstrap intervals. Pure NumPy.

Every measure takes weights ``(R, Q)`` and returns ``(R,)``, one value per row, as if
each question stood there as often as its weight says; ranks and regressions are made
anew in every row. So the plain measure is that of a row of ones, and a bootstrap
resample that of the row which counts how often each question was drawn.

Axes: Q questions, R rows of weights, K columns, M measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.statistics import percentile_intervals, weight_chunks
from neuron_opsd.results.scores import Interval

FloatArray: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]
Places: TypeAlias = NDArray[np.intp]

Measures: TypeAlias = Callable[[FloatArray], Mapping[str, FloatArray]]
"""Takes weights ``(R, Q)``; returns by name a measure ``(R,)``."""

CONSTANT: Final = 1e-12
"""Variance, that of all questions being about 1, below which nothing varies."""

EXPLAINED: Final = 1e-9
"""Share of a variance that is left when a regression explains all but rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Measures of some questions, and of resamples of these questions."""

    names: tuple[str, ...]
    values: FloatArray
    """``(M,)``."""
    draws: FloatArray
    """``(R, M)``."""

    def intervals(self) -> dict[str, Interval]:
        """Return every measure with its 95 % percentile interval."""
        found = percentile_intervals(self.values, self.draws)
        return dict(zip(self.names, found, strict=True))


def measure_resamples(
    measures: Measures,
    num_questions: int,
    num_resamples: int,
    rng: np.random.Generator,
) -> Measured:
    """Measure some questions, and resamples of them with replacement.

    Args:
        measures: What is measured; each resample counts for all measures alike, so
            their differences are paired.
        num_questions: Q.
        num_resamples: R.
        rng: Used up by this call and by nothing else.

    Raises:
        ValueError: If there are no questions or no resamples.

    Source: Efron and Tibshirani 1993, chapter 13 (percentile interval).
    """
    plain = measures(np.ones((1, num_questions)))
    draws = [
        np.stack(list(measures(weights).values()), axis=1)
        for weights in weight_chunks(num_questions, num_resamples, rng)
    ]
    values = np.array([value[0] for value in plain.values()])
    return Measured(tuple(plain), values, np.concatenate(draws))


def joined(parts: Iterable[Measured]) -> Measured:
    """Put measures of the same questions, with as many resamples, side by side."""
    found = list(parts)
    return Measured(
        tuple(name for part in found for name in part.names),
        np.concatenate([part.values for part in found]),
        np.concatenate([part.draws for part in found], axis=1),
    )


def mean_of(groups: Sequence[Measured]) -> Measured:
    """Return the means over groups of questions, each with the same weight.

    Groups drawn with equal generators share their resamples, as they must when they
    hold the same questions; others are independent. A measure that one of the groups
    lacks is left out, and one that does not exist in one of them (NaN) has no mean.

    Raises:
        ValueError: If there are no groups.
    """
    if not groups:
        raise ValueError("cannot take the mean over no groups of questions")
    places = [{name: i for i, name in enumerate(group.names)} for group in groups]
    shared = [name for name in groups[0].names if all(name in p for p in places)]
    columns = [[place[name] for name in shared] for place in places]
    pairs = list(zip(groups, columns, strict=True))
    return Measured(
        tuple(shared),
        np.mean([group.values[chosen] for group, chosen in pairs], axis=0),
        np.mean([group.draws[:, chosen] for group, chosen in pairs], axis=0),
    )


def correlations(
    x: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    given: Sequence[FloatArray] = (),
    *,
    ranked: bool = False,
) -> FloatArray:
    """Return the correlation of two columns ``(Q,)``, for each row of weights.

    Args:
        x: One column.
        y: The other.
        weights: ``(R, Q)``.
        given: Columns whose part in both is taken away first, by linear regression on
            all of them; what is left is the partial correlation.
        ranked: Put ranks, ties sharing their mean rank, in place of all values.

    Returns:
        ``(R,)`` in [-1, 1]; NaN where a side does not vary, or varies only with what
        is given, or where hardly more questions than given columns count.
    """
    columns = [x, y, *given]
    if ranked:
        table = np.stack([mid_ranks(c, weights) for c in columns], axis=2) / x.size
    else:
        table = np.stack([standard(column) for column in columns], axis=1)[None]
    found = partial_correlations(covariances(table, weights))
    # So few questions are explained by the given columns whatever they hold.
    enough = weights.sum(axis=1) > len(given) + 2
    return np.where(enough | (not given), found, np.nan)


def standard(values: FloatArray) -> FloatArray:
    """Return values with mean 0 and variance 1, zeros where they do not vary."""
    if values.min() == values.max():
        return np.zeros(values.size)
    # Scaling first keeps the squares of huge and of tiny values within range.
    scaled = values / np.abs(values).max()
    centred = scaled - scaled.mean()
    return np.asarray(centred / centred.std(), dtype=np.float64)


def mid_ranks(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the ranks ``(R, Q)`` of values in each row, from 1, ties at their mean.

    What a question of weight 0 gets has no meaning, and no weight.
    """
    _, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    mass = np.add.reduceat(weights[:, order], starts, axis=1)
    middle = mass.cumsum(axis=1) - 0.5 * mass + 0.5
    return np.asarray(middle[:, place], dtype=np.float64)


def covariances(columns: FloatArray, weights: FloatArray) -> FloatArray:
    """Return ``(R, K, K)`` weighted covariances of columns ``(R or 1, Q, K)``.

    Those of a column that varies by rounding alone are exactly 0.
    """
    share = (weights / weights.sum(axis=1, keepdims=True))[:, :, None]
    centred = columns - (share * columns).sum(axis=1, keepdims=True)
    product = (share * centred).swapaxes(1, 2) @ centred
    varies = np.diagonal(product, axis1=1, axis2=2) > CONSTANT
    return np.where(varies[:, :, None] & varies[:, None, :], product, 0.0)


def partial_correlations(covariance: FloatArray) -> FloatArray:
    """Return ``(R,)``: of columns 0 and 1, given the others of ``(R, K, K)``."""
    whole = covariance[:, :2, :2]
    between = covariance[:, :2, 2:]
    others = np.linalg.pinv(covariance[:, 2:, 2:], rcond=EXPLAINED, hermitian=True)
    left = whole - between @ others @ between.swapaxes(1, 2)
    one, other = left[:, 0, 0], left[:, 1, 1]
    known = (one > EXPLAINED * whole[:, 0, 0]) & (other > EXPLAINED * whole[:, 1, 1])
    scale = np.sqrt(np.where(known, one * other, 1.0))
    found = np.clip(left[:, 0, 1] / scale, -1.0, 1.0)
    return np.where(known, found, np.nan)


def areas(scores: FloatArray, correct: BoolArray, weights: FloatArray) -> FloatArray:
    """Return the area under the ROC curve of scores ``(Q,)``, per row of weights.

    Equal to `calibration.ranked_apart`, but takes no longer for scores that all
    differ than for few distinct ones.

    Returns:
        ``(R,)``: how often a correct question has the higher score, ties counting one
        half; NaN where all questions of a row are correct, or none is.
    """
    right = weights * correct
    num_right = right.sum(axis=1)
    num_wrong = weights.sum(axis=1) - num_right
    # The mass below each correct question, and half of that beside it; from this the
    # pairs of two correct questions are taken off.
    below = (right * (mid_ranks(scores, weights) - 0.5)).sum(axis=1)
    wins = below - 0.5 * num_right**2
    pairs = num_right * num_wrong
    area = np.full(len(weights), np.nan)
    np.divide(wins, pairs, out=area, where=pairs > 0)
    return area


def residuals(target: FloatArray, given: Sequence[FloatArray]) -> FloatArray:
    """Return ``(Q,)``: the target less what a linear regression says of it.

    What is left by rounding alone, of a target that the others explain, is 0.
    """
    columns = [np.ones(target.size), *(standard(column) for column in given)]
    table = np.stack(columns, axis=1)
    weights, *_ = np.linalg.lstsq(table, target, rcond=None)
    left = np.asarray(target - table @ weights, dtype=np.float64)
    if left.var() <= max(CONSTANT, EXPLAINED * target.var()):
        return np.zeros(target.size)
    return left


def means(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the weighted mean of ``(Q,)`` values per row, NaN where none counts."""
    total = weights.sum(axis=1)
    mean = np.full(len(weights), np.nan)
    np.divide(weights @ values, total, out=mean, where=total > 0)
    return mean


def equal_mass_bins(values: FloatArray, num_bins: int) -> list[Places]:
    """Cut questions by value into bins of about as many, the lowest values first.

    Questions of one value stay together, in the bin in which the middle of their
    ranks lies; a bin that is left without questions is not returned.

    Raises:
        ValueError: If there is no bin.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}, but there must be at least one bin")
    middle = mid_ranks(values, np.ones((1, values.size)))[0] - 0.5
    bin_of = np.floor(middle * num_bins / values.size).astype(np.intp)
    return [np.flatnonzero(bin_of == number) for number in np.unique(bin_of)]
