"""What student and teacher believe about the whole pool, for selection rules.

With choices a belief is exact: the distribution over them at temperature 1, as in the
loss, without and with demonstrations. That takes two passes over prompts.

Free answers are represented by the pool's samples. The student's belief is the vote: an
answer's share of the readable samples. For the teacher's, the first sample of each
answer is scored without and with demonstrations at its end, which states the answer;
the share is multiplied by the ratio of the two probabilities. That is importance
sampling of the teacher's answers from the student's reasoning; ratios over whole traces
would give one sample all the weight. It takes two passes over one sample of each
distinct answer, and none where all agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, TypeAlias

from neuron_opsd.config import Config
from neuron_opsd.errors import DataError, naming
from neuron_opsd.method.beliefs import kl_divergence, reweighted
from neuron_opsd.method.contexts.search import Known
from neuron_opsd.models.decoding.choices import choice_logprobs
from neuron_opsd.models.roles import TextScorer, Tokenizer
from neuron_opsd.records import (
    Completion,
    Pair,
    Prompt,
    Question,
    RolloutSummary,
    TeacherContext,
    Vote,
)
from neuron_opsd.records.beliefs import Belief
from neuron_opsd.stages.beliefs import MOST_TOKENS, token_divergences
from neuron_opsd.stages.capture import first_final_token
from neuron_opsd.stages.rollouts import PromptedQuestion, scored_choices
from neuron_opsd.stages.teaching import DemonstrationPool, fitted_prompt

ANSWER_TOKENS: Final = 64
"""Tokens at the end of a completion that state its answer."""


@dataclass(frozen=True, slots=True)
class Given:
    """An answer that samples gave to a question."""

    answer: str
    count: int
    completion: Completion | None = None
    """The first of these; `None` if it need not be scored."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A question as the student is asked, and the teacher's context."""

    asked: PromptedQuestion
    context: TeacherContext
    questions: Mapping[str, Question]
    """Of the demonstrations, by id."""
    given: tuple[Given, ...] = ()

    @property
    def scored(self) -> tuple[Given, ...]:
        """The answers to score: all, or none if there is only one."""
        return self.given if len(self.given) > 1 else ()

    def taught(self, model: Tokenizer, config: Config) -> PromptedQuestion:
        """Return the question as the teacher is asked."""
        library = DemonstrationPool(self.questions, {}, Known(()), {})
        question = self.asked.question
        prompt, _ = fitted_prompt(model, question, self.context, library, config)
        return replace(self.asked, prompt=prompt)


Pupil: TypeAlias = tuple[Lesson, PromptedQuestion]
"""A lesson, and its question as the teacher is asked."""


def first_givers(
    rollouts: Iterable[RolloutSummary], votes: Mapping[str, Vote]
) -> dict[str, dict[str, RolloutSummary]]:
    """Return the first sample of each answer, by question id, where answers differ."""
    found: dict[str, dict[str, RolloutSummary]] = {}
    for rollout in rollouts:
        vote, answer = votes.get(rollout.question_id), rollout.answer
        greedy = rollout.temperature == 0.0
        if greedy or answer is None or vote is None or len(vote.counts) < 2:
            continue
        label = vote.spellings.get(answer, answer)
        found.setdefault(rollout.question_id, {}).setdefault(label, rollout)
    return found


def first_samples(rollouts: Iterable[RolloutSummary]) -> dict[str, RolloutSummary]:
    """Return each question's first sample by id; those resemble training's."""
    found: dict[str, RolloutSummary] = {}
    for rollout in rollouts:
        if rollout.temperature > 0.0:
            found.setdefault(rollout.question_id, rollout)
    return found


def entropies_of(
    rollouts: Iterable[RolloutSummary], among_choices: frozenset[str]
) -> dict[str, float]:
    """Return by question id the mean entropy of its samples, in nats.

    Per token, or of the choice for questions with choices. Greedy completions have
    none.
    """
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for rollout in rollouts:
        if rollout.temperature == 0.0:
            continue
        name, entropy = rollout.question_id, rollout.entropy
        if name in among_choices:
            entropy *= rollout.num_tokens
        sums[name] = sums.get(name, 0.0) + entropy
        counts[name] = counts.get(name, 0) + 1
    return {name: value / counts[name] for name, value in sums.items()}


def pool_beliefs(
    model: TextScorer, lessons: Sequence[Lesson], config: Config
) -> list[Belief]:
    """Return what student and teacher believe about each question.

    Raises:
        DataError: If a question is too long for the model.
        NotFiniteError: If a score is not finite.
    """
    taught = [lesson.taught(model, config) for lesson in lessons]
    pairs = list(zip(lessons, taught, strict=True))
    among = [pair for pair in pairs if pair[0].asked.written]
    free = [pair for pair in pairs if not pair[0].asked.written]
    both = [*of_choices(model, among), *of_votes(model, free)]
    found = {belief.question_id: belief for belief in both}
    return [found[lesson.asked.question.id] for lesson in lessons]


def of_choices(model: TextScorer, pairs: Sequence[Pupil]) -> list[Belief]:
    """Return the beliefs about questions with choices."""
    if not pairs:
        return []
    asked = [lesson.asked for lesson, _ in pairs]
    taught = [taught for _, taught in pairs]
    seats = zip(
        scored_choices(model, asked), scored_choices(model, taught), strict=True
    )
    found = []
    for a, b, both in zip(asked, taught, seats, strict=True):
        # Uncentred, as in the loss.
        own, other = (choice_logprobs(replace(s, bias=()), 1.0) for s in both)
        read = model.encode_all([a.prompt, b.prompt])
        found.append(
            Belief(
                question_id=a.question.id,
                answers=a.question.choices,
                student=tuple(own.tolist()),
                teacher=tuple(other.tolist()),
                divergence=kl_divergence(own, other),
                num_tokens=sum(map(len, read)),
            )
        )
    return found


def of_votes(model: TextScorer, pairs: Sequence[Pupil]) -> list[Belief]:
    """Return the beliefs about questions with free answers, from their samples.

    Without readable samples there are no answers.
    """
    scored = [(p, given) for p in pairs for given in p[0].scored]
    own = [stating(model, lesson.asked.prompt, given) for (lesson, _), given in scored]
    other = [stating(model, taught.prompt, given) for (_, taught), given in scored]
    with naming([lesson.asked.question.id for (lesson, _), _ in scored]):
        before, after = model.logprobs(own), model.logprobs(other)
    gains = iter([late - early for early, late in zip(before, after, strict=True)])
    read = (sum(map(len, (*a, *b))) for a, b in zip(own, other, strict=True))
    return [
        vote_belief(
            lesson,
            list(islice(gains, len(lesson.scored))),
            sum(islice(read, len(lesson.scored))),
        )
        for lesson, _ in pairs
    ]


def vote_belief(lesson: Lesson, gains: Sequence[float], num_tokens: int) -> Belief:
    """Return the belief about a question from its answers' gains, if any."""
    counts = [given.count for given in lesson.given]
    if not counts:
        return Belief(lesson.asked.question.id)
    none = [0.0] * len(counts)
    return Belief(
        question_id=lesson.asked.question.id,
        answers=tuple(given.answer for given in lesson.given),
        student=tuple(reweighted(counts, none).tolist()),
        teacher=tuple(reweighted(counts, gains or none).tolist()),
        num_tokens=num_tokens,
    )


def stating(model: TextScorer, prompt: Prompt, given: Given) -> Pair:
    """Split a prompt and completion before the last `ANSWER_TOKENS` tokens.

    No reasoning is among these, if the tokens spell the text.
    """
    if given.completion is None:
        raise ValueError(f"the answer {given.answer!r} has no completion to score")
    ids = given.completion.token_ids
    start = max(0, len(ids) - ANSWER_TOKENS)
    with suppress(DataError):
        start = max(start, first_final_token(model, given.completion))
    start = min(start, len(ids) - 1)
    return model.encode(prompt) + ids[:start], ids[start:]


def pool_divergences(
    model: TextScorer, lessons: Sequence[Lesson], config: Config
) -> list[Belief]:
    """Return KL(student || teacher) per token of each question's first sample.

    Over the whole vocabulary and the first `MOST_TOKENS`, in two passes.

    Raises:
        DataError: If a question is too long for the model.
        NotFiniteError: If a divergence is not finite.
    """
    rows = [
        (lesson.asked, lesson.taught(model, config).prompt, given.completion.token_ids)
        for lesson in lessons
        for given in lesson.given
        if given.completion is not None
    ]
    found = token_divergences(model, rows)
    return [
        Belief(
            a.question.id,
            divergence=value,
            num_tokens=sum(map(len, model.encode_all([a.prompt, prompt])))
            + 2 * len(ids[:MOST_TOKENS]),
        )
        for (a, prompt, ids), value in zip(rows, found, strict=True)
    ]
