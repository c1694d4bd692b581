"""Measures: by hand, at the edges of bins, and against other libraries."""

from __future__ import annotations

import dataclasses
import math
import random
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, roc_auc_score

from neuron_opsd.method.calibration import (
    METRICS,
    binned_gap,
    check,
    columns_of,
    equal_mass_gap,
    measure,
    reliability_bins,
)
from neuron_opsd.method.labels import OF_LABELS
from neuron_opsd.method.statistics import areas, means
from neuron_opsd.records.scores import Bin, QuestionScore

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its imports are not ours to mend
    from torchmetrics.functional.classification import binary_calibration_error

Verdicts = tuple[NDArray[np.float64], NDArray[np.bool_]]


def to_arrays(votes: list[tuple[int, bool]]) -> Verdicts:
    """Turn eighths and verdicts into confidences and verdicts."""
    confidence = np.array([count / 8 for count, _ in votes])
    return confidence, np.array([right for _, right in votes])


def once(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights that count every question once."""
    return np.ones((1, confidence.size))


def expected_calibration_error(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], num_bins: int = 15
) -> float:
    """Return the gap over bins of equal width, of all questions once."""
    check(confidence, correct, num_bins)
    return float(binned_gap(confidence, correct, once(confidence), num_bins)[0])


def adaptive_calibration_error(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], num_bins: int = 15
) -> float:
    """Return the gap over bins of equal mass, of all questions once."""
    check(confidence, correct, num_bins)
    return float(equal_mass_gap(confidence, correct, once(confidence), num_bins)[0])


def brier_score(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """Return the mean squared gap, of all questions once."""
    check(confidence, correct)
    return float(means((confidence - correct) ** 2, once(confidence))[0])


def area_under_roc(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_]
) -> float:
    """Return how often a right question has more confidence than a wrong one."""
    check(confidence, correct)
    return float(areas(confidence, correct, once(confidence))[0])


eighths = st.tuples(st.integers(0, 8), st.booleans())
verdicts = st.lists(eighths, min_size=1, max_size=40).map(to_arrays)
both_kinds = verdicts.filter(lambda pair: 0 < pair[1].sum() < pair[1].size)
weights = st.lists(st.integers(0, 4), min_size=40, max_size=40)
public = pytest.mark.parametrize(
    "function",
    [
        expected_calibration_error,
        adaptive_calibration_error,
        brier_score,
        area_under_roc,
    ],
)


def score(
    num_correct: int, agreement: float, *, correct: bool, question_id: str = "q"
) -> QuestionScore:
    """Return a score of 8 rollouts, 1 of them unread and 2 cut."""
    return QuestionScore(
        question_id, num_correct, 8, "a", correct, agreement, 1, 2, 30.0
    )


def scores_of(pair: Verdicts) -> list[QuestionScore]:
    """Return scores with these confidences and verdicts."""
    return [
        score(int(8 * c) if right else 0, float(c), correct=bool(right))
        for c, right in zip(*pair, strict=True)
    ]


def test_ece_by_hand() -> None:
    # 0.5 lies on the edge of two bins and belongs to the lower one. The bins err in
    # opposite directions, -0.5 and +1, and must not cancel: (0.5 + 1) / 2 questions.
    confidence = np.array([0.5, 1.0])
    correct = np.array([True, False])
    assert expected_calibration_error(confidence, correct, num_bins=2) == 0.75


def test_an_edge_missed_by_rounding_is_still_an_edge() -> None:
    # 0.28 * 25 comes out as 7.000000000000001; opposite gaps must not meet in bin 8.
    assert 0.28 * 25 > 7
    confidence = np.array([0.28, 0.3])
    correct = np.array([True, False])
    ece = expected_calibration_error(confidence, correct, num_bins=25)
    assert ece == pytest.approx((0.72 + 0.3) / 2)


def test_adaptive_ece_by_hand() -> None:
    # Two bins of two questions: gaps |0.1 + 0.2 - 1| and |0.8 + 0.9 - 1| over 4.
    confidence = np.array([0.9, 0.1, 0.8, 0.2])
    correct = np.array([True, True, False, False])
    error = adaptive_calibration_error(confidence, correct, num_bins=2)
    assert error == pytest.approx((0.7 + 0.7) / 4)


def test_adaptive_ece_keeps_ties_together() -> None:
    # Three questions at 0.4 (middle of mass 1.5 of 4, first half) and one at 1.
    confidence = np.array([0.4, 0.4, 0.4, 1.0])
    correct = np.array([True, False, False, True])
    error = adaptive_calibration_error(confidence, correct, num_bins=2)
    assert error == pytest.approx(abs(3 * 0.4 - 1) / 4)


def test_auroc_by_hand() -> None:
    # Right at 0.5 and 1, wrong at 0.5: one tie and one win of two pairs.
    confidence = np.array([0.5, 1.0, 0.5])
    correct = np.array([True, True, False])
    assert area_under_roc(confidence, correct) == 0.75


@pytest.mark.parametrize("right", [True, False])
def test_auroc_needs_both_kinds(right: bool) -> None:
    assert math.isnan(area_under_roc(np.array([0.5, 1.0]), np.array([right, right])))


@public
@pytest.mark.parametrize(
    ("confidence", "correct", "message"),
    [
        ([], [], "at least one of each"),
        ([0.5], [True, False], "one confidence per verdict"),
        ([1.5], [True], r"must lie in \[0, 1\]"),
        ([-0.1], [True], r"must lie in \[0, 1\]"),
        ([math.nan], [True], r"must lie in \[0, 1\]"),
    ],
)
def test_what_no_measure_can_use_is_refused(
    function: Callable[..., float],
    confidence: list[float],
    correct: list[bool],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        function(np.array(confidence), np.array(correct, dtype=np.bool_))


def test_verdicts_must_be_true_or_false() -> None:
    with pytest.raises(ValueError, match="float64"):
        brier_score(np.array([0.5]), np.array([0.3]))


def test_there_must_be_a_bin() -> None:
    with pytest.raises(ValueError, match="num_bins is 0"):
        expected_calibration_error(np.array([0.5]), np.array([True]), num_bins=0)


@pytest.mark.parametrize(
    "change",
    [{"num_correct": 9}, {"num_correct": -1}, {"num_rollouts": 0}, {"num_unread": 9}],
)
def test_counts_that_cannot_be_are_refused(change: dict[str, int]) -> None:
    bad = dataclasses.replace(score(4, 0.5, correct=True), **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'q'"):
        columns_of([bad])


OF_VOTES = (
    *("ece", "adaptive_ece", "brier", "auroc", "overconfidence"),
    "unanimity",
)


def test_one_answer_to_a_question_has_no_vote_to_measure() -> None:
    def answered(num_rollouts: int, *, correct: bool) -> QuestionScore:
        return QuestionScore("q", correct, num_rollouts, "a", correct, 1.0, 0, 0, 30.0)

    single = [answered(1, correct=True), answered(1, correct=False)]
    for scores, missing in (
        (single, OF_VOTES),
        ([*single, answered(2, correct=True)], ()),
    ):
        values = measure(columns_of(scores), np.ones((1, len(scores))))[0]
        found = dict(zip(METRICS, values.tolist(), strict=True))
        assert {n for n in OF_VOTES if math.isnan(found[n])} == set(missing)
        assert found["avg_at_k"] > 0.0
        assert bool(reliability_bins(scores)) is not bool(missing)


def test_every_measure_by_hand() -> None:
    scores = [score(6, 0.75, correct=True), score(2, 0.5, correct=False)]
    values = measure(columns_of(scores), np.ones((1, 2)))[0]
    found = dict(zip(METRICS, values.tolist(), strict=True))
    assert found == pytest.approx(
        dict.fromkeys(OF_LABELS, math.nan)
        | {
            "avg_at_k": 0.5,
            "maj_at_k": 0.5,
            "pass_at_k": 1.0,
            "ece": (0.25 + 0.5) / 2,
            "adaptive_ece": (0.25 + 0.5) / 2,
            "brier": (0.0625 + 0.25) / 2,
            "auroc": 1.0,
            "overconfidence": 0.625 - 0.5,
            "unanimity": 0.0,
            "parse_failure": 1 / 8,
            "truncation": 2 / 8,
            "mean_length": 30.0,
        },
        nan_ok=True,
    )


def test_reliability_bins_by_hand() -> None:
    scores = [
        score(4, 0.5, correct=True),
        score(0, 0.5, correct=False),
        score(8, 1.0, correct=True),
    ]
    assert reliability_bins(scores, num_bins=2) == [
        Bin(0.0, 0.5, confidence=0.5, accuracy=0.5, num_questions=2),
        Bin(0.5, 1.0, confidence=1.0, accuracy=1.0, num_questions=1),
    ]


@given(verdicts)
def test_reliability_bins_add_up_to_the_calibration_error(pair: Verdicts) -> None:
    bins = reliability_bins(scores_of(pair))
    gaps = [b.num_questions * abs(b.confidence - b.accuracy) for b in bins]
    assert sum(b.num_questions for b in bins) == pair[0].size
    assert sum(gaps) / pair[0].size == pytest.approx(expected_calibration_error(*pair))


@given(verdicts)
def test_errors_lie_between_zero_and_one(pair: Verdicts) -> None:
    for error in (expected_calibration_error, adaptive_calibration_error, brier_score):
        assert 0.0 <= error(*pair) <= 1.0


@given(verdicts)
def test_one_bin_leaves_the_gap_between_mean_confidence_and_accuracy(
    pair: Verdicts,
) -> None:
    gap = abs(pair[0].mean() - pair[1].mean())
    assert expected_calibration_error(*pair, num_bins=1) == pytest.approx(gap)
    assert adaptive_calibration_error(*pair, num_bins=1) == pytest.approx(gap)


@given(verdicts)
def test_eight_votes_stand_each_alone_in_a_bin(pair: Verdicts) -> None:
    confidence, correct = pair
    gaps = [
        abs((confidence - correct)[confidence == value].sum())
        for value in np.unique(confidence)
    ]
    expected = sum(gaps) / confidence.size
    assert expected_calibration_error(*pair) == pytest.approx(expected)


@given(verdicts)
def test_brier_matches_scikit_learn(pair: Verdicts) -> None:
    confidence, correct = pair
    expected = brier_score_loss(correct, confidence, pos_label=True, labels=[0, 1])
    assert brier_score(*pair) == pytest.approx(expected)


@given(both_kinds)
def test_auroc_matches_scikit_learn(pair: Verdicts) -> None:
    confidence, correct = pair
    assert area_under_roc(*pair) == pytest.approx(roc_auc_score(correct, confidence))


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=1))
def test_ece_matches_torchmetrics(both: list[tuple[float, bool]]) -> None:
    # It closes bins on the left and calculates in float32: stay off the edges.
    pair = [(c, r) for c, r in both if abs(c * 15 - round(c * 15)) > 1e-4]
    if not pair:
        return
    confidence = np.array([c for c, _ in pair])
    correct = np.array([right for _, right in pair])
    expected = binary_calibration_error(
        torch.tensor(confidence), torch.tensor(correct).int(), n_bins=15, norm="l1"
    )
    ece = expected_calibration_error(confidence, correct)
    assert ece == pytest.approx(float(expected), abs=1e-5)


@given(verdicts, st.integers(0, 99))
def test_the_order_of_questions_changes_nothing(pair: Verdicts, seed: int) -> None:
    scores = scores_of(pair)
    shuffled = random.Random(seed).sample(scores, len(scores))
    once = np.ones((1, len(scores)))
    np.testing.assert_allclose(
        measure(columns_of(shuffled), once), measure(columns_of(scores), once)
    )


@given(verdicts, weights)
def test_a_weight_counts_a_question_so_often(pair: Verdicts, often: list[int]) -> None:
    scores = scores_of(pair)
    counts = often[: len(scores)]
    counts[0] += 1
    repeated = [s for s, n in zip(scores, counts, strict=True) for _ in range(n)]
    weighted = measure(columns_of(scores), np.array([counts, counts], dtype=float))
    plain = measure(columns_of(repeated), np.ones((1, len(repeated))))
    np.testing.assert_allclose(weighted, np.vstack([plain, plain]), atol=1e-12)


UNREAD = QuestionScore(
    "q",
    0,
    8,
    None,
    majority_correct=False,
    agreement=0.0,
    num_unread=8,
    num_truncated=8,
    mean_length=5.0,
)
"""A question none of whose completions holds an answer."""


def test_calibration_of_unread_answers_is_no_number() -> None:
    columns = columns_of([UNREAD, UNREAD])
    values = dict(zip(METRICS, measure(columns, np.ones((1, 2)))[0], strict=True))
    without = {name for name, value in values.items() if np.isnan(value)}
    unmeasured = {"ece", "adaptive_ece", "brier", "auroc", "overconfidence"}
    assert without - OF_LABELS == unmeasured
    assert values["avg_at_k"] == 0.0
    assert values["parse_failure"] == 1.0


def test_one_answer_that_is_read_makes_calibration_a_number() -> None:
    read = QuestionScore(
        "r",
        0,
        8,
        "x",
        majority_correct=False,
        agreement=0.5,
        num_unread=4,
        num_truncated=4,
        mean_length=5.0,
    )
    columns = columns_of([UNREAD, read])
    weights = np.array([[1.0, 1.0], [2.0, 0.0]])
    ece = METRICS["ece"](columns, weights)
    assert ece[0] == pytest.approx(0.25)
    assert np.isnan(ece[1])
