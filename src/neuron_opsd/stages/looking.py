"""Looks at the student while it learns: what it answers to the guard's questions.

They are a few questions of the pool that stay the same, so that looks can be compared
with each other and with the base model, whatever the method trains on. Their draws have
seeds of their own, the same at every look, and move nothing in training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
import torch

from neuron_opsd.answers.readers import reader_for
from neuron_opsd.answers.votes import tally
from neuron_opsd.config import Config
from neuron_opsd.method.policy import divergence
from neuron_opsd.method.readings import UNREAD, Answers, reading_of, repetition
from neuron_opsd.models.decoding.choices import ChoiceScores, choice_logprobs, entropy
from neuron_opsd.models.roles import Answerer, Learner
from neuron_opsd.models.room import in_halves
from neuron_opsd.processes.ranks import Ranks
from neuron_opsd.records import Completion, Look, Pair, Question, StepMetrics
from neuron_opsd.seeds import derive_seed, generator
from neuron_opsd.stages.rollouts import (
    Draw,
    PromptedQuestion,
    ask,
    complete,
    read,
    scored_choices,
)
from neuron_opsd.stages.sequences import refuse_not_finite
from neuron_opsd.stages.splitting import consecutive
from neuron_opsd.stages.together import done_by_all, told
from neuron_opsd.stages.training_rollouts import training_sampling

GUARD: Final = "guard"
"""The purpose of the draws."""
Row: TypeAlias = dict[str, Any]


def guard_questions(
    pool: Mapping[str, Question], trained: Collection[str], config: Config
) -> tuple[PromptedQuestion, ...]:
    """Draw the guard's questions from a pool, those that are not trained on first."""
    count = config.guard.num_questions
    rng = generator(config.seed, GUARD)
    chosen: list[str] = []
    for is_trained in (False, True):
        rest = [name for name in pool if (name in trained) is is_trained]
        size = min(count - len(chosen), len(rest))
        places = sorted(rng.choice(len(rest), size, replace=False)) if size else []
        chosen += [rest[place] for place in places]
    return tuple(ask([pool[name] for name in chosen], config))


def with_looks(
    steps: Iterator[StepMetrics],
    learner: Learner,
    asked: Sequence[PromptedQuestion],
    config: Config,
    ranks: Ranks,
) -> Iterator[StepMetrics]:
    """Yield steps, and look at the student after some of them, as all ranks do."""
    looks = Looks(learner, asked, config, ranks)
    for entry in steps:
        count = entry.step + 1
        due = count % config.guard.every == 0 or count == config.distill.steps
        yield replace(entry, look=looks.look()) if asked and due else entry


@dataclass(frozen=True, slots=True)
class Labels:
    """How answers are named, so that they can be counted over questions.

    It is by their text, or by their place where no choice is one of many questions.
    """

    by_place: bool

    def of(self, question: Question, answer: str | None) -> str:
        """Return the label of an answer; one that cannot be read has none."""
        if answer is None:
            return UNREAD
        if self.by_place and answer in question.choices:
            return f"choice {question.choices.index(answer) + 1}"
        return answer


def labels_for(asked: Sequence[PromptedQuestion]) -> Labels:
    """Decide how the answers to some questions are named."""
    counts = Counter(choice for a in asked for choice in set(a.question.choices))
    shared = max(counts.values(), default=0)
    return Labels(by_place=bool(counts) and 2 * shared < len(asked))


class Looks:
    """Asks student and base model the guard's questions, a share of them on each rank.

    What the base answers is found at the first look, and stays the same.
    """

    def __init__(
        self,
        learner: Learner,
        asked: Sequence[PromptedQuestion],
        config: Config,
        ranks: Ranks,
    ) -> None:
        """Take the questions, of which this rank has a share."""
        start, end = (
            part * len(asked) // ranks.size for part in (ranks.rank, ranks.rank + 1)
        )
        self.learner = learner
        self.asked = asked[start:end]
        self.config = config
        self.ranks = ranks
        self.labels = labels_for(asked)
        self._base: list[Drawn] = []

    def look(self) -> Look:
        """Look at the student as it is now.

        Raises:
            NotFiniteError: If something that it computes is no number.
        """
        room = self.learner.room.tokens
        rows = told(self.ranks, "look", done_by_all(self.ranks, self._rows))
        self.learner.room.tokens = room  # what training may hold is its own affair
        found = [tuple(Answers(**one) for one in row) for part in rows for row in part]
        students, bases = zip(*found, strict=True)
        return Look(reading_of(students, bases), reading_of(bases, bases))

    def _rows(self) -> list[tuple[Row, Row]]:
        """Return what student and base answer to each question of this rank."""
        if not self.asked:
            return []
        if not self._base:
            self._base = self._drawn(self.learner.frozen)
        own = self._drawn(self.learner)
        far = divergences(self.learner, own, self.config)
        return [
            (
                asdict(one.answers(base, self.labels, self.config, distance)),
                asdict(base.answers(base, self.labels, self.config, 0.0)),
            )
            for one, base, distance in zip(own, self._base, far, strict=True)
        ]

    def _drawn(self, model: Answerer) -> list[Drawn]:
        """Return what a model answers to the questions, in their order."""
        among = [a for a in self.asked if a.written]
        free = [a for a in self.asked if not a.written]
        scores = scored_choices(model, among) if among else []
        config = self.config
        sampling, count = training_sampling(config), config.guard.num_samples
        seeds = [
            [derive_seed(config.seed, GUARD, a.question.id, k) for k in range(count)]
            for a in free
        ]
        (groups,) = complete(model, free, [Draw(sampling, seeds)])
        temperature = config.distill.temperature
        found: dict[str, Drawn] = {
            a.question.id: AmongChoices(a, one, choice_logprobs(one, temperature))
            for a, one in zip(among, scores, strict=True)
        }
        found |= {
            a.question.id: Written(a, tuple(group))
            for a, group in zip(free, groups, strict=True)
        }
        return [found[a.question.id] for a in self.asked]


@dataclass(frozen=True, slots=True, eq=False)
class AmongChoices:
    """The exact distribution of a model over a question's choices."""

    asked: PromptedQuestion
    scores: ChoiceScores
    logprobs: np.ndarray[Any, np.dtype[np.float64]]
    """Of each choice, in nats."""

    def answers(
        self, base: Drawn, labels: Labels, config: Config, far: float
    ) -> Answers:
        """Return the same beside the base's; the divergence is of the choice."""
        del config, far
        if not isinstance(base, AmongChoices):
            raise TypeError("the base answered in another way")
        question, written = self.asked.question, self.scores.completions
        shares = np.exp(self.logprobs)
        sizes = np.array([len(tokens) for tokens in written])
        repeated = np.array([repetition(tokens) for tokens in written])
        length = float(shares @ sizes)
        return Answers(
            shares={
                labels.of(question, choice): float(share)
                for choice, share in zip(question.choices, shares, strict=True)
            },
            length=length,
            truncated=0.0,
            repetition=float(shares @ repeated),
            entropy=float(shares @ (entropy(self.logprobs) / sizes)),
            divergence=float(shares @ (self.logprobs - base.logprobs)),
            num_compared=length,
            num_rollouts=0,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """A few rollouts of a question whose answer is free."""

    asked: PromptedQuestion
    completions: tuple[Completion, ...]

    def answers(
        self, base: Drawn, labels: Labels, config: Config, far: float
    ) -> Answers:
        """Return what they say; an answer that is the same as the base's counts so."""
        if not isinstance(base, Written):
            raise TypeError("the base answered in another way")
        question, own = self.asked.question, self.completions
        given = [read(self.asked, one, config) for one in own]
        known = [read(self.asked, one, config) for one in base.completions]
        reader = reader_for(question, config.answers, config.prompts.list_choices)
        spellings = tally(question.id, [*known, *given], reader.same).spellings
        told = [None if one is None else spellings[one] for one in given]
        counts = Counter(labels.of(question, one) for one in told)
        return Answers(
            shares={label: count / len(own) for label, count in counts.items()},
            length=float(np.mean([len(one.token_ids) for one in own])),
            truncated=float(np.mean([not one.finished for one in own])),
            repetition=float(np.mean([repetition(one.token_ids) for one in own])),
            entropy=float(np.mean([one.entropy for one in own])),
            divergence=far,
            num_compared=float(len(own[0].token_ids)),
            num_rollouts=len(own),
        )


Drawn: TypeAlias = AmongChoices | Written


def divergences(
    learner: Learner, drawn: Sequence[Drawn], config: Config
) -> list[float]:
    """Return KL(student || base) of the first rollout of each question, in nats.

    It is summed over the rollout's tokens and over the whole vocabulary at each; 0
    among choices, where no pass is needed.
    """
    written = [one for one in drawn if isinstance(one, Written)]
    prompts = learner.encode_all([one.asked.prompt for one in written])
    pairs: list[Pair] = [
        (prompt, one.completions[0].token_ids)
        for prompt, one in zip(prompts, written, strict=True)
    ]

    def of_some(part: Sequence[Pair]) -> list[float]:
        with torch.no_grad():
            student, base = learner.student(part), learner.reference(part)
            found = divergence(student, base, config.distill.chunk_positions)
        return [float(one.sum()) for one in found.split([len(c) for _, c in part])]

    sums: list[float] = []
    for part in consecutive(pairs, len(pairs), learner.room.tokens):
        sums += in_halves(pairs[part], of_some, "the divergence of a completion")
    names = [one.asked.question.id for one in written]
    refuse_not_finite(
        "the divergence from the base model is not finite",
        zip(names, ([one] for one in sums), strict=True),
    )
    of = dict(zip(names, sums, strict=True))
    return [of.get(one.asked.question.id, 0.0) for one in drawn]
