"""What selection rules read of a pool besides its answers and neurons.

Only what the rule reads is computed. If it reads the teacher, contexts for the whole
pool and the answers with and without them are kept, and shared by methods with equal
contexts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

from neuron_opsd.config import Config
from neuron_opsd.known import names_read
from neuron_opsd.method.contexts.search import Known
from neuron_opsd.method.selection import PoolSignals
from neuron_opsd.models.roles import TextScorer
from neuron_opsd.records import (
    Question,
    Rollout,
    RolloutSummary,
    TeacherContext,
    Vote,
)
from neuron_opsd.records.beliefs import Belief
from neuron_opsd.stages import pool_beliefs, teaching
from neuron_opsd.stages.pool_beliefs import Given, Lesson
from neuron_opsd.stages.rollouts import ask, written
from neuron_opsd.stages.teaching import DemonstrationPool
from neuron_opsd.storage import codecs
from neuron_opsd.storage.caching import Workspace
from neuron_opsd.storage.stored_rollouts import Made, in_full, summaries_of
from neuron_opsd.storage.verdicts import verdicts_name

ROLLOUTS_NAME: Final = "rollouts"
ANSWERS: Final = (ROLLOUTS_NAME, verdicts_name(ROLLOUTS_NAME))
"""The answers to the pool, and which are equal."""
POOL_CONTEXTS: Final = "pool-contexts"
BELIEFS: Final = "beliefs"
DIVERGENCES: Final = "divergences"
TAUGHT: Final = (POOL_CONTEXTS, BELIEFS, DIVERGENCES)
"""Outputs of the teacher's view of a whole pool."""


def with_entropies(
    work: Workspace,
    pool: Sequence[Question],
    rollouts: Sequence[Rollout],
    answered: PoolSignals,
) -> PoolSignals:
    """Add the entropies of samples if a rule reads them."""
    if not work.config.selection_rule.reads_entropies:
        return answered
    among = frozenset(q.id for q in pool if written(q, work.config))
    found = pool_beliefs.entropies_of(summaries_of(rollouts), among)
    return replace(answered, entropies=found)


def with_beliefs(
    work: Workspace,
    model: TextScorer,
    rollouts: Sequence[Rollout],
    answered: PoolSignals,
    known: Known,
    library: Callable[[], DemonstrationPool],
) -> PoolSignals:
    """Add the answers of student and teacher if a rule reads them.

    `rollouts` and `known` cover the whole pool; `library` returns all possible
    demonstrations.

    Raises:
        DataError: If demonstrations are too few, or a question is too long.
        NotFiniteError: If the model computes something that is not a number.
    """
    if not work.config.selection_rule.reads_teacher:
        return answered
    shown = Shown(library(), known, rollouts, answered.votes)
    found = believe(work, model, shown)
    return replace(answered, beliefs={one.question_id: one for one in found})


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A pool shown to the teacher."""

    library: DemonstrationPool
    known: Known
    rollouts: Sequence[Rollout]
    votes: Mapping[str, Vote]

    @property
    def pool(self) -> list[Question]:
        """The questions in pool order."""
        return list(self.library.questions.values())


def believe(work: Workspace, model: TextScorer, shown: Shown) -> Sequence[Belief]:
    """Ask student and teacher about the whole pool."""
    config, pool = work.config, shown.pool
    (name,) = belief_names(config, pool)
    contexts = pool_contexts(work, shown.known, shown.library)
    givers = givers_for(name, shown, config)
    lessons = Made(
        range(len(pool)),
        lambda places: make_lessons(
            [pool[place] for place in places],
            [contexts[place] for place in places],
            shown,
            givers,
            config,
        ),
    )
    function = {
        BELIEFS: pool_beliefs.pool_beliefs,
        DIVERGENCES: pool_beliefs.pool_divergences,
    }[name]
    task = work.task(model, partial(function, config=config))
    made_from = [*ANSWERS, "neurons", POOL_CONTEXTS]
    return work.by_question(name, codecs.BELIEFS, lessons, task, made_from)


def belief_names(config: Config, pool: Sequence[Question]) -> tuple[str, ...]:
    """Return the teacher output that the rule needs, if any."""
    if not config.selection_rule.reads_teacher:
        return ()
    free = any(not written(question, config) for question in pool)
    return (belief_name(config, free=free),)


def belief_name(config: Config, *, free: bool) -> str:
    """Return the output for a rule that reads the teacher.

    Beliefs among choices include the divergence; with any free answer, the loss's
    divergence per token is used for all.
    """
    return DIVERGENCES if config.selection_rule.reads_divergence and free else BELIEFS


def pool_contexts(
    work: Workspace, known: Known, library: DemonstrationPool
) -> Sequence[TeacherContext]:
    """Choose demonstrations, without answers, for the whole pool."""

    def choose() -> list[TeacherContext]:
        found = teaching.build_contexts(known, library, work.config)
        return [with_answers(context, lambda _: "") for context in found]

    return work.cache.once(
        POOL_CONTEXTS,
        codecs.CONTEXTS.named(POOL_CONTEXTS),
        choose,
        made_from=[*ANSWERS, "neurons", *names_read(work.config)],
    )


def with_answers(
    context: TeacherContext, answer: Callable[[str], str]
) -> TeacherContext:
    """Add answers by id to a context's demonstrations."""
    shown = [replace(d, answer=answer(d.question_id)) for d in context.demonstrations]
    return replace(context, demonstrations=tuple(shown))


Givers: TypeAlias = Mapping[str, Mapping[str, RolloutSummary]]
"""Question id to answer to the sample scored for it."""


def givers_for(name: str, shown: Shown, config: Config) -> Givers:
    """Return the samples scored for an output."""
    samples = summaries_of(shown.rollouts)
    if name == DIVERGENCES:
        firsts = pool_beliefs.first_samples(samples)
        return {question: {"": sample} for question, sample in firsts.items()}
    free = {q.id: shown.votes[q.id] for q in shown.pool if not written(q, config)}
    return pool_beliefs.first_givers(samples, free) if free else {}


def make_lessons(
    some: Sequence[Question],
    contexts: Sequence[TeacherContext],
    shown: Shown,
    givers: Givers,
    config: Config,
) -> list[Lesson]:
    """Return lessons of questions with their contexts."""
    asked = ask(some, config)
    wanted = [g for a in asked for g in givers.get(a.question.id, {}).values()]
    completions = iter([r.completion for r in in_full(shown.rollouts, wanted)])
    questions = shown.library.questions
    lessons = []
    for a, bare in zip(asked, contexts, strict=True):
        name = a.question.id
        counts = shown.votes[name].counts if not a.written else {}
        own = givers.get(name, {})
        given = [Given(text, counts.get(text, 1), next(completions)) for text in own]
        if not given:
            given = [Given(text, count) for text, count in counts.items()]
        context = with_answers(bare, shown.library.answers.__getitem__)
        others = {
            d.question_id: questions[d.question_id] for d in context.demonstrations
        }
        lessons.append(Lesson(a, context, others, tuple(given)))
    return lessons
