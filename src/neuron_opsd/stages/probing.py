"""What a model answers under a teacher's prompt, before training.

Choices give their exact distribution. Free answers may be long, so by default the
student's own completions are scored instead.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from neuron_opsd.answers.readers import Same
from neuron_opsd.config import Config
from neuron_opsd.errors import naming
from neuron_opsd.method.beliefs import kl_divergence
from neuron_opsd.method.probing import Views, reweighted
from neuron_opsd.method.statistics import FloatArray
from neuron_opsd.models.decoding.choices import choice_logprobs
from neuron_opsd.models.roles import Answerer
from neuron_opsd.records import Pair, Prompt, Question, RolloutSummary, TokenIds, Vote
from neuron_opsd.records.beliefs import Belief
from neuron_opsd.stages.beliefs import token_divergences
from neuron_opsd.stages.rollouts import (
    PromptedQuestion,
    sample_rollouts,
    scored_choices,
)

WRITTEN: Final = "probe"
"""Stage name for draws of teachers' answers."""
LEAST: Final = 1e-6
"""Floor for the probability of an answer."""
UNREAD: Final = ""
"""The answer of unreadable completions."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A question, and the prompt to answer it under."""

    asked: PromptedQuestion
    prompt: Prompt
    """The teacher's, or the student's own."""
    completions: tuple[TokenIds, ...] = ()
    """The student's, to be scored; empty with choices."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a model says to one question under one prompt."""

    question_id: str
    logprobs: tuple[float, ...] = ()
    """In nats: of each choice at the pool's temperature, or of each completion."""
    plain: tuple[float, ...] = ()
    """Of each choice at temperature 1, as in the loss, uncentred."""
    divergence: float | None = None
    """KL(student || teacher) per token of the student's first completion; `None` with
    choices."""
    answers: tuple[str | None, ...] = ()
    """New answers, `None` if unreadable."""


def hear(
    model: Answerer, probes: Sequence[Probe], config: Config, num_written: int = 0
) -> list[Heard]:
    """Return what a model says to questions under some prompts.

    Samples `num_written` free answers per question, or with 0 scores the given
    completions.
    """
    among = [i for i, probe in enumerate(probes) if probe.asked.written]
    free = [i for i, probe in enumerate(probes) if not probe.asked.written]
    found: dict[int, Heard] = {}
    if among:
        some = hear_choices(model, [probes[i] for i in among], config)
        found.update(zip(among, some, strict=True))
    if free:
        put = [probes[i] for i in free]
        some = (
            hear_written(model, put, config, num_written)
            if num_written
            else hear_scored(model, put)
        )
        found.update(zip(free, some, strict=True))
    return [found[i] for i in range(len(probes))]


def hear_choices(
    model: Answerer, probes: Sequence[Probe], config: Config
) -> list[Heard]:
    """Return the exact distributions over choices."""
    put = [replace(probe.asked, prompt=probe.prompt) for probe in probes]
    found = []
    for asked, scores in zip(put, scored_choices(model, put), strict=True):
        own = choice_logprobs(scores, config.rollouts.temperature)
        plain = choice_logprobs(replace(scores, bias=()), 1.0)
        found.append(
            Heard(asked.question.id, tuple(own.tolist()), tuple(plain.tolist()))
        )
    return found


def hear_scored(model: Answerer, probes: Sequence[Probe]) -> list[Heard]:
    """Score the student's completions, without sampling."""
    rows = [(i, ids) for i, probe in enumerate(probes) for ids in probe.completions]
    prompts = model.encode_all([probe.prompt for probe in probes])
    pairs: list[Pair] = [(prompts[i], ids) for i, ids in rows]
    with naming([probes[i].asked.question.id for i, _ in rows]):
        logprobs = model.logprobs(pairs)
    of_each: list[list[float]] = [[] for _ in probes]
    for (i, _), value in zip(rows, logprobs, strict=True):
        of_each[i].append(value)
    apart = divergences(model, probes)
    return [
        Heard(probe.asked.question.id, tuple(own), divergence=far)
        for probe, own, far in zip(probes, of_each, apart, strict=True)
    ]


def hear_written(
    model: Answerer, probes: Sequence[Probe], config: Config, num_written: int
) -> list[Heard]:
    """Sample free answers, with the same seeds under every prompt."""
    put = [replace(probe.asked, prompt=probe.prompt) for probe in probes]
    draws = [(config.rollouts.temperature, num_written)]
    rollouts = sample_rollouts(model, put, config, WRITTEN, draws)
    apart = divergences(model, probes)
    return [
        Heard(
            probe.asked.question.id,
            divergence=far,
            answers=tuple(
                rollout.answer
                for rollout in rollouts[i * num_written : (i + 1) * num_written]
            ),
        )
        for i, (probe, far) in enumerate(zip(probes, apart, strict=True))
    ]


def divergences(model: Answerer, probes: Sequence[Probe]) -> list[float]:
    """Return KL(student || teacher) per token of each first completion, in nats.

    It is 0 under the student's own prompt, without computing it.
    """
    others = [i for i, p in enumerate(probes) if p.prompt != p.asked.prompt]
    rows = [
        (probes[i].asked, probes[i].prompt, probes[i].completions[0]) for i in others
    ]
    found = dict(
        zip(others, token_divergences(model, rows) if rows else (), strict=True)
    )
    return [found.get(i, 0.0) for i in range(len(probes))]


def to_be_scored(
    rollouts: Sequence[RolloutSummary], vote: Vote, most: int
) -> list[RolloutSummary]:
    """Choose up to `most` completions that tell teacher from student.

    If all gave one answer, only the first; otherwise the first of each answer comes
    first.
    """
    seen: set[str] = set()
    first: list[RolloutSummary] = []
    others: list[RolloutSummary] = []
    for rollout in rollouts:
        answer = counted(rollout.answer, vote)
        (others if answer in seen else first).append(rollout)
        seen.add(answer)
    return first[:1] if len(seen) == 1 else [*first, *others][:most]


def counted(answer: str | None, vote: Vote) -> str:
    """Return the answer that one counts for in a vote."""
    if answer is None:
        return UNREAD
    return vote.spellings.get(answer, answer)


@dataclass(frozen=True, slots=True)
class Subject:
    """A question and its answers."""

    question: Question
    vote: Vote
    answers: tuple[str, ...]
    """Distinct: the choices, or what samples gave."""
    places: Mapping[str, int]
    """The place among these of each answer, however spelled."""
    scored: tuple[int, ...] = ()
    """Of each scored completion."""

    @property
    def voted(self) -> int | None:
        """Place of the voted answer, `None` if none was readable."""
        label = self.vote.pseudo_label
        return None if label is None else self.places.get(label)

    @property
    def shares(self) -> FloatArray:
        """``(C,)`` shares of the student's samples with each answer."""
        counts = dict(self.vote.counts)
        counts[UNREAD] = self.vote.num_rollouts - sum(counts.values())
        given = [counts.get(answer, 0) for answer in self.answers]
        return np.array(given) / self.vote.num_rollouts


def subject_of(
    question: Question,
    vote: Vote,
    scored: Sequence[RolloutSummary] | None,
    written: Iterable[str | None] = (),
    same: Same = operator.eq,
) -> Subject:
    """Return a question as it is probed.

    Args:
        question: The question.
        vote: Of the student's samples.
        scored: Completions to score; `None` with choices.
        written: Teachers' answers, perhaps the `same` as known ones.
        same: Tells whether two answers are equal.
    """
    if scored is None:
        places = {choice: place for place, choice in enumerate(question.choices)}
        return Subject(question, vote, question.choices, places)
    answers = list(vote.counts)
    places = {one: answers.index(to) for one, to in vote.spellings.items()}
    places |= {answer: place for place, answer in enumerate(answers)}
    for answer in dict.fromkeys([*(r.answer for r in scored), *written]):
        spelled = answer or UNREAD
        if spelled in places:
            continue
        known = (i for i, old in enumerate(answers) if old and answer)
        place = next((i for i in known if same(answers[i], spelled)), len(answers))
        answers += [spelled] * (place == len(answers))
        places[spelled] = place
    if vote.num_rollouts > sum(vote.counts.values()) and UNREAD not in places:
        places[UNREAD] = len(answers)
        answers.append(UNREAD)
    own = tuple(places[rollout.answer or UNREAD] for rollout in scored)
    return Subject(question, vote, tuple(answers), places, own)


def views_of(subject: Subject, student: Heard, teacher: Heard) -> Views:
    """Combine what student and teacher answer to a question."""
    if subject.question.choices and student.plain:
        return Views(
            np.exp(student.logprobs),
            np.exp(teacher.logprobs),
            subject.voted,
            kl_divergence(np.array(student.plain), np.array(teacher.plain)),
        )
    own, far = subject.shares, teacher.divergence or 0.0
    if teacher.answers:
        places = [subject.places[answer or UNREAD] for answer in teacher.answers]
        moved = np.bincount(places, minlength=own.size) / len(places)
    else:
        ratios = np.subtract(teacher.logprobs, student.logprobs)
        moved = reweighted(own, subject.scored, ratios.tolist())
    return Views(own, moved, subject.voted, far)


def belief_of(subject: Subject, student: Heard, teacher: Heard) -> Belief:
    """Return a question's belief for selection rules, at temperature 1.

    Leaves out unreadable answers and those that neither gives.
    """
    views = views_of(subject, student, teacher)
    if student.plain:
        own, other = student.plain, teacher.plain
        answers = subject.answers
    else:
        both = np.stack([views.student, views.teacher])
        kept = [
            place
            for place, answer in enumerate(subject.answers)
            if answer != UNREAD and both[:, place].any()
        ]
        answers = tuple(subject.answers[place] for place in kept)
        some = np.maximum(both[:, kept], LEAST)
        own, other = np.log(some / some.sum(axis=1, keepdims=True)).tolist()
    return Belief(
        subject.question.id, answers, tuple(own), tuple(other), views.divergence
    )
