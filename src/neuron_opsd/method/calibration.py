"""Accuracy and calibration of answered questions. Pure NumPy.

Confidence is the vote's agreement, unread answers included; a question is correct if
its most frequent answer is. Measures count each question as often as its weight says,
which makes 10,000 bootstrap resamples cheap.

Axes: Q questions, R rows of weights, V distinct confidences, B bins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method import labels
from neuron_opsd.method.labels import LabelColumns, label_columns
from neuron_opsd.method.statistics import BoolArray, FloatArray, areas, means
from neuron_opsd.records.scores import Bin, QuestionScore

EDGE_TOLERANCE: Final = 1e-9
"""Distance above an edge, in bins, that still counts as on it."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoreColumns:
    """What the measures need; every array is ``(Q,)``."""

    accuracy: FloatArray
    solved: BoolArray
    confidence: FloatArray
    correct: BoolArray
    unread: FloatArray
    truncated: FloatArray
    length: FloatArray
    """Mean completion tokens."""
    voted: bool
    """Whether any question has several rollouts."""
    num_bins: int
    labels: LabelColumns


Metric: TypeAlias = Callable[[ScoreColumns, FloatArray], FloatArray]
"""Takes Q questions and weights ``(R, Q)``; returns ``(R,)``."""


def columns_of(scores: Sequence[QuestionScore], num_bins: int = 15) -> ScoreColumns:
    """Turn scores into arrays.

    Raises:
        ValueError: If there are no scores, one has no rollouts, a count exceeds its
            total, or an agreement is outside [0, 1].
    """
    for score in scores:
        counts = (score.num_correct, score.num_unread, score.num_truncated)
        possible = 0 <= min(counts) <= max(counts) <= score.num_rollouts
        if score.num_rollouts < 1 or not possible:
            raise ValueError(
                f"question {score.question_id!r} has {score.num_rollouts} rollouts, "
                f"of which {counts} are correct, unread and truncated"
            )
    num_rollouts = np.array([score.num_rollouts for score in scores], dtype=np.float64)
    num_correct = np.array([score.num_correct for score in scores], dtype=np.float64)
    confidence = np.array([score.agreement for score in scores], dtype=np.float64)
    correct = np.array([score.majority_correct for score in scores], dtype=np.bool_)
    check(confidence, correct, num_bins)
    return ScoreColumns(
        accuracy=num_correct / num_rollouts,
        solved=num_correct > 0,
        confidence=confidence,
        correct=correct,
        unread=np.array([score.num_unread for score in scores]) / num_rollouts,
        truncated=np.array([score.num_truncated for score in scores]) / num_rollouts,
        length=np.array([score.mean_length for score in scores], dtype=np.float64),
        voted=has_votes(scores),
        num_bins=num_bins,
        labels=label_columns(scores),
    )


def has_votes(scores: Sequence[QuestionScore]) -> bool:
    """Tell whether any question was answered more than once.

    A single answer's vote share says nothing.
    """
    return any(score.num_rollouts > 1 for score in scores)


def check(confidence: FloatArray, correct: BoolArray, num_bins: int = 1) -> None:
    """Raise ValueError for input that no measure can use."""
    if confidence.ndim != 1 or confidence.shape != correct.shape or not confidence.size:
        raise ValueError(
            "need one confidence per verdict and at least one of each, got shapes "
            f"{confidence.shape} and {correct.shape}"
        )
    if correct.dtype != np.bool_:
        raise ValueError(f"verdicts must be true or false, got type {correct.dtype}")
    if not ((confidence >= 0.0) & (confidence <= 1.0)).all():  # also catches NaN
        raise ValueError(
            f"confidences must lie in [0, 1], got values from {confidence.min()} "
            f"to {confidence.max()}"
        )
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}, but there must be at least one bin")


def reliability_bins(scores: Sequence[QuestionScore], num_bins: int = 15) -> list[Bin]:
    """Return the calibration bins, lowest first; none without votes."""
    columns = columns_of(scores, num_bins)
    if not columns.voted:
        return []
    return bins_of(columns.confidence, columns.correct, num_bins)


def bins_of(
    confidence: FloatArray,
    correct: BoolArray,
    num_bins: int,
    share: FloatArray | None = None,
) -> list[Bin]:
    """Return the non-empty bins, answers weighted by share, else equally."""
    bin_of = equal_width_bins(confidence, num_bins)
    bins = []
    for number in np.unique(bin_of).tolist():
        held = bin_of == number
        weights = None if share is None else share[held]
        bins.append(
            Bin(
                low=number / num_bins,
                high=(number + 1) / num_bins,
                confidence=float(np.average(confidence[held], weights=weights)),
                accuracy=float(np.average(correct[held], weights=weights)),
                num_questions=int(held.sum()),
            )
        )
    return bins


def members(group_of: NDArray[np.intp], num_groups: int) -> FloatArray:
    """Return ``(Q, groups)``, 1 where a question belongs to a group."""
    return np.equal.outer(group_of, np.arange(num_groups)).astype(np.float64)


def equal_width_bins(confidence: FloatArray, num_bins: int) -> NDArray[np.intp]:
    """Return each question's bin, from 0; bins are closed on the right."""
    # 7/15 * 15 may round to just above 7; it still belongs to the lower bin.
    edge = np.ceil(confidence * num_bins - EDGE_TOLERANCE).astype(np.intp)
    return np.clip(edge - 1, 0, num_bins - 1)


def binned_gap(
    confidence: FloatArray, correct: BoolArray, weights: FloatArray, num_bins: int
) -> FloatArray:
    """Return the calibration error over bins of equal width, per row of weights.

    Confidence 1 falls in the last bin, 0 in the first.

    Source: Naeini et al. 2015; bins and confidence as in arXiv:2607.02460, section 5.3.
    """
    member = members(equal_width_bins(confidence, num_bins), num_bins)
    gap = weights @ (member * (confidence - correct)[:, None])
    return np.asarray(np.abs(gap).sum(axis=1) / weights.sum(axis=1), dtype=np.float64)


def equal_mass_gap(
    confidence: FloatArray, correct: BoolArray, weights: FloatArray, num_bins: int
) -> FloatArray:
    """Return the calibration error over bins of equal mass, per row of weights.

    Equal confidences share a bin: the one that holds the middle of their mass, the
    upper one on a border.

    Source: Nixon et al. 2019, with ties kept together.
    """
    distinct, value_of = np.unique(confidence, return_inverse=True)
    member = members(value_of, distinct.size)
    mass = weights @ member
    gap = weights @ (member * (confidence - correct)[:, None])
    total = weights.sum(axis=1)
    # Twice the middle of each value's mass: whole for whole weights, so exact.
    middle = 2.0 * mass.cumsum(axis=1) - mass
    bin_of = np.floor(middle * num_bins / (2.0 * total)[:, None]).astype(np.intp)
    bin_of = np.clip(bin_of, 0, num_bins - 1)
    cell = bin_of + np.arange(len(weights))[:, None] * num_bins
    sums = np.bincount(cell.ravel(), gap.ravel(), minlength=len(weights) * num_bins)
    by_bin = np.abs(sums.reshape(len(weights), num_bins))
    return np.asarray(by_bin.sum(axis=1) / total, dtype=np.float64)


OfConfidence: TypeAlias = Callable[[FloatArray, BoolArray, FloatArray, int], FloatArray]
"""Takes confidences, verdicts, weights, number of bins; returns ``(R,)``."""

CONFIDENCE_METRICS: Final[Mapping[str, OfConfidence]] = {
    "ece": binned_gap,
    "adaptive_ece": equal_mass_gap,
    "brier": lambda stated, correct, w, _: means((stated - correct) ** 2, w),
    "auroc": lambda stated, correct, w, _: areas(stated, correct, w),
    "overconfidence": lambda stated, correct, w, _: means(stated - correct, w),
}


def where_read(metric: OfConfidence) -> Metric:
    """Make a measure NaN without votes, and in rows without a readable answer.

    Otherwise no confidence and no correct answers would look perfectly calibrated.
    """

    def measured(columns: ScoreColumns, weights: FloatArray) -> FloatArray:
        values = metric(columns.confidence, columns.correct, weights, columns.num_bins)
        read = weights @ (columns.confidence > 0.0)
        return np.where((read > 0.0) & columns.voted, values, np.nan)

    return measured


METRICS: Final[Mapping[str, Metric]] = {
    "avg_at_k": lambda c, w: means(c.accuracy, w),
    "maj_at_k": lambda c, w: means(c.correct, w),
    "pass_at_k": lambda c, w: means(c.solved, w),
    "balanced_accuracy": lambda c, w: labels.balanced_accuracy(c.labels, w),
    "macro_f1": lambda c, w: labels.macro_f1(c.labels, w),
    "baseline": lambda c, w: means(c.labels.baseline, w),
    "top_answer_share": lambda c, w: means(c.labels.top, w),
    **{name: where_read(metric) for name, metric in CONFIDENCE_METRICS.items()},
    "unanimity": lambda c, w: np.where(c.voted, means(c.confidence == 1.0, w), np.nan),
    "parse_failure": lambda c, w: means(c.unread, w),
    "truncation": lambda c, w: means(c.truncated, w),
    "mean_length": lambda c, w: means(c.length, w),
}
"""Keyed as in `TestResult.metrics`; all but `mean_length` are shares of 1. Calibration
is NaN if no answer is readable or each question was asked once; unanimity in the second
case. Brier score: Brier 1950, for the event that the majority answer is right."""


def measure(columns: ScoreColumns, weights: FloatArray) -> FloatArray:
    """Return all measures, ``(R, M)``, in the order of `METRICS`."""
    return np.stack([metric(columns, weights) for metric in METRICS.values()], axis=1)
