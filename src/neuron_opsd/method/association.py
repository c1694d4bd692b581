"""Associations over questions, with bootstrap intervals. Pure NumPy.

Measures count each question as often as its weight says: ones give the plain measure,
counts of draws that of a bootstrap resample.

Axes: Q questions, R rows of weights, K columns, M measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method import statistics
from neuron_opsd.method.statistics import FloatArray, mid_ranks
from neuron_opsd.records.scores import Interval

Places: TypeAlias = NDArray[np.intp]

Measures: TypeAlias = Callable[[FloatArray], Mapping[str, FloatArray]]
"""Takes weights ``(R, Q)``; returns ``(R,)`` by name."""

CONSTANT: Final = 1e-12
"""Variance, in units of all questions', below which a column is constant."""

EXPLAINED: Final = 1e-9
"""Share of variance left if a regression explains all but rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Measures of questions, and of resamples of them."""

    names: tuple[str, ...]
    values: FloatArray
    """``(M,)``."""
    draws: FloatArray
    """``(R, M)``."""

    def intervals(self) -> dict[str, Interval]:
        """Return every measure with its 95 % percentile interval."""
        found = statistics.percentile_intervals(self.values, self.draws)
        return dict(zip(self.names, found, strict=True))


def measure_resamples(
    measures: Measures, num_questions: int, num_resamples: int, rng: np.random.Generator
) -> Measured:
    """Measure Q questions and R resamples of them, the same for all measures.

    Source: Efron and Tibshirani 1993, chapter 13 (percentile interval).
    """
    plain = measures(np.ones((1, num_questions)))
    draws = [
        np.stack(list(measures(weights).values()), axis=1)
        for weights in statistics.weight_chunks(num_questions, num_resamples, rng)
    ]
    values = np.array([value[0] for value in plain.values()])
    return Measured(tuple(plain), values, np.concatenate(draws))


def joined(parts: Iterable[Measured]) -> Measured:
    """Join measures of the same questions and number of resamples."""
    found = list(parts)
    return Measured(
        tuple(name for part in found for name in part.names),
        np.concatenate([part.values for part in found]),
        np.concatenate([part.draws for part in found], axis=1),
    )


def mean_of(groups: Sequence[Measured]) -> Measured:
    """Return the equally weighted means over groups of questions.

    Groups of the same questions must share resamples, by equal generators. Measures
    missing in a group are left out; NaN in one gives NaN.
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
        given: Columns to regress out of both, for the partial correlation.
        ranked: Use ranks, with ties at their mean, for all values.

    Returns:
        ``(R,)`` in [-1, 1]; NaN if a side is constant or explained by `given`, or
            hardly more questions than given columns count.
    """
    columns = [x, y, *given]
    if ranked:
        table = np.stack([mid_ranks(c, weights) for c in columns], axis=2) / x.size
    else:
        table = np.stack([standard(column) for column in columns], axis=1)[None]
    found = partial_correlations(covariances(table, weights))
    # The given columns can explain anything about so few questions.
    enough = weights.sum(axis=1) > len(given) + 2
    return np.where(enough | (not given), found, np.nan)


def standard(values: FloatArray) -> FloatArray:
    """Scale values to mean 0 and variance 1; constant ones to 0."""
    if values.min() == values.max():
        return np.zeros(values.size)
    # Scaling first keeps the squares of huge and tiny values within range.
    scaled = values / np.abs(values).max()
    centred = scaled - scaled.mean()
    return np.asarray(centred / centred.std(), dtype=np.float64)


def covariances(columns: FloatArray, weights: FloatArray) -> FloatArray:
    """Return weighted covariances ``(R, K, K)`` of columns ``(R or 1, Q, K)``.

    Exactly 0 for columns that vary by rounding alone.
    """
    share = (weights / weights.sum(axis=1, keepdims=True))[:, :, None]
    centred = columns - (share * columns).sum(axis=1, keepdims=True)
    product = (share * centred).swapaxes(1, 2) @ centred
    varies = np.diagonal(product, axis1=1, axis2=2) > CONSTANT
    return np.where(varies[:, :, None] & varies[:, None, :], product, 0.0)


def partial_correlations(covariance: FloatArray) -> FloatArray:
    """Correlate columns 0 and 1 given the others, ``(R,)`` from ``(R, K, K)``."""
    whole = covariance[:, :2, :2]
    between = covariance[:, :2, 2:]
    others = np.linalg.pinv(covariance[:, 2:, 2:], rcond=EXPLAINED, hermitian=True)
    left = whole - between @ others @ between.swapaxes(1, 2)
    one, other = left[:, 0, 0], left[:, 1, 1]
    known = (one > EXPLAINED * whole[:, 0, 0]) & (other > EXPLAINED * whole[:, 1, 1])
    scale = np.sqrt(np.where(known, one * other, 1.0))
    found = np.clip(left[:, 0, 1] / scale, -1.0, 1.0)
    return np.where(known, found, np.nan)


def residuals(target: FloatArray, given: Sequence[FloatArray]) -> FloatArray:
    """Return the target's residuals ``(Q,)`` from a linear regression.

    Pure rounding is set to 0.
    """
    columns = [np.ones(target.size), *(standard(column) for column in given)]
    table = np.stack(columns, axis=1)
    weights, *_ = np.linalg.lstsq(table, target, rcond=None)
    left = np.asarray(target - table @ weights, dtype=np.float64)
    if left.var() <= max(CONSTANT, EXPLAINED * target.var()):
        return np.zeros(target.size)
    return left


def equal_mass_bins(values: FloatArray, num_bins: int) -> list[Places]:
    """Cut questions by value into bins of about equal size, lowest first.

    Equal values share a bin, that of the middle of their ranks; empty bins are dropped.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}, but there must be at least one bin")
    middle = mid_ranks(values, np.ones((1, values.size)))[0] - 0.5
    bin_of = np.floor(middle * num_bins / values.size).astype(np.intp)
    return [np.flatnonzero(bin_of == number) for number in np.unique(bin_of)]
