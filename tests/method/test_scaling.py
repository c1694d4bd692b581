"""Stated confidences and their scaling: by hand, and against other libraries."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from neuron_opsd.method import scaling
from neuron_opsd.method.calibration import METRICS, columns_of
from neuron_opsd.method.scaling import (
    MEASURES,
    Confidences,
    confidences,
    fit,
    log_odds,
    measures,
    reliability,
    scaled,
    sigmoid,
    why_not_scaled,
)
from neuron_opsd.method.statistics import mcnemar
from neuron_opsd.records.scores import QuestionScore

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its imports are not ours to mend
    from torchmetrics.functional.classification import binary_calibration_error


def drawn(
    num_questions: int = 200, samples: int = 3, sharpness: float = 2.5
) -> Confidences:
    """Return confidences that are too sure by a known factor of their log-odds."""
    rng = np.random.default_rng(7)
    question = np.repeat(np.arange(num_questions), samples)
    odds = rng.normal(0.4, 1.2, len(question))
    correct = rng.random(len(question)) < sigmoid(odds)
    stated = np.clip(sigmoid(sharpness * odds), 0.001, 0.999)
    return confidences(stated, correct, question, 15)


def once(found: Confidences) -> dict[str, float]:
    """Return the measures with every question counted once."""
    weights = np.ones((1, int(found.question.max()) + 1))
    return dict(zip(MEASURES, measures(found, weights)[0].tolist(), strict=True))


def test_measures_are_those_of_other_libraries() -> None:
    found = drawn()
    told = once(found)
    theirs = binary_calibration_error(
        torch.tensor(found.confidence),
        torch.tensor(found.correct).long(),
        n_bins=15,
        norm="l1",
    )
    assert told["ece"] == pytest.approx(float(theirs), abs=1e-6)
    assert told["brier"] == pytest.approx(
        brier_score_loss(found.correct, found.confidence), abs=1e-12
    )
    assert told["auroc"] == pytest.approx(
        roc_auc_score(found.correct, found.confidence), abs=1e-12
    )
    gap = found.confidence.mean() - found.correct.mean()
    assert told["overconfidence"] == pytest.approx(gap, abs=1e-12)


def test_each_question_counts_once_however_many_answers_it_has() -> None:
    stated = np.array([0.9, 0.9, 0.9, 0.2])
    correct = np.array([True, True, False, False])
    found = confidences(stated, correct, np.array([0, 0, 0, 1]), 10)
    each = [1 / 3, 1 / 3, 1 / 3, 1.0]
    assert once(found)["brier"] == pytest.approx(
        brier_score_loss(correct, stated, sample_weight=each), abs=1e-12
    )
    assert once(found)["auroc"] == pytest.approx(
        roc_auc_score(correct, stated, sample_weight=each), abs=1e-12
    )
    assert once(found)["ece"] == pytest.approx((abs(0.9 - 2 / 3) + 0.2) / 2)


def test_weights_are_of_questions_and_blocks_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = drawn(30)
    weights = np.random.default_rng(1).integers(0, 3, (40, 30)).astype(np.float64)
    whole = measures(found, weights)
    monkeypatch.setattr(scaling, "BLOCK", 200)
    np.testing.assert_allclose(measures(found, weights), whole, rtol=1e-12)
    kept = np.repeat(weights[3].astype(int), 3)
    brier = brier_score_loss(
        np.repeat(found.correct, kept), np.repeat(found.confidence, kept)
    )
    assert whole[3, MEASURES.index("brier")] == pytest.approx(brier, abs=1e-12)


def test_the_vote_share_as_a_confidence_has_the_measures_of_the_vote() -> None:
    rng = np.random.default_rng(3)
    agreement = rng.integers(1, 9, 50) / 8
    right = rng.random(50) < agreement
    scores = [
        QuestionScore(
            str(i), int(ok), 8, "a", bool(ok), float(share), 0, 0, 1.0, "a", (("a", 8),)
        )
        for i, (share, ok) in enumerate(zip(agreement, right, strict=True))
    ]
    told = once(confidences(agreement, right, np.arange(50), 15))
    columns = columns_of(scores)
    for name, value in told.items():
        assert METRICS[name](columns, np.ones((1, 50)))[0] == pytest.approx(value)


@pytest.mark.parametrize("offset", [False, True])
def test_fits_are_those_of_scikit_learn(offset: bool) -> None:
    found = drawn()
    design = found.odds[:, None]
    theirs = LogisticRegression(C=np.inf, fit_intercept=offset, tol=1e-10)
    theirs.fit(design, found.correct, sample_weight=found.share)
    if offset:
        design = np.column_stack([design, np.ones(len(design))])
    wanted = [*theirs.coef_[0], *(theirs.intercept_ if offset else ())]
    assert fit(design, found.correct, found.share) == pytest.approx(wanted, abs=1e-4)


def test_scaling_finds_the_factor_that_made_confidences_too_sure() -> None:
    found = drawn(3000, 1)
    first = np.arange(3000) % 2 == 0
    moved, halves = scaled(found, first, offset=False)
    for (slope,) in halves:
        assert 1 / slope == pytest.approx(2.5, rel=0.15)
    assert once(moved)["ece"] < 0.5 * once(found)["ece"]
    assert once(moved)["brier"] < once(found)["brier"] - 0.01


def test_no_question_is_scaled_by_what_it_helped_to_fit() -> None:
    found = drawn(100, 2)
    first = np.arange(100) < 50
    moved, halves = scaled(found, first, offset=True)
    verdicts = found.correct.copy()
    verdicts[first[found.question]] ^= True  # turn the first half's verdicts round
    turned = confidences(found.confidence, verdicts, found.question, 15)
    other, others = scaled(turned, first, offset=True)
    own = first[found.question]
    np.testing.assert_array_equal(moved.confidence[own], other.confidence[own])
    assert not np.allclose(moved.confidence[~own], other.confidence[~own])
    np.testing.assert_array_equal(halves[1], others[1])


def test_a_temperature_never_turns_confidences_round() -> None:
    stated = np.array([0.9, 0.8, 0.2, 0.1] * 20)
    found = confidences(stated, stated < 0.5, np.arange(80), 15)
    first = np.arange(80) % 8 < 4
    moved, halves = scaled(found, first, offset=False)
    assert [half[0] for half in halves] == [0.0, 0.0]
    assert moved.confidence.tolist() == [0.5] * 80


def test_confidences_that_separate_right_from_wrong_can_be_fitted() -> None:
    stated = np.array([1.0, 1.0, 0.0, 0.0] * 10)
    found = confidences(stated, stated > 0.5, np.arange(40), 15)
    moved, halves = scaled(found, np.arange(40) % 8 < 4, offset=True)
    assert all(np.isfinite(half).all() for half in halves)
    assert once(moved)["brier"] < 1e-4
    assert found.odds.max() == pytest.approx(float(log_odds(np.array([0.995]))[0]))


def test_what_cannot_be_cut_into_halves_is_said() -> None:
    few = confidences(np.full(8, 0.5), np.arange(8) < 4, np.arange(8), 15)
    assert "fewer than 20" in why_not_scaled(few, np.arange(8) < 4)
    right = confidences(np.full(40, 0.5), np.arange(40) < 30, np.arange(40), 15)
    assert "only right" in why_not_scaled(right, np.arange(40) < 20)
    assert why_not_scaled(right, np.arange(40) % 2 < 1) == ""


def test_bins_hold_every_answer_and_their_means() -> None:
    found = drawn(60, 2)
    bins = reliability(found)
    assert sum(one.num_questions for one in bins) == 120
    gap = sum(
        abs(one.confidence - one.accuracy) * one.num_questions / 120 for one in bins
    )
    assert gap == pytest.approx(once(found)["ece"], abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second"), [(0, 0), (3, 3), (0, 1), (5, 12), (40, 22), (700, 500)]
)
def test_mcnemar_is_the_binomial_test(first: int, second: int) -> None:
    count = first + second
    wanted = binomtest(first, count).pvalue if count else 1.0
    assert mcnemar(first, second) == pytest.approx(wanted, rel=1e-9)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_mcnemar_of_huge_counts_is_a_number() -> None:
    assert 0.0 <= mcnemar(400_000, 600_000) < 1e-300
    assert mcnemar(500_000, 500_001) == pytest.approx(1.0, abs=1e-3)
    assert not math.isnan(mcnemar(0, 5000))
    with pytest.raises(ValueError, match="negative"):
        mcnemar(-1, 2)
