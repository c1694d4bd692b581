"""Scores, measures and differences of test rollouts against gold answers.

Gold answers are read here and nowhere before, and nothing here feeds training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from neuron_opsd.answers.readers import Reader
from neuron_opsd.answers.votes import sampled_rollouts, tally
from neuron_opsd.config import EvaluationConfig
from neuron_opsd.errors import DataError, questions_text
from neuron_opsd.method.calibration import METRICS, ScoreColumns, columns_of, measure
from neuron_opsd.method.labels import baseline_answer
from neuron_opsd.method.resampling import Resampled, resampled_difference
from neuron_opsd.method.statistics import FloatArray
from neuron_opsd.records import GoldAnswers, Question, RolloutSummary
from neuron_opsd.records.scores import Interval, QuestionScore, TestResult
from neuron_opsd.seeds import generator


def score_rollouts(
    questions: Sequence[Question],
    rollouts: Iterable[RolloutSummary],
    gold: GoldAnswers,
    readers: Mapping[str, Reader],
) -> tuple[QuestionScore, ...]:
    """Compare the sampled rollouts of test questions with their gold answers.

    Gold answers pass through their question's reader. Scores are in question order;
    rollouts, or summaries, may come in any order.

    Raises:
        DataError: If questions have no gold answer, or an unreadable one; names the
            ids.
        ValueError: If a question has no sampled rollout.
    """
    gold_of = normalised_gold(questions, gold, readers)
    sampled = sampled_rollouts(rollouts)
    missing = [question.id for question in questions if question.id not in sampled]
    if missing:
        raise ValueError(
            f"no sampled rollouts of {questions_text(missing)}; sample them first"
        )
    scores = []
    for question in questions:
        reader = readers[question.id]
        aliases = normalised_aliases(question, gold, reader)
        own, right = sampled[question.id], gold_of[question.id]
        scores.append(score_question(own, right, reader, aliases))
    return tuple(scores)


def normalised_gold(
    questions: Sequence[Question], gold: GoldAnswers, readers: Mapping[str, Reader]
) -> dict[str, str]:
    """Return the gold answers as their questions' readers spell them."""
    missing = [q.id for q in questions if q.id not in gold.answer_of]
    if missing:
        raise DataError(
            f"no gold answer for {questions_text(missing)}; every test question needs "
            "the column answer"
        )
    gold_of: dict[str, str] = {}
    unreadable: list[str] = []
    for question in questions:
        text = gold.answer_of[question.id]
        answer = readers[question.id].normalise(text, question)
        if answer is None:
            unreadable.append(f"{question.id} ({text[:40]!r})")
        else:
            gold_of[question.id] = answer
    if unreadable:
        raise DataError(
            f"cannot read the gold answer of {questions_text(unreadable)}; it must be "
            "one of the choices where there are any, else what answers.reader can "
            "read: one line, or a worked solution whose last line begins with ####"
        )
    return gold_of


def normalised_aliases(
    question: Question, gold: GoldAnswers, reader: Reader
) -> list[str]:
    """Return a question's other right answers that can be read."""
    texts = gold.aliases_of.get(question.id, ())
    spelled = (reader.normalise(text, question) for text in texts)
    return [answer for answer in spelled if answer is not None]


def score_question(
    rollouts: Sequence[RolloutSummary],
    gold: str,
    reader: Reader,
    aliases: Sequence[str] = (),
) -> QuestionScore:
    """Score one question's sampled rollouts; right answers are normalised."""
    question_id = rollouts[0].question_id
    answers = [rollout.answer for rollout in rollouts]
    vote = tally(question_id, answers, reader.same)
    read = [answer for answer in answers if answer is not None]
    correct = right_answers(read, (gold, *aliases), reader)
    counts = Counter(gold if correct[answer] else answer for answer in read)
    majority = vote.pseudo_label
    return QuestionScore(
        question_id=question_id,
        num_correct=sum(answer is not None and correct[answer] for answer in answers),
        num_rollouts=len(rollouts),
        majority_answer=majority,
        majority_correct=majority is not None and correct[majority],
        agreement=vote.agreement,
        num_unread=answers.count(None),
        num_truncated=sum(not rollout.finished for rollout in rollouts),
        mean_length=float(np.mean([rollout.num_tokens for rollout in rollouts])),
        gold_answer=gold,
        answers=tuple(counts.items()),
    )


def right_answers(
    answers: Iterable[str], right: Sequence[str], reader: Reader
) -> dict[str, bool]:
    """Tell for each answer whether it is right, all normalised."""
    return {
        answer: any(reader.same(answer, one) for one in right)
        for answer in set(answers)
    }


def summarise(
    name: str, scores: Sequence[QuestionScore], config: EvaluationConfig
) -> TestResult:
    """Measure one model on one test set.

    Undefined measures (AUROC if all questions or none are correct) are NaN.
    """
    columns = columns_of(scores, config.num_bins)
    values = measure(columns, np.ones((1, len(scores))))[0]
    return TestResult(
        name, dict(zip(METRICS, values.tolist(), strict=True)), tuple(scores)
    )


def score_differences(
    before: TestResult, after: TestResult, config: EvaluationConfig, seed: int
) -> dict[str, Interval]:
    """Return every measure's difference, after minus before, with its interval.

    Both need the same questions in the same order. Draws depend only on the run's seed
    and the test set's name.
    """
    difference = differences(before, after, config, seed)
    return dict(zip(METRICS, difference.intervals(), strict=True))


def differences(
    before: TestResult, after: TestResult, config: EvaluationConfig, seed: int
) -> Resampled:
    """Return every measure's difference with its draws; see `score_differences`."""
    return resampled_difference(
        measure,
        *paired_columns(before, after, config),
        len(before.scores),
        config.num_resamples,
        generator(seed, "bootstrap", before.name),
    )


def above_baseline(
    result: TestResult, config: EvaluationConfig, seed: int
) -> Interval | None:
    """Return how far Avg@k exceeds always giving the most frequent gold answer.

    Both use the same resamples; `None` if answers do not repeat.
    """
    answer = baseline_answer(result.scores)
    if answer is None:
        return None
    difference = resampled_difference(
        mean_accuracy,
        columns_of(constant_scores(result.scores, answer)),
        columns_of(result.scores),
        len(result.scores),
        config.num_resamples,
        generator(seed, "bootstrap", result.name),
    )
    return difference.intervals()[0]


def mean_accuracy(columns: ScoreColumns, weights: FloatArray) -> FloatArray:
    """Return Avg@k, ``(R, 1)``."""
    return METRICS["avg_at_k"](columns, weights)[:, None]


def constant_scores(
    scores: Sequence[QuestionScore], answer: str
) -> tuple[QuestionScore, ...]:
    """Return the scores of a model that always gives one answer."""
    return tuple(
        replace(
            score,
            num_correct=score.num_rollouts * (score.gold_answer == answer),
            majority_answer=answer,
            majority_correct=score.gold_answer == answer,
            agreement=1.0,
            num_unread=0,
            answers=((answer, score.num_rollouts),),
        )
        for score in scores
    )


def mean_of_tests(
    before: Sequence[TestResult],
    after: Sequence[TestResult],
    config: EvaluationConfig,
    seed: int,
) -> dict[str, Interval]:
    """Return every measure's mean difference over test sets, with its interval.

    Questions are resampled within each set; sets weigh equally. NaN on one set gives
    NaN.

    Raises:
        ValueError: If there is no set, a name appears twice, or the two lists did not
            answer the same questions.
    """
    names = [result.name for result in before]
    if not names or len(set(names)) < len(names) or len(names) != len(after):
        raise ValueError(
            f"need the same test sets before and after, each once, got {names} and "
            f"{[result.name for result in after]}"
        )
    found = [
        differences(first, second, config, seed)
        for first, second in zip(before, after, strict=True)
    ]
    mean = Resampled(
        np.mean([one.values for one in found], axis=0),
        np.mean([one.draws for one in found], axis=0),
    )
    return dict(zip(METRICS, mean.intervals(), strict=True))


def paired_columns(
    before: TestResult, after: TestResult, config: EvaluationConfig
) -> tuple[ScoreColumns, ScoreColumns]:
    """Return the columns of two results on the same questions."""
    same_questions = [score.question_id for score in before.scores] == [
        score.question_id for score in after.scores
    ]
    if before.name != after.name or not same_questions:
        raise ValueError(
            f"cannot pair {before.name} ({len(before.scores)} questions) with "
            f"{after.name} ({len(after.scores)} questions); both must hold the same "
            "questions of one test set in the same order"
        )
    return (
        columns_of(before.scores, config.num_bins),
        columns_of(after.scores, config.num_bins),
    )
