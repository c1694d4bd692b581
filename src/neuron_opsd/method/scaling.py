"""Calibration of stated confidences, before and after scaling. Pure NumPy.

Scaling changes a confidence's log-odds by a slope (temperature scaling; the temperature
is its inverse), or by a slope and an offset (Platt scaling). It is fitted on one half
of the questions and measured on the other, both ways.

Axes: Q questions, N samples of them, R rows of weights, P parameters, M measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.calibration import CONFIDENCE_METRICS, bins_of, check
from neuron_opsd.method.statistics import BoolArray, FloatArray
from neuron_opsd.records.scores import Bin

LEAST_QUESTIONS: Final = 20
"""Fewest questions that are cut into halves."""
NEAREST: Final = 0.005
"""Distance from 0 and 1 to which confidences are clipped for log-odds."""
RIDGE: Final = 1e-6
"""Penalty per question on half the squared parameters; a fit then exists even if
confidences separate right from wrong."""
MAX_ITERATIONS: Final = 100
BLOCK: Final = 1 << 20
"""Weights in memory at once."""

MEASURES: Final = tuple(CONFIDENCE_METRICS)
"""In the order of columns."""
SCALINGS: Final[Mapping[str, bool]] = {"temperature": False, "platt": True}
"""Whether it has an offset besides the slope."""

Halves: TypeAlias = tuple[FloatArray, FloatArray]
"""Parameters ``(P,)`` of the first and second half."""


@dataclass(frozen=True, slots=True, eq=False)
class Confidences:
    """Confidences of N answers to Q questions; arrays are ``(N,)``."""

    confidence: FloatArray
    correct: BoolArray
    question: NDArray[np.intp]
    """Place of its question, from 0 to Q - 1."""
    share: FloatArray
    """Weight of each; those of one question sum to 1."""
    odds: FloatArray
    """Log-odds, kept finite."""
    num_bins: int


def confidences(
    confidence: FloatArray,
    correct: BoolArray,
    question: NDArray[np.intp],
    num_bins: int,
    nearest: FloatArray | float = NEAREST,
) -> Confidences:
    """Build confidences with what follows from them.

    Args:
        confidence: In [0, 1], ``(N,)``.
        correct: Whether each answer is right.
        question: Place of each answer's question.
        num_bins: Of the calibration error.
        nearest: Distance from 0 and 1 to clip at for log-odds, for all or each.

    Raises:
        ValueError: If they are not in [0, 1], or lengths differ.
    """
    check(confidence, correct, num_bins)
    answers = np.bincount(question)
    return Confidences(
        confidence,
        correct,
        question,
        1.0 / answers[question],
        log_odds(np.clip(confidence, nearest, 1.0 - np.asarray(nearest))),
        num_bins,
    )


def log_odds(share: FloatArray) -> FloatArray:
    """Return the logarithm of p / (1 - p)."""
    return np.log(share) - np.log1p(-share)


def measures(found: Confidences, weights: FloatArray) -> FloatArray:
    """Return `MEASURES`, ``(R, M)``, with each question counted by its weight."""
    rows = max(1, BLOCK // max(1, found.confidence.size))
    blocks = [
        measured_block(found, weights[start : start + rows])
        for start in range(0, len(weights), rows)
    ]
    return np.concatenate(blocks)


def measured_block(found: Confidences, weights: FloatArray) -> FloatArray:
    """Return the measures of some rows, NaN where no answer counts."""
    every = weights[:, found.question] * found.share
    counts = every.sum(axis=1) > 0.0
    columns = [
        metric(found.confidence, found.correct, every[counts], found.num_bins)
        for metric in CONFIDENCE_METRICS.values()
    ]
    told = np.full((len(weights), len(MEASURES)), np.nan)
    told[counts] = np.stack(columns, axis=1)
    return told


def reliability(found: Confidences) -> tuple[Bin, ...]:
    """Return the non-empty bins of the calibration error, lowest first."""
    return tuple(bins_of(found.confidence, found.correct, found.num_bins, found.share))


def why_not_scaled(found: Confidences, first: BoolArray) -> str:
    """Say why `scaled` cannot be fitted on each half, or return ""."""
    if len(first) < LEAST_QUESTIONS:
        return f"{len(first)} questions are fewer than {LEAST_QUESTIONS}"
    for half in (True, False):
        verdicts = found.correct[first[found.question] == half]
        if verdicts.all() or not verdicts.any():
            return "one half of the questions holds only right answers, or only wrong"
    return ""


def scaled(
    found: Confidences, first: BoolArray, *, offset: bool
) -> tuple[Confidences, Halves]:
    """Scale confidences by the fit on the other half of the questions.

    `first` ``(Q,)`` marks the first half; `offset` adds one to the slope.

    Source: Guo et al. 2017 (temperature); Platt 1999 (slope and offset).
    """
    design = found.odds[:, None]
    if offset:
        design = np.column_stack([design, np.ones(len(design))])
    in_first = first[found.question]
    fitted = [
        fit(design[half], found.correct[half], found.share[half])
        for half in (in_first, ~in_first)
    ]
    if not offset:  # a negative temperature would reverse confidences
        fitted = [np.maximum(one, 0.0) for one in fitted]
    by_other = np.where(in_first, design @ fitted[1], design @ fitted[0])
    moved = replace(found, confidence=sigmoid(by_other), odds=by_other)
    return moved, (fitted[0], fitted[1])


def fit(design: FloatArray, correct: BoolArray, weights: FloatArray) -> FloatArray:
    """Return logistic regression parameters ``(P,)``, by Newton's method.

    Takes a design ``(N, P)``, verdicts ``(N,)`` and weights ``(N,)``.
    """
    ridge = RIDGE * weights.sum()
    found = np.zeros(design.shape[1])
    value = loss(design, correct, weights, found)
    for _ in range(MAX_ITERATIONS):
        share = sigmoid(design @ found)
        slope = design.T @ (weights * (share - correct)) + ridge * found
        curve = (design * (weights * share * (1.0 - share))[:, None]).T @ design
        step = np.linalg.solve(curve + ridge * np.eye(len(found)), slope)
        size, after = 1.0, loss(design, correct, weights, found - step)
        while after > value and size > 1e-6:  # too far: the curve flattens outwards
            size /= 2.0
            after = loss(design, correct, weights, found - size * step)
        if not after < value:
            break
        found, value = found - size * step, after
    return found


def loss(
    design: FloatArray, correct: BoolArray, weights: FloatArray, found: FloatArray
) -> float:
    """Return the negative log-likelihood of parameters, plus the penalty."""
    odds = design @ found
    each = np.logaddexp(0.0, odds) - correct * odds
    return float(weights @ each + 0.5 * RIDGE * weights.sum() * (found @ found))


def sigmoid(odds: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(0.0, -odds))
