"""Scores, measures and differences of test sets, worked by hand."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.answers.readers import Reader, readers_for
from neuron_opsd.config import AnswersConfig, EvaluationConfig
from neuron_opsd.errors import DataError
from neuron_opsd.method.calibration import METRICS
from neuron_opsd.method.labels import OF_LABELS
from neuron_opsd.records import Completion, GoldAnswers, Message, Question, Rollout
from neuron_opsd.records.scores import QuestionScore, TestResult
from neuron_opsd.stages.scoring import (
    mean_of_tests,
    score_differences,
    score_rollouts,
    summarise,
)

CONFIG = EvaluationConfig(num_resamples=500)


def question(question_id: str, *choices: str) -> Question:
    """Return a question with this id."""
    return Question(question_id, (Message("user", "?"),), choices)


def rollouts_of(question_id: str, *answers: str | None) -> list[Rollout]:
    """Return one sampled rollout per answer; unread ones were cut at 4 tokens."""
    return [
        Rollout(
            question_id,
            index,
            0.6,
            Completion(
                (1, 2) if answer else (1, 2, 3, 4),
                answer or "",
                finished=answer is not None,
                logprob=0.0,
                entropy=0.0,
            ),
            answer,
        )
        for index, answer in enumerate(answers)
    ]


def readers(*questions: Question, reader: str = "auto") -> dict[str, Reader]:
    """Return readers of some questions."""
    config = AnswersConfig.model_validate({"reader": reader})
    return readers_for(questions, config)


def result(accuracies: list[int], name: str = "t") -> TestResult:
    """Return a result of 8 rollouts a question, so many of them correct."""
    scores = [
        QuestionScore(
            str(place), num, 8, "a", num > 4, max(num, 8 - num) / 8, 0, 0, 2.0
        )
        for place, num in enumerate(accuracies)
    ]
    return summarise(name, scores, CONFIG)


def test_one_question_by_hand() -> None:
    city = question("q", "Paris", "London")
    rollouts = rollouts_of("q", "London", None, "Paris", "Paris")
    greedy = Rollout("q", 0, 0.0, rollouts[0].completion, "London")
    (score,) = score_rollouts(
        [city], [greedy, *rollouts], GoldAnswers({"q": "paris"}), readers(city)
    )
    assert score == QuestionScore(
        question_id="q",
        num_correct=2,
        num_rollouts=4,
        majority_answer="Paris",
        majority_correct=True,
        agreement=0.5,
        num_unread=1,
        num_truncated=1,
        mean_length=2.5,
        gold_answer="Paris",
        answers=(("London", 1), ("Paris", 2)),
    )


def test_a_question_without_readable_answer_is_wrong() -> None:
    city = question("q", "Paris", "London")
    (score,) = score_rollouts(
        [city], rollouts_of("q", None, None), GoldAnswers({"q": "Paris"}), readers(city)
    )
    assert (score.num_correct, score.majority_answer, score.majority_correct) == (
        0,
        None,
        False,
    )
    assert score.agreement == 0.0


def test_gold_answers_are_compared_as_the_reader_says() -> None:
    half = question("q")
    (score,) = score_rollouts(
        [half],
        rollouts_of("q", "0.5", "50%", "2"),
        GoldAnswers({"q": "so it is #### 1/2"}),
        readers(half, reader="number"),
    )
    assert score.num_correct == 2
    assert score.agreement == pytest.approx(2 / 3)
    gold = score.gold_answer
    assert score.answers == ((gold, 2), ("2", 1))


def test_every_alias_of_a_gold_answer_is_right() -> None:
    asked = question("q")
    gold = GoldAnswers({"q": "iron"}, {"q": ("Fe", "the iron")})
    rollouts = rollouts_of("q", "fe", "iron", "tin", None)
    (score,) = score_rollouts([asked], rollouts, gold, readers(asked))
    assert score.num_correct == 2
    alone = GoldAnswers({"q": "iron"})
    (score,) = score_rollouts([asked], rollouts, alone, readers(asked))
    assert score.num_correct == 1


def test_scores_keep_the_order_of_questions() -> None:
    questions = [question("b"), question("a")]
    rollouts = rollouts_of("a", "x") + rollouts_of("b", "x") + rollouts_of("c", "x")
    gold = GoldAnswers({"a": "x", "b": "y", "c": "x"})
    scores = score_rollouts(questions, rollouts, gold, readers(*questions))
    assert [(score.question_id, score.num_correct) for score in scores] == [
        ("b", 0),
        ("a", 1),
    ]


def test_questions_without_gold_answer_are_named() -> None:
    questions = [question(str(number)) for number in range(18)]
    with pytest.raises(DataError, match=r"questions 0, 1, .*, 14, 15 and 2 more"):
        score_rollouts(questions, [], GoldAnswers({}), readers(*questions))


def test_a_gold_answer_that_is_no_choice_is_named() -> None:
    city = question("q", "Paris", "London")
    with pytest.raises(DataError, match=r"question q \('Rome'\)"):
        score_rollouts(
            [city],
            rollouts_of("q", "Paris"),
            GoldAnswers({"q": "Rome"}),
            readers(city),
        )


def test_a_question_without_rollouts_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no sampled rollouts of question q"):
        score_rollouts(
            [question("q")], [], GoldAnswers({"q": "x"}), readers(question("q"))
        )


def test_a_result_holds_every_measure() -> None:
    summary = result([8, 0])
    assert summary.metrics.keys() == METRICS.keys()
    assert summary.metrics["avg_at_k"] == 0.5
    assert summary.metrics["overconfidence"] == 0.5
    assert math.isnan(result([8, 8]).metrics["auroc"])


def test_a_measure_needs_a_question() -> None:
    with pytest.raises(ValueError, match="at least one of each"):
        summarise("t", [], CONFIG)


def test_differences_are_after_minus_before() -> None:
    before, after = result([4, 2, 0, 8] * 5), result([8, 2, 4, 8] * 5)
    deltas = score_differences(before, after, CONFIG, seed=0)
    assert deltas.keys() == METRICS.keys()
    for name in METRICS.keys() - OF_LABELS:
        delta = deltas[name]
        difference = after.metrics[name] - before.metrics[name]
        assert delta.value == pytest.approx(difference)
        assert delta.low <= delta.value <= delta.high
    assert not deltas["avg_at_k"].holds_zero
    assert deltas["mean_length"].holds_zero


def test_nothing_differs_from_itself() -> None:
    before = result([4, 2, 0, 8, 6])
    deltas = score_differences(before, before, CONFIG, seed=0)
    for name in METRICS.keys() - OF_LABELS:
        delta = deltas[name]
        assert (delta.low, delta.value, delta.high) == (0.0, 0.0, 0.0)


def test_the_draws_depend_on_seed_and_name_alone() -> None:
    accuracies = [number % 9 for number in range(100)]
    others = [number * number % 9 for number in range(100)]

    def low(seed: int, name: str) -> float:
        one, other = result(accuracies, name), result(others, name)
        return score_differences(one, other, CONFIG, seed)["brier"].low

    assert low(0, "t") == low(0, "t")
    assert len({low(0, "t"), low(1, "t"), low(0, "u")}) == 3


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(result([1, 2, 3]), id="other-questions"),
        pytest.param(result([1, 2], "u"), id="other-set"),
        pytest.param(
            TestResult("t", {}, result([1, 2]).scores[::-1]), id="other-order"
        ),
    ],
)
def test_only_the_same_questions_in_the_same_order_are_paired(
    other: TestResult,
) -> None:
    with pytest.raises(ValueError, match="cannot pair t"):
        score_differences(result([1, 2]), other, CONFIG, seed=0)


def test_the_mean_over_tests_weighs_sets_alike() -> None:
    before = [result([0] * 10, "a"), result([4, 4], "b")]
    after = [result([8] * 10, "a"), result([0, 0], "b")]
    delta = mean_of_tests(before, after, CONFIG, seed=0)["avg_at_k"]
    assert delta.value == pytest.approx((1.0 - 0.5) / 2)
    assert (delta.low, delta.high) == pytest.approx((0.25, 0.25))


def test_the_mean_of_one_set_is_its_own_difference() -> None:
    before, after = result([1, 5, 8, 3, 0, 2]), result([2, 5, 8, 7, 1, 2])
    one = score_differences(before, after, CONFIG, seed=3)
    mean = mean_of_tests([before], [after], CONFIG, seed=3)
    assert mean["avg_at_k"] == one["avg_at_k"]
    assert mean["ece"] == one["ece"]


def test_independent_sets_narrow_the_interval_of_their_mean() -> None:
    rng = np.random.default_rng(0)
    before = [result([0] * 100, name) for name in "abcd"]
    after = [result(rng.integers(0, 9, 100).tolist(), name) for name in "abcd"]
    mean = mean_of_tests(before, after, CONFIG, seed=0)["avg_at_k"]
    one = score_differences(before[0], after[0], CONFIG, seed=0)["avg_at_k"]
    # Half as wide for four sets, up to the noise of 500 resamples.
    assert 0.35 < (mean.high - mean.low) / (one.high - one.low) < 0.7


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_a_mean_needs_sets_that_each_stand_once(names: list[str]) -> None:
    results = [result([1, 2], name) for name in names]
    with pytest.raises(ValueError, match="each once"):
        mean_of_tests(results, results, CONFIG, seed=0)


def test_ten_thousand_resamples_of_every_measure_take_little_time() -> None:
    config = EvaluationConfig(num_resamples=10_000)
    accuracies = [number % 9 for number in range(600)]
    before, after = result(accuracies), result(accuracies[::-1])
    start = time.process_time()
    score_differences(before, after, config, seed=0)
    assert time.process_time() - start < 3.0


@given(st.lists(st.sampled_from(["x", "y", "z", None]), min_size=1, max_size=9))
def test_scores_are_shares_of_the_rollouts(answers: list[str | None]) -> None:
    plain = question("q")
    (score,) = score_rollouts(
        [plain], rollouts_of("q", *answers), GoldAnswers({"q": "x"}), readers(plain)
    )
    assert score.num_correct == answers.count("x")
    assert score.num_unread == score.num_truncated == answers.count(None)
    assert score.majority_correct == (score.majority_answer == "x")
