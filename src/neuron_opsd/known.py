"""What demonstration rules compare of questions, cached if it takes model passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

from neuron_opsd.config import Config
from neuron_opsd.method.contexts.search import Certainty, Known, Signal
from neuron_opsd.method.selection import PoolSignals
from neuron_opsd.methods import context_signals, needs_medoids
from neuron_opsd.models.roles import LanguageModel
from neuron_opsd.prompts import as_written
from neuron_opsd.records import Question, Rollout, Vote
from neuron_opsd.records.beliefs import Medoid
from neuron_opsd.stages.capture import find_medoids
from neuron_opsd.stages.question_tokens import capture_questions, read_states
from neuron_opsd.stages.rollouts import PromptedQuestion, ask
from neuron_opsd.storage.caching import Workspace
from neuron_opsd.storage.codecs import MEDOIDS, NEURONS, STATES, Codec
from neuron_opsd.storage.stored_rollouts import Answered, Samples

R = TypeVar("R")

QUESTION_NEURONS: Final = "question-neurons"
HIDDEN_STATES: Final = "hidden-states"
MEDOIDS_NAME: Final = "medoids"
NAMES: Final = {
    Signal.QUESTION_NEURONS: QUESTION_NEURONS,
    Signal.HIDDEN_STATES: HIDDEN_STATES,
}
"""Cache names of results of passes over the questions."""


@dataclass(frozen=True, slots=True)
class MedoidNames:
    """Cache names of medoids and their rollouts."""

    rollouts: str
    own: str = MEDOIDS_NAME


def names_read(config: Config, folder: str = "") -> list[str]:
    """Return the names of what the rule reads by passes."""
    wanted = context_signals(config)
    return [f"{folder}{name}" for signal, name in NAMES.items() if signal in wanted]


def with_medoids(
    work: Workspace,
    model: LanguageModel,
    questions: Sequence[Question],
    rollouts: Sequence[Rollout],
    votes: Mapping[str, Vote],
    names: MedoidNames,
) -> Mapping[str, Vote]:
    """Add the medoids of rollouts to votes, if wanted."""
    config = work.config
    if not needs_medoids(config):
        return votes
    asked, ids = ask(questions, config), [question.id for question in questions]
    answered = Answered(asked, ids, Samples(rollouts))
    task = work.task(model, partial(find_medoids, config=config))
    found = work.by_question(names.own, MEDOIDS, answered, task, [names.rollouts])
    return votes_with(votes, found)


def votes_with(
    votes: Mapping[str, Vote], medoids: Iterable[Medoid]
) -> Mapping[str, Vote]:
    """Add medoids to votes."""
    place = {one.question_id: one.index for one in medoids}
    return {name: replace(v, medoid=place.get(name)) for name, v in votes.items()}


def look_up(
    work: Workspace,
    model: LanguageModel,
    questions: Sequence[Question],
    answered: PoolSignals,
    folder: str = "",
) -> Known:
    """Return what the demonstration rule reads of some questions.

    `answered` describes their answers, in the same order; results are cached in
    `folder`, empty or ending with a slash.
    """
    wanted = context_signals(work.config)
    config = work.config

    def passes(
        signal: Signal, codec: Codec[Sequence[R]], task: Callable[..., Sequence[R]]
    ) -> Sequence[R]:
        if signal not in wanted:
            return ()
        asked: Sequence[PromptedQuestion] = ask(questions, config)
        own = work.task(model, partial(task, config=config))
        return work.by_question(f"{folder}{NAMES[signal]}", codec, asked, own)

    states = passes(Signal.HIDDEN_STATES, STATES, read_states)
    return Known(
        neurons=answered.neurons,
        question_neurons=passes(Signal.QUESTION_NEURONS, NEURONS, capture_questions),
        states=tuple(one.values for one in states),
        texts=tuple(q.text for q in questions) if Signal.TEXTS in wanted else (),
        answers=own_answers(questions, answered, config)
        if Signal.OWN_ANSWERS in wanted
        else (),
        certainty=certainty_of(answered) if Signal.CERTAINTY in wanted else (),
    )


def own_answers(
    questions: Sequence[Question], answered: PoolSignals, config: Config
) -> tuple[str | None, ...]:
    """Return own answers as written, ignoring case."""
    pairs = zip(questions, answered.answers, strict=True)
    return tuple(
        answer and as_written(answer, question, config.prompts).strip().casefold()
        for question, answer in pairs
    )


def certainty_of(answered: PoolSignals) -> tuple[Certainty, ...]:
    """Return how sure the model is of its own answers."""
    return tuple(
        Certainty(
            answered.votes[name].share_of(answered.own[name].answer),
            answered.own[name].logprob / max(1, answered.own[name].num_tokens),
        )
        for name in answered.question_ids
    )
