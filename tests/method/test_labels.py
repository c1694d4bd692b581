"""Measures of labels: by hand, against another library, and where there are none."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score

from neuron_opsd.config import EvaluationConfig
from neuron_opsd.method.labels import (
    OF_LABELS,
    baseline_answer,
    known_measures,
    label_columns,
    macro_f1,
    top_answer,
)
from neuron_opsd.records.scores import QuestionScore, TestResult
from neuron_opsd.stages.scoring import above_baseline, score_differences, summarise

CONFIG = EvaluationConfig(num_resamples=400)


def score(place: int, gold: str, *answers: str) -> QuestionScore:
    """Return a question that was given these answers; an empty one is not read."""
    counts = {a: answers.count(a) for a in answers if a}
    right = counts.get(gold, 0)
    return QuestionScore(
        question_id=str(place),
        num_correct=right,
        num_rollouts=len(answers),
        majority_answer=max(counts, key=lambda a: counts[a], default=None),
        majority_correct=2 * right > len(answers),
        agreement=max(counts.values(), default=0) / len(answers),
        num_unread=answers.count(""),
        num_truncated=0,
        mean_length=1.0,
        gold_answer=gold,
        answers=tuple(counts.items()),
    )


def result(*scores: QuestionScore) -> TestResult:
    """Return the result of these questions."""
    return summarise("t", scores, CONFIG)


def test_labels_by_hand() -> None:
    # Seven questions are yes, of which six are said to be; three no, of which one is.
    said = ["yes"] * 6 + ["no"] + ["yes"] * 2 + ["no"]
    gold = ["yes"] * 7 + ["no"] * 3
    found = result(
        *(score(n, g, a) for n, (g, a) in enumerate(zip(gold, said, strict=True)))
    ).metrics
    assert found["avg_at_k"] == pytest.approx(0.7)
    assert found["balanced_accuracy"] == pytest.approx((6 / 7 + 1 / 3) / 2)
    assert found["macro_f1"] == pytest.approx((12 / 15 + 2 / 5) / 2)
    assert found["baseline"] == pytest.approx(0.7)
    assert found["top_answer_share"] == pytest.approx(0.8)


def test_one_answer_to_everything_is_worth_a_class_and_no_more() -> None:
    # The run of the issue: 70.0 % right, and half of what there is to be right about.
    gold = ["no explanation"] * 280 + ["explanation"] * 120
    scores = [score(n, g, *["no explanation"] * 8) for n, g in enumerate(gold)]
    found = result(*scores).metrics
    assert found["avg_at_k"] == found["baseline"] == pytest.approx(0.7)
    assert found["balanced_accuracy"] == pytest.approx(0.5)
    assert found["macro_f1"] == pytest.approx(0.7 * 2 / 1.7 / 2)
    assert found["top_answer_share"] == 1.0
    above = above_baseline(result(*scores), CONFIG, seed=0)
    assert above is not None
    assert (above.low, above.value, above.high) == (0.0, 0.0, 0.0)


def test_unread_answers_are_wrong_and_no_answer() -> None:
    scores = [score(n, "a" if n < 6 else "b", "", "a") for n in range(10)]
    found = result(*scores).metrics
    assert found["balanced_accuracy"] == pytest.approx((0.5 + 0) / 2)
    assert found["top_answer_share"] == 0.5
    assert top_answer(scores) == ("a", 0.5)


def test_a_set_without_labels_has_no_measure_of_them() -> None:
    scores = [score(n, f"city {n}", f"city {n}") for n in range(20)]
    found = result(*scores).metrics
    for name in ("balanced_accuracy", "macro_f1", "baseline"):
        assert math.isnan(found[name])
    assert found["top_answer_share"] == 1 / 20
    assert baseline_answer(scores) is None
    assert above_baseline(result(*scores), CONFIG, seed=0) is None
    blind = [replace(one, gold_answer="", answers=()) for one in scores]
    assert all(math.isnan(result(*blind).metrics[name]) for name in OF_LABELS)


def test_a_frequent_answer_among_many_is_a_baseline_though_there_are_no_labels() -> (
    None
):
    gold = ["none"] * 8 + [f"city {n}" for n in range(12)]
    scores = [score(n, one, "none") for n, one in enumerate(gold)]
    found = result(*scores).metrics
    assert baseline_answer(scores) == "none"
    assert found["baseline"] == pytest.approx(0.4)
    assert math.isnan(found["balanced_accuracy"])
    assert baseline_answer(scores[4:]) is None  # four of sixteen


def test_a_model_above_the_baseline_is_above_it() -> None:
    gold = ["yes", "yes", "no"] * 40
    scores = [score(n, g, g, g, g, "yes") for n, g in enumerate(gold)]
    above = above_baseline(result(*scores), CONFIG, seed=0)
    assert above is not None
    assert above.value == pytest.approx(11 / 12 - 2 / 3)
    assert above.low > 0


def test_measures_of_labels_have_intervals() -> None:
    gold = ["yes", "yes", "no"] * 40
    before = result(*(score(n, g, "yes") for n, g in enumerate(gold)))
    after = result(*(score(n, g, g) for n, g in enumerate(gold)))
    delta = score_differences(before, after, CONFIG, seed=0)["balanced_accuracy"]
    assert delta.value == delta.low == delta.high == pytest.approx(0.5)
    assert score_differences(before, after, CONFIG, seed=0)["baseline"].value == 0.0


def test_an_answer_that_no_resampled_question_has_is_left_out() -> None:
    scores = [score(n, "a" if n < 9 else "b", "a") for n in range(10)]
    weights = np.array([[1.0] * 9 + [0.0], [1.0] * 10])
    columns = label_columns(scores)
    assert macro_f1(columns, weights).tolist() == pytest.approx([1.0, 9 / 19])


def test_groups_of_questions_have_the_measures_that_the_set_has() -> None:
    scores = [score(n, "a" if n < 8 else "b", "a") for n in range(12)]
    few = np.array([[1.0] * 2 + [0.0] * 8 + [1.0] * 2, [0.0] * 12])
    found = known_measures(label_columns(scores), few)
    assert found.keys() == OF_LABELS
    assert found["baseline"][0] == found["balanced_accuracy"][0] == 0.5
    assert found["top_answer_share"][0] == 1.0
    assert all(math.isnan(values[1]) for values in found.values())
    plain = [score(n, str(n), "a") for n in range(12)]
    assert known_measures(label_columns(plain), few).keys() == {"top_answer_share"}


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=15
    ).filter(lambda pairs: {g for g, _ in pairs} == set("abc"))
)
def test_labels_match_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    gold, said = zip(*pairs, strict=True)
    found = result(*(score(n, g, a) for n, (g, a) in enumerate(pairs))).metrics
    expected = balanced_accuracy_score(gold, said)
    assert found["balanced_accuracy"] == pytest.approx(expected)
    expected = f1_score(gold, said, average="macro", labels=list("abc"))
    assert found["macro_f1"] == pytest.approx(expected)
