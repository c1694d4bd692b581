"""What a probe needs of the pool: answers, votes, neurons, and what rules keep.

Follows `pipeline.prepare`, and reuses what a run made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypeVar

import numpy as np

from neuron_opsd.analysis.places import Place, read_output
from neuron_opsd.answers.votes import sampled_rollouts
from neuron_opsd.config import Config
from neuron_opsd.known import (
    HIDDEN_STATES,
    MEDOIDS_NAME,
    QUESTION_NEURONS,
    MedoidNames,
    look_up,
    with_medoids,
)
from neuron_opsd.method.contexts.search import Known
from neuron_opsd.method.selection import PoolSignals, kept_ids, select_questions
from neuron_opsd.models.roles import LanguageModel
from neuron_opsd.pipeline import (
    BIAS_NAME,
    ROLLOUTS_NAME,
    answers_to_show,
    demonstration_pool,
    read_neurons,
    roll_out,
)
from neuron_opsd.probing.measuring import Kept
from neuron_opsd.probing.request import Rules
from neuron_opsd.records import Question, Rollout, RolloutSummary, TokenIds
from neuron_opsd.records.beliefs import Belief
from neuron_opsd.seeds import derive_seed
from neuron_opsd.stages.pool_beliefs import entropies_of
from neuron_opsd.stages.probing import to_be_scored
from neuron_opsd.stages.rollouts import written
from neuron_opsd.stages.teaching import DemonstrationPool, representatives
from neuron_opsd.storage.caching import InChunks, Task, Workspace
from neuron_opsd.storage.codecs import Codec
from neuron_opsd.storage.run_directory import RunDirectory
from neuron_opsd.storage.stored_rollouts import Chosen, in_full, summaries_of
from neuron_opsd.storage.verdicts import hold_votes, verdicts_name

T = TypeVar("T")
R = TypeVar("R")
Item = TypeVar("Item")

LENDABLE: Final = (
    *(BIAS_NAME, ROLLOUTS_NAME, verdicts_name(ROLLOUTS_NAME), HIDDEN_STATES),
    *(MEDOIDS_NAME, QUESTION_NEURONS, "neurons"),
)


@dataclass(frozen=True, slots=True)
class AnsweredPool:
    """A pool that the student has answered."""

    rollouts: Sequence[Rollout]
    signals: PoolSignals
    """Of every question, without labels."""
    known: Known
    """What the tried rules compare."""
    library: DemonstrationPool

    def known_of(self, questions: Sequence[Question]) -> Known:
        """Return what rules compare of some questions, in pool order."""
        return self.known.of({question.id for question in questions})

    def signals_of(
        self,
        questions: Sequence[Question],
        beliefs: Mapping[str, Belief],
        config: Config,
    ) -> PoolSignals:
        """Return what selection rules would see if these questions were the pool.

        `beliefs`: answers of student and teacher, by id.
        """
        ids = {question.id for question in questions}
        among = frozenset(q.id for q in questions if written(q, config))
        given = (r for r in summaries_of(self.rollouts) if r.question_id in ids)
        whole = self.signals
        return PoolSignals(
            [entry for entry in whole.neurons if entry.question_id in ids],
            {name: one for name, one in whole.own.items() if name in ids},
            {name: one for name, one in whole.votes.items() if name in ids},
            entropies_of(given, among),
            beliefs,
        )


def answer_pool(
    work: Workspace,
    model: LanguageModel,
    questions: Sequence[Question],
    rules: Rules,
) -> AnsweredPool:
    """Have the student answer a pool, and read what any rule needs.

    All questions may become demonstrations, whatever `contexts.source` says.
    """
    if rules.reading:
        work = following(work, rules.reading)
    rollouts = roll_out(work, model, questions)
    held = hold_votes(work, questions, rollouts, ROLLOUTS_NAME)
    names = MedoidNames(ROLLOUTS_NAME)
    votes = with_medoids(work, model, questions, rollouts, held, names)
    own = representatives(summaries_of(rollouts), votes, work.config)
    neurons = read_neurons(work, model, questions, Chosen(rollouts, own))
    answers = answers_to_show(work, model, questions, rollouts, votes)
    signals = PoolSignals(neurons, own, votes)
    known = joined(
        look_up(following(work, rule), model, questions, signals)
        for rule in rules.contexts
    )
    config = following(work, work.config.contexts.rule).config
    library = demonstration_pool(questions, answers, known, (), config)
    return AnsweredPool(rollouts, signals, known, library)


def following(work: Workspace, rule: str) -> Workspace:
    """Make a workspace find demonstrations in the whole pool by a rule."""
    contexts = {"rule": rule, "source": "pool"}
    return replace(work, config=work.config.changed(contexts=contexts))


def joined(parts: Iterable[Known]) -> Known:
    """Merge what several rules know of the same questions."""
    some = list(parts)
    names = [field.name for field in fields(Known)]
    found = {n: next(filter(len, (getattr(p, n) for p in some)), ()) for n in names}
    return Known(**found)


def scored_completions(
    pool: AnsweredPool, questions: Sequence[Question], config: Config, most: int
) -> dict[str, tuple[list[RolloutSummary], tuple[TokenIds, ...]]]:
    """Return the student's completions to be scored, by question id.

    Questions answered by choice are left out.
    """
    free = {question.id for question in questions if not written(question, config)}
    given = [r for r in summaries_of(pool.rollouts) if r.question_id in free]
    chosen = {
        name: to_be_scored(own, pool.signals.votes[name], most)
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

    The first is a run's; a rule that ignores the seed has only one.
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


def lent_by(place: Place | None) -> list[str]:
    """Return the names of outputs that a run can lend."""
    return [] if place is None else [name for name in LENDABLE if place.holds(name)]


@dataclass(frozen=True, slots=True)
class Borrowing:
    """A probe's cache."""

    directory: RunDirectory
    place: Place | None = None
    lent: Collection[str] = ()
    """Not listed as sources, since their hashes are inputs of the directory."""

    def once(
        self,
        name: str,
        codec: Codec[T],
        compute: Callable[[], T],
        *,
        made_from: Sequence[str] = (),
    ) -> T:
        """Return a whole value."""
        if self.place is not None and name in self.lent:
            return read_output(self.place, name, codec)
        return self.directory.once(name, codec, compute, made_from=self.own(made_from))

    def chunks(
        self,
        name: str,
        codec: Codec[Sequence[R]],
        items: InChunks[Item],
        task: Task[Any, Item, R],
        *,
        made_from: Sequence[str] = (),
    ) -> Sequence[R]:
        """Return a list computed chunk by chunk."""
        if self.place is not None and name in self.lent:
            found = read_output(self.place, name, codec)
            items.done(len(items.items))
            return found
        return self.directory.chunks(
            name, codec, items, task, made_from=self.own(made_from)
        )

    def own(self, names: Sequence[str]) -> list[str]:
        """Drop sources that are lent."""
        return [name for name in names if name not in self.lent]
