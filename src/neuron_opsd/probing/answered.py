"""What a probe needs of the pool: answers, votes, neurons, and what each rule keeps.

The parts are those of `pipeline.prepare`, in its order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from neuron_opsd.answers.votes import sampled_rollouts
from neuron_opsd.config import Config
from neuron_opsd.method.contexts import CONTEXT_RULES
from neuron_opsd.method.selection import PoolSignals, kept_ids, select_questions
from neuron_opsd.models.roles import LanguageModel
from neuron_opsd.pipeline import (
    ROLLOUTS_NAME,
    answers_to_show,
    demonstration_pool,
    read_neurons,
    roll_out,
)
from neuron_opsd.probing.measuring import Kept
from neuron_opsd.records import (
    NeuronSet,
    Question,
    Rollout,
    RolloutSummary,
    TokenIds,
    Vote,
)
from neuron_opsd.seeds import derive_seed
from neuron_opsd.stages.probing import to_be_scored
from neuron_opsd.stages.rollouts import written
from neuron_opsd.stages.teaching import DemonstrationPool, representatives
from neuron_opsd.storage.caching import Workspace
from neuron_opsd.storage.stored_rollouts import Chosen, in_full, summaries_of
from neuron_opsd.storage.verdicts import hold_votes

READING: Final = next(n for n, rule in CONTEXT_RULES.items() if rule.reads_neurons)
"""A context rule that has the neurons of the whole pool read."""


@dataclass(frozen=True, slots=True)
class AnsweredPool:
    """A pool that the student has answered."""

    rollouts: Sequence[Rollout]
    votes: Mapping[str, Vote]
    own: Mapping[str, RolloutSummary]
    """Question id to the rollout that stands for it."""
    neurons: Mapping[str, NeuronSet]
    """By question id, in the order of the pool."""
    library: DemonstrationPool

    def sets(self, questions: Sequence[Question]) -> list[NeuronSet]:
        """Return the neurons of some questions."""
        return [self.neurons[question.id] for question in questions]

    def signals(self, questions: Sequence[Question]) -> PoolSignals:
        """Return what selection rules see, if these questions were the pool."""
        ids = [question.id for question in questions]
        return PoolSignals(
            self.sets(questions),
            {i: self.own[i] for i in ids},
            {i: self.votes[i] for i in ids},
        )


def answer_pool(
    work: Workspace,
    model: LanguageModel,
    questions: Sequence[Question],
    *,
    reads_neurons: bool,
) -> AnsweredPool:
    """Have the student answer a pool, and read its neurons if any rule asks for them.

    All questions may become demonstrations, whatever `contexts.source` says.
    """
    rule = READING if reads_neurons else RANDOM_RULE
    selected = {"rule": "all"}
    config = work.config.changed(
        contexts={"rule": rule, "source": "pool"}, selection=selected
    )
    work = Workspace(config, work.cache, work.progress, work.workers)
    rollouts = roll_out(work, model, questions)
    votes = hold_votes(work, questions, rollouts, ROLLOUTS_NAME)
    own = representatives(summaries_of(rollouts), votes, config)
    neurons = read_neurons(work, model, questions, Chosen(rollouts, own))
    answers = answers_to_show(work, model, questions, rollouts, votes)
    library = demonstration_pool(questions, answers, neurons, (), config)
    known = {entry.question_id: entry for entry in neurons}
    return AnsweredPool(rollouts, votes, own, known, library)


RANDOM_RULE: Final = "random"
"""A context rule that reads nothing."""


def scored_completions(
    pool: AnsweredPool, questions: Sequence[Question], config: Config, most: int
) -> dict[str, tuple[list[RolloutSummary], tuple[TokenIds, ...]]]:
    """Return the student's completions that teachers score, by question id.

    Questions that are answered among their choices are left out.
    """
    free = {question.id for question in questions if not written(question, config)}
    given = [r for r in summaries_of(pool.rollouts) if r.question_id in free]
    chosen = {
        name: to_be_scored(own, pool.votes[name], most)
        for name, own in sampled_rollouts(given).items()
    }
    flat = [rollout for own in chosen.values() for rollout in own]
    full = iter(in_full(pool.rollouts, flat))
    return {
        name: (own, tuple(next(full).completion.token_ids for _ in own))
        for name, own in chosen.items()
    }


def kept_by(rule: str, signals: PoolSignals, config: Config, num_draws: int) -> Kept:
    """Return what a selection rule keeps of some questions, in several draws.

    The first is that of a run; a rule that keeps the same with another seed draws
    nothing.
    """
    own = config.selection.model_copy(update={"rule": rule})

    def draw(number: int) -> np.ndarray:
        seed = config.seed
        if number:
            seed = derive_seed(seed, "probe", str(number))
        kept = kept_ids(select_questions(signals, own, seed))
        return np.array([name in kept for name in signals.question_ids])

    first, second = draw(0), draw(1)
    if np.array_equal(first, second):
        return Kept((first,))
    return Kept((first, second, *(draw(n) for n in range(2, num_draws))))
