"""Score answers against gold: questions, samples, and pairs of files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from neuron_opsd.config import Config
from neuron_opsd.judging.confidences import Judged
from neuron_opsd.judging.findings import Findings
from neuron_opsd.judging.questions import Asked
from neuron_opsd.judging.reading import Answered, Answers
from neuron_opsd.method.calibration import METRICS, columns_of, measure
from neuron_opsd.method.resampling import resample, resampled_difference
from neuron_opsd.method.statistics import bootstrap_p_values, mcnemar
from neuron_opsd.progress import Progress
from neuron_opsd.records import Question
from neuron_opsd.records import StoredSummary as Summary
from neuron_opsd.records.scores import Interval, QuestionScore
from neuron_opsd.results.judging import Paired
from neuron_opsd.seeds import generator
from neuron_opsd.stages.scoring import (
    normalised_aliases,
    right_answers,
    score_rollouts,
)
from neuron_opsd.storage.caching import MEMORY, Workspace
from neuron_opsd.storage.verdicts import num_unsettled, settle_equality

NO_NUMBER = float("nan")


@dataclass(frozen=True, slots=True)
class Scored:
    """A file's questions and samples with verdicts."""

    scores: tuple[QuestionScore, ...]
    judged: Mapping[str, Sequence[Judged]]
    """By question id."""
    num_unsettled: int
    unknown: frozenset[str]
    """Measures without data in the file."""


def score(answers: Answers, asked: Asked, config: Config, progress: Progress) -> Scored:
    """Score the answers of a file, and count what it lacks."""
    questions = [one for one in asked.questions if one.id in answers.of]
    told = {one.id: list(summaries(one, answers.of[one.id])) for one in questions}

    def scored(some: Sequence[Question]) -> tuple[QuestionScore, ...]:
        given = (summary for one in some for summary in told[one.id])
        return score_rollouts(some, given, asked.gold, asked.readers)

    work = Workspace(config, MEMORY, progress)
    verdicts = settle_equality(work, answers.name, questions, scored)
    scores = scored(questions)
    samples = [one for own in answers.of.values() for one in own]
    unknown = set()
    if all(one.finished is None for one in samples):
        unknown.add("truncation")
    if any(one.num_tokens is None for one in samples):
        unknown.add("mean_length")
        scores = tuple(replace(one, mean_length=NO_NUMBER) for one in scores)
    judged = {
        question.id: judged_samples(question, answers.of[question.id], one, asked)
        for question, one in zip(questions, scores, strict=True)
    }
    count_missing(answers, asked)
    count_disagreements(judged, answers.findings)
    return Scored(scores, judged, num_unsettled(verdicts), frozenset(unknown))


def summaries(question: Question, own: Sequence[Answered]) -> Iterator[Summary]:
    """Yield a question's samples as rollouts without texts."""
    for place, one in enumerate(own):
        yield Summary(
            question.id,
            index=place,
            temperature=1.0,  # all are samples, also one that was drawn greedily
            answer=one.answer,
            num_tokens=one.num_tokens or 0,
            finished=one.finished is not False,
            is_closed=True,
            logprob=NO_NUMBER,
            entropy=NO_NUMBER,
            row=place,
        )


def judged_samples(
    question: Question, own: Sequence[Answered], found: QuestionScore, asked: Asked
) -> list[Judged]:
    """Judge a question's samples: right or not, and with the vote or not."""
    reader, majority = asked.readers[question.id], found.majority_answer
    right = [found.gold_answer, *normalised_aliases(question, asked.gold, reader)]
    read = [one.answer for one in own if one.answer is not None]
    verdicts = right_answers(read, right, reader)
    correct = {answer for answer, is_right in verdicts.items() if is_right}
    backing = {
        answer
        for answer in set(read)
        if majority is not None and reader.same(majority, answer)
    }
    return [Judged(one, one.answer in correct, one.answer in backing) for one in own]


def count_missing(answers: Answers, asked: Asked) -> None:
    """Count questions without samples, or with fewer than others."""
    most = max(map(len, answers.of.values()))
    for question in asked.questions:
        count = len(answers.of.get(question.id, ()))
        if not count:
            answers.findings.add("missing", question.id)
        elif count < most:
            answers.findings.add("fewer", f"{question.id} has {count} of {most}")
    samples = [one for own in answers.of.values() for one in own]
    unstated = [one.place for one in samples if one.stated is None]
    if len(unstated) < len(samples):
        for place in unstated:
            answers.findings.add("no confidence", place)


def count_disagreements(
    judged: Mapping[str, Sequence[Judged]], findings: Findings
) -> None:
    """Count the samples whose score in the file differs."""
    for name, own in judged.items():
        for one in own:
            given = one.sample.verdict
            if given is not None and given != float(one.correct):
                said = "right" if one.correct else "wrong"
                where = f"{one.sample.place}, {name}: {said} here, {given:g} there"
                findings.add("disagree", where)


def agreement(judged: Mapping[str, Sequence[Judged]]) -> tuple[int, int] | None:
    """Return how many samples the file scores as we do, and how many it scores.

    `None` if it scores none.
    """
    given = [
        one.sample.verdict == float(one.correct)
        for own in judged.values()
        for one in own
        if one.sample.verdict is not None
    ]
    return (sum(given), len(given)) if given else None


def levels(found: Scored, name: str, config: Config) -> dict[str, Interval]:
    """Return every measure of a file with its interval over questions."""
    columns = columns_of(found.scores, config.evaluation.num_bins)
    (drawn,) = resample(
        measure,
        [columns],
        len(found.scores),
        config.evaluation.num_resamples,
        generator(config.seed, "bootstrap", name),
    )
    return known(dict(zip(METRICS, drawn.intervals(), strict=True)), found.unknown)


def known(
    measures: Mapping[str, Interval], unknown: frozenset[str]
) -> dict[str, Interval]:
    """Return the measures that exist and have data."""
    return {
        name: one
        for name, one in measures.items()
        if name not in unknown and math.isfinite(one.value)
    }


def paired(
    names: tuple[str, str], first: Scored, second: Scored, test: str, config: Config
) -> Paired | None:
    """Compare two files on their common questions; `None` if there are none."""
    one, other = (
        {score.question_id: score for score in found.scores}
        for found in (first, second)
    )
    common = [question for question in one if question in other]
    if not common:
        return None
    before, after = ([found[name] for name in common] for found in (one, other))
    num_bins = config.evaluation.num_bins
    drawn = resampled_difference(
        measure,
        columns_of(before, num_bins),
        columns_of(after, num_bins),
        len(common),
        config.evaluation.num_resamples,
        generator(config.seed, "bootstrap", test),
    )
    change = known(
        dict(zip(METRICS, drawn.intervals(), strict=True)),
        first.unknown | second.unknown,
    )
    p_values = zip(METRICS, bootstrap_p_values(drawn.values, drawn.draws), strict=True)
    right = [
        (score.majority_correct, again.majority_correct)
        for score, again in zip(before, after, strict=True)
    ]
    only_first, only_second = right.count((True, False)), right.count((False, True))
    return Paired(
        *names,
        len(common),
        (len(one) - len(common), len(other) - len(common)),
        change,
        {name: p_value for name, p_value in p_values if name in change},
        only_first,
        only_second,
        mcnemar(only_first, only_second),
    )
