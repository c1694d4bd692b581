"""What a model answers to questions, asked as the student or as a teacher.

With choices the distribution is exact; free answers are represented by one sample.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from neuron_opsd.answers.readers import Same, readers_for
from neuron_opsd.config import Config
from neuron_opsd.errors import naming
from neuron_opsd.method.beliefs import Logprobs, kl_divergence
from neuron_opsd.models.decoding.choices import ChoiceScores, choice_logprobs, entropy
from neuron_opsd.models.roles import Answerer, TextScorer
from neuron_opsd.records import Prompt, Rollout, TokenIds, Vote
from neuron_opsd.stages.rollouts import (
    Employed,
    PromptedQuestion,
    sample_rollouts,
    scored_choices,
)

DRAWS: Final = "fitness"
"""Stage name of the check's draws; the old name keeps them the same."""

MOST_TOKENS: Final = 512
"""Tokens from a completion's start that a divergence covers."""


@dataclass(frozen=True, slots=True, eq=False)
class AnswerDistribution:
    """What a model answers to one question."""

    answer: str
    """The most probable choice, or the sample's; empty if unreadable."""
    agreement: float
    """Probability of the voted answer; 1 or 0 for free answers."""
    entropy: float
    """Of the choice, or per token of the sample, in nats."""
    logprobs: Logprobs | None = None
    """Of choices at temperature 1, as in the loss, uncentred; else `None`."""
    token_ids: TokenIds = ()
    """Of the sample; empty with choices."""


def answer_distributions(
    model: Employed[Answerer],
    asked: Sequence[PromptedQuestion],
    others: Sequence[Sequence[Prompt]],
    votes: Mapping[str, Vote],
    config: Config,
) -> list[list[AnswerDistribution]]:
    """Return the model's answers to questions as asked, and under other prompts."""
    put = [list(asked)]
    for prompts in others:
        pairs = zip(asked, prompts, strict=True)
        put.append([replace(a, prompt=prompt) for a, prompt in pairs])
    if all(a.written for a in asked):
        scores = model.each(scored_choices, put)
        chosen = zip(put, scores, strict=True)
        return [from_choices(some, found, votes, config) for some, found in chosen]
    draws = [(config.rollouts.temperature, 1)]
    sample = partial(sample_rollouts, config=config, stage=DRAWS, draws=draws)
    drawn = zip(put, model.each(sample, put), strict=True)
    return [from_samples(some, found, votes, config) for some, found in drawn]


def from_choices(
    asked: Sequence[PromptedQuestion],
    scored: Sequence[ChoiceScores],
    votes: Mapping[str, Vote],
    config: Config,
) -> list[AnswerDistribution]:
    """Return the exact distributions over choices."""
    found = []
    for a, scores in zip(asked, scored, strict=True):
        logprobs = choice_logprobs(scores, config.rollouts.temperature)
        probability = np.exp(logprobs)
        label = votes[a.question.id].pseudo_label
        agreement = (
            float(probability[a.question.choices.index(label)])
            if label in a.question.choices
            else 0.0
        )
        best = a.question.choices[int(probability.argmax())]
        plain = choice_logprobs(replace(scores, bias=()), 1.0)
        found.append(AnswerDistribution(best, agreement, entropy(logprobs), plain))
    return found


def from_samples(
    asked: Sequence[PromptedQuestion],
    rollouts: Sequence[Rollout],
    votes: Mapping[str, Vote],
    config: Config,
) -> list[AnswerDistribution]:
    """Return distributions from one sample each at the pool's temperature."""
    same = equality_of(asked, config)
    return [
        AnswerDistribution(
            answer=rollout.answer or "",
            agreement=float(
                rollout.answer is not None
                and same(rollout.answer, votes[rollout.question_id].pseudo_label or "")
            ),
            entropy=rollout.completion.entropy,
            token_ids=rollout.completion.token_ids,
        )
        for rollout in rollouts
    ]


def equality_of(asked: Sequence[PromptedQuestion], config: Config) -> Same:
    """Return a test of whether two answers, or two missing ones, are equal.

    It is that of the questions' reader, or spelling if they have several.
    """
    listed = config.prompts.list_choices
    readers = readers_for([a.question for a in asked], config.answers, listed)
    found = {reader.same for reader in readers.values()}
    same = found.pop() if len(found) == 1 else operator.eq

    def alike(one: str, other: str) -> bool:
        return one == other or bool(one and other and same(one, other))

    return alike


def divergences_of(
    model: Employed[Answerer],
    asked: Sequence[PromptedQuestion],
    teacher_prompts: Sequence[Prompt],
    student: Sequence[AnswerDistribution],
    teacher: Sequence[AnswerDistribution],
) -> list[float]:
    """Return KL(student || teacher) of every question, in nats.

    Of the choice, or per token of the student's free answer over the whole vocabulary.
    """
    known = [
        kl_divergence(one.logprobs, other.logprobs)
        for one, other in zip(student, teacher, strict=True)
        if one.logprobs is not None and other.logprobs is not None
    ]
    if len(known) == len(asked):
        return known
    written = [b.token_ids for b in student]
    rows = list(zip(asked, teacher_prompts, written, strict=True))
    (found,) = model.each(token_divergences, [rows])
    return list(found)


def token_divergences(
    model: TextScorer, rows: Sequence[tuple[PromptedQuestion, Prompt, TokenIds]]
) -> list[float]:
    """Return KL(student || teacher) per token of every row, in nats.

    A row is a question as the student is asked, the teacher's prompt and an answer.
    """
    own = [(model.encode(a.prompt), ids[:MOST_TOKENS]) for a, _, ids in rows]
    other = [(model.encode(prompt), ids[:MOST_TOKENS]) for _, prompt, ids in rows]
    with naming([a.question.id for a, _, _ in rows]):
        return model.divergences(own, other)
