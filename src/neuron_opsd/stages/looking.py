"""Looks at the student in training: its answers to the guard's questions.

These are a few fixed questions of the pool, to compare looks with each other and with
the base model. Draws have their own seeds, the same at every look, and do not affect
training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np

from neuron_opsd.answers.readers import reader_for
from neuron_opsd.answers.votes import tally
from neuron_opsd.config import Config
from neuron_opsd.method.policy import divergence
from neuron_opsd.method.readings import UNREAD, Answers, reading_of, repetition
from neuron_opsd.models.decoding.choices import ChoiceScores, choice_logprobs, entropy
from neuron_opsd.models.roles import Answerer, Learner
from neuron_opsd.processes.ranks import Ranks, share_of
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
from neuron_opsd.stages.splitting import in_passes
from neuron_opsd.stages.together import done_by_all, told
from neuron_opsd.stages.training_rollouts import training_sampling

GUARD: Final = "guard"
"""Stage name of the draws."""
Row: TypeAlias = dict[str, Any]


def guard_questions(
    pool: Mapping[str, Question], trained: Collection[str], config: Config
) -> tuple[PromptedQuestion, ...]:
    """Sample the guard's questions from a pool, preferring those not trained on."""
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
    """Yield steps, and look at the student after some, on all ranks."""
    looks = Looks(learner, asked, config, ranks)
    for entry in steps:
        count = entry.step + 1
        due = count % config.guard.every == 0 or count == config.distill.steps
        yield replace(entry, look=looks.look()) if asked and due else entry


Labels: TypeAlias = Callable[[Question, str | None], str]
"""Takes a question and an answer; returns the label to count it by."""


def labels_for(asked: Sequence[PromptedQuestion]) -> Labels:
    """Decide how answers are labelled; unreadable ones get `UNREAD`.

    By text, or by place among the choices if no choice is common to many questions.
    """
    counts = Counter(choice for a in asked for choice in set(a.question.choices))
    by_place = bool(counts) and 2 * max(counts.values()) < len(asked)

    def label(question: Question, answer: str | None) -> str:
        if answer is None:
            return UNREAD
        if by_place and answer in question.choices:
            return f"choice {question.choices.index(answer) + 1}"
        return answer

    return label


class Looks:
    """Asks student and base model the guard's questions, a share on each rank."""

    def __init__(
        self,
        learner: Learner,
        asked: Sequence[PromptedQuestion],
        config: Config,
        ranks: Ranks,
    ) -> None:
        """Take this rank's share of the questions."""
        self.learner = learner
        self.asked = asked[share_of(len(asked), ranks.rank, ranks.size)]
        self.config = config
        self.ranks = ranks
        self.labels = labels_for(asked)
        self._base: list[Drawn] = []

    def look(self) -> Look:
        """Look at the student as it is now.

        Raises:
            NotFiniteError: If something it computes is not finite.
        """
        room = self.learner.room.tokens
        rows = told(self.ranks, "look", done_by_all(self.ranks, self._rows))
        self.learner.room.tokens = room  # training keeps its own limit
        found = [tuple(Answers(**one) for one in row) for part in rows for row in part]
        students, bases = zip(*found, strict=True)
        return Look(reading_of(students, bases), reading_of(bases, bases))

    def _rows(self) -> list[tuple[Row, Row]]:
        """Return student and base answers for each question of this rank."""
        if not self.asked:
            return []
        if not self._base:
            self._base = drawn(self.learner.frozen, self.asked, self.config)
        own = drawn(self.learner, self.asked, self.config)
        found = answers_of(own, self._base, self.labels, self.config)
        bases = answers_of(self._base, self._base, self.labels, self.config)
        far = divergences(self.learner, own, self.config)
        near = divergences(self.learner, self._base, self.config, of_base=True)
        apart = zip(found, far, near, strict=True)
        found = [
            replace(one, divergence=to, surprise=back) if one.num_rollouts else one
            for one, to, back in apart
        ]
        return [(asdict(one), asdict(b)) for one, b in zip(found, bases, strict=True)]


def drawn(
    model: Answerer, asked: Sequence[PromptedQuestion], config: Config
) -> list[Drawn]:
    """Return a model's answers to the questions, in order."""
    chosen = [a for a in asked if a.written]
    free = [a for a in asked if not a.written]
    scores = iter(scored_choices(model, chosen) if chosen else [])
    sampling, count = training_sampling(config), config.guard.num_samples
    seeds = [
        [derive_seed(config.seed, GUARD, a.question.id, k) for k in range(count)]
        for a in free
    ]
    (groups,) = complete(model, free, [Draw(sampling, seeds)])
    written = iter(groups)
    found: list[Drawn] = []
    for a in asked:
        if a.written:
            one = next(scores)
            logprobs = choice_logprobs(one, config.distill.temperature)
            found.append(AmongChoices(a, one, logprobs))
        else:
            found.append(Written(a, tuple(next(written))))
    return found


def answers_of(
    own: Sequence[Drawn], base: Sequence[Drawn], labels: Labels, config: Config
) -> list[Answers]:
    """Compare a model's answers with the base's."""
    pairs = zip(own, base, strict=True)
    return [one.answers(other, labels, config) for one, other in pairs]


@dataclass(frozen=True, slots=True, eq=False)
class AmongChoices:
    """A model's exact distribution over a question's choices."""

    asked: PromptedQuestion
    scores: ChoiceScores
    logprobs: np.ndarray[Any, np.dtype[np.float64]]
    """Of each choice, in nats."""

    def answers(self, base: Drawn, labels: Labels, config: Config) -> Answers:
        """Compare with the base's."""
        del config
        if not isinstance(base, AmongChoices):
            raise TypeError("the base answered in another way")
        question, written = self.asked.question, self.scores.completions
        shares = np.exp(self.logprobs)
        sizes = np.array([len(tokens) for tokens in written])
        repeated = np.array([repetition(tokens) for tokens in written])
        return Answers(
            shares={
                labels(question, choice): float(share)
                for choice, share in zip(question.choices, shares, strict=True)
            },
            length=float(shares @ sizes),
            truncated=0.0,
            repetition=float(shares @ repeated),
            entropy=float(shares @ (entropy(self.logprobs) / sizes)),
            divergence=float(shares @ (self.logprobs - base.logprobs)),
            num_tokens=1,
            surprise=float(np.exp(base.logprobs) @ (base.logprobs - self.logprobs)),
            num_base_tokens=1,
            num_rollouts=0,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """A few rollouts of a question with free answers."""

    asked: PromptedQuestion
    completions: tuple[Completion, ...]

    def answers(self, base: Drawn, labels: Labels, config: Config) -> Answers:
        """Read the answers, spelled as the base's where equal.

        Divergences take passes, and are 0 here.
        """
        if not isinstance(base, Written):
            raise TypeError("the base answered in another way")
        question, own = self.asked.question, self.completions
        given = [read(self.asked, one, config) for one in own]
        known = [read(self.asked, one, config) for one in base.completions]
        reader = reader_for(question, config.answers, config.prompts.list_choices)
        spellings = tally(question.id, [*known, *given], reader.same).spellings
        told = [None if one is None else spellings[one] for one in given]
        counts = Counter(labels(question, one) for one in told)
        return Answers(
            shares={label: count / len(own) for label, count in counts.items()},
            length=float(np.mean([len(one.token_ids) for one in own])),
            truncated=float(np.mean([not one.finished for one in own])),
            repetition=float(np.mean([repetition(one.token_ids) for one in own])),
            entropy=float(np.mean([one.entropy for one in own])),
            divergence=0.0,
            num_tokens=len(own[0].token_ids),
            surprise=0.0,
            num_base_tokens=len(base.completions[0].token_ids),
            num_rollouts=len(own),
        )


Drawn: TypeAlias = AmongChoices | Written


def divergences(
    learner: Learner,
    rollouts: Sequence[Drawn],
    config: Config,
    *,
    of_base: bool = False,
) -> list[float]:
    """Return how far student and base differ on each question's first rollout.

    KL(student || base), or KL(base || student) on the base's, summed over tokens, in
    nats; 0 with choices.
    """
    written = [one for one in rollouts if isinstance(one, Written)]
    prompts = learner.encode_all([one.asked.prompt for one in written])
    pairs: list[Pair] = [
        (prompt, one.completions[0].token_ids)
        for prompt, one in zip(prompts, written, strict=True)
    ]

    def of_some(part: Sequence[Pair]) -> list[float]:
        models = [learner.student(part), learner.reference(part)]
        one, other = reversed(models) if of_base else models
        found = divergence(one, other, config.distill.chunk_positions)
        return [float(each.sum()) for each in found.split([len(c) for _, c in part])]

    what = "the divergence of a completion"
    sums = in_passes(learner, pairs, pairs, of_some, what)
    names = [one.asked.question.id for one in written]
    refuse_not_finite(
        "the divergence from the base model is not finite",
        zip(names, ([one] for one in sums), strict=True),
    )
    of = dict(zip(names, sums, strict=True))
    return [of.get(one.asked.question.id, 0.0) for one in rollouts]
