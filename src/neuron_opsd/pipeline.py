"""Algorithm 1 of arXiv:2607.02460, from questions to training examples. Start here.

A model answers a pool of questions. The neurons that pushed each answer decide which
questions to train on, and which others the teacher sees before each, with the model's
own answers. `prepare` does all this in the paper's order; runs, previews, plans and
comparisons use it or its parts. `stages.training.train` then trains the student. No
gold answer is read here.

Expensive results come from a `Cache` (`storage.caching`): whole by `once`, or in
`chunks`. A run directory is a cache that resumes; memory keeps nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from neuron_opsd import records
from neuron_opsd.beliefs import ANSWERS as ANSWERS
from neuron_opsd.beliefs import ROLLOUTS_NAME as ROLLOUTS_NAME
from neuron_opsd.beliefs import belief_names, with_beliefs, with_entropies
from neuron_opsd.config import Config, NeuronsConfig
from neuron_opsd.data.overlap import duplicates_of
from neuron_opsd.errors import DataError
from neuron_opsd.known import MedoidNames, look_up, names_read, with_medoids
from neuron_opsd.method import selection as selecting
from neuron_opsd.method.contexts.search import Known
from neuron_opsd.method.selection import PoolSignals, kept_ids
from neuron_opsd.methods import needs_contexts, needs_neurons
from neuron_opsd.models.remembering import remembering
from neuron_opsd.models.roles import Answerer, LanguageModel, TextScorer, Tokenizer
from neuron_opsd.records import NeuronSet, Question, Rollout, SelectionEntry, Vote
from neuron_opsd.stages import capture, remarks, teaching
from neuron_opsd.stages.centring import choice_bias, is_centring
from neuron_opsd.stages.rollouts import OWN, ask, pool_draws, sample_rollouts
from neuron_opsd.stages.teaching import DemonstrationPool, representatives
from neuron_opsd.storage import codecs
from neuron_opsd.storage.caching import Workspace
from neuron_opsd.storage.stored_rollouts import (
    ROWS_READ,
    Answered,
    Chosen,
    summaries_of,
)
from neuron_opsd.storage.verdicts import hold_votes

BIAS_NAME: Final = "choice-bias"


def prepare(
    work: Workspace,
    model: LanguageModel,
    pool: Sequence[Question],
    only: Set[str] | None = None,
) -> Prepared:
    """Make training examples from unlabelled questions: Algorithm 1 up to training.

    Args:
        work: Settings resolved by `runs.context.resolve`, and a cache.
        model: Gives answers and neurons.
        pool: The questions.
        only: Ids of questions to make examples of; by default the selected ones.

    Raises:
        DataError: If no question can be selected, demonstrations are too few, or a
            question is too long.
        NotFiniteError: If the model computes something that is not a number.
    """
    config = work.config
    rollouts = roll_out(work, model, pool)
    held = hold_votes(work, pool, rollouts, ROLLOUTS_NAME)
    names = MedoidNames(ROLLOUTS_NAME)
    votes = with_medoids(work, model, pool, rollouts, held, names)
    chosen = representatives(summaries_of(rollouts), votes, config)
    neurons = read_neurons(work, model, pool, Chosen(rollouts, chosen))
    answered = PoolSignals(neurons, chosen, votes)
    answers = answers_to_show(work, model, pool, rollouts, votes)
    known = look_up(work, model, pool, answered)
    everyone = partial(demonstration_pool, pool, answers, known, (), config)
    answered = with_entropies(work, pool, rollouts, answered)
    answered = with_beliefs(work, model, rollouts, answered, known, everyone)
    selection = select(work, answered, belief_names(config, pool))
    trained = only or refuse_none(kept_ids(selection), pool)
    library = demonstration_pool(pool, answers, known, selection, config)
    contexts = choose_contexts(work, known.of(trained), library)
    examples = write_examples(work, model, contexts, library)
    return Prepared(
        rollouts,
        votes,
        chosen,
        known,
        tuple(selection),
        library,
        tuple(contexts),
        examples,
        taught_tokens=sum(one.num_tokens for one in answered.beliefs.values()),
    )


@dataclass(frozen=True, slots=True, repr=False)
class Prepared(records.Brief):
    """Everything training needs, without labels."""

    rollouts: Sequence[Rollout]
    """Of the pool; a run's stay in their file."""
    votes: Mapping[str, Vote]
    representatives: Mapping[str, records.RolloutSummary]
    """Question id to its rollout; a run drops them."""
    known: Known
    """Of every question, as the settings need it."""
    selection: tuple[SelectionEntry, ...]
    library: DemonstrationPool
    contexts: tuple[records.TeacherContext, ...]
    examples: tuple[records.TrainingExample, ...]
    teacher_check: records.TeacherCheck | None = None
    taught_tokens: int = 0
    """Tokens read for the teacher's answers to the whole pool."""


def centred(work: Workspace, model: TextScorer, pool: Sequence[Question]) -> Workspace:
    """Return a workspace with centred choices, if its settings ask for that.

    Means are the untrained model's over the pool.
    """
    config = work.config
    if not is_centring(config.rollouts):
        return work
    bias = work.cache.once(
        BIAS_NAME,
        codecs.json_codec(f"{BIAS_NAME}.json"),
        lambda: choice_bias(
            work.employed(model), ask(pool, config), config.rollouts.block_size
        ),
    )
    if not bias:
        work.progress.warn(
            "rollouts.centre_choices has no effect: no choice is in enough questions "
            "of the pool that are answered among their choices"
        )
    return replace(work, config=config.changed(rollouts={"choice_bias": dict(bias)}))


def roll_out(
    work: Workspace, model: Answerer, pool: Sequence[Question]
) -> Sequence[Rollout]:
    """Answer every question of the pool without a context."""
    config = work.config
    asked, draws = ask(pool, config), pool_draws(config)
    sample = partial(sample_rollouts, config=config, stage=OWN, draws=draws)
    task = work.task(model, sample, remembering)
    rollouts = work.by_question(
        ROLLOUTS_NAME, codecs.ROLLOUTS, asked, task, [BIAS_NAME]
    )
    longest = config.rollouts.max_new_tokens
    work.warn(remarks.on_rollouts(summaries_of(rollouts), longest))
    return rollouts


def read_neurons(
    work: Workspace,
    model: LanguageModel,
    questions: Sequence[Question],
    chosen: Chosen,
    name: str = "neurons",
    made_from: Sequence[str] = ANSWERS,
) -> Sequence[NeuronSet]:
    """Read the neurons that pushed each question's rollout, if needed.

    Source: sections 3.1 and 3.2 of arXiv:2607.02460.
    """
    config = work.config
    if not needs_neurons(config):
        return capture.not_read([question.id for question in questions])

    answered = Answered(ask(questions, config), [q.id for q in questions], chosen)
    task = work.task(model, partial(capture.capture_answers, config=config))
    neurons = work.by_question(name, codecs.NEURONS, answered, task, made_from)
    warn_of_spans(work, chosen, config.neurons)
    return neurons


def warn_of_spans(work: Workspace, chosen: Chosen, config: NeuronsConfig) -> None:
    """Warn of completions without the counted span."""
    if config.span == "completion":
        return
    ids = list(chosen.facts)
    lacking = sum(
        capture.lacks_span(own, config)
        for start in range(0, len(ids), ROWS_READ)
        for own in chosen.completions(ids[start : start + ROWS_READ])
    )
    if lacking:
        work.progress.warn(
            f"{lacking} of {len(ids)} completions hold no {config.span}; the "
            "neurons of all their tokens count instead"
        )


def select(
    work: Workspace, pool: PoolSignals, made_from: Sequence[str] = ()
) -> Sequence[SelectionEntry]:
    """Select the questions to train on; report exclusions and random choices.

    `made_from` are outputs that the rule reads besides answers and neurons.
    """
    config = work.config.selection
    ranking = selecting.rank_questions(pool, config, work.config.seed)
    selection = work.cache.once(
        "selection",
        codecs.SELECTION,
        lambda: selecting.entries_of(pool, ranking, config),
        made_from=[*ANSWERS, "neurons", *made_from],
    )
    if ranking.kept.any():
        work.warn(selecting.selection_warnings(ranking, config))
    return selection


def refuse_none(kept: Set[str], pool: Sequence[Question]) -> Set[str]:
    """Return the ids of the selected questions; refuse none."""
    if kept:
        return kept
    raise DataError(
        f"none of the {len(pool)} questions can be selected, since every own "
        "completion was cut or holds no answer that can be read, or selection.rule "
        "knows nothing of it; raise rollouts.max_new_tokens, look at answers.reader, "
        "or set selection.include_unread to true or selection.rule to random"
    )


def answers_to_show(
    work: Workspace,
    model: Tokenizer,
    pool: Sequence[Question],
    rollouts: Sequence[Rollout],
    votes: Mapping[str, Vote],
) -> dict[str, str]:
    """Return the answers to show; report missing ones."""
    if work.config.shows_given:
        return {question.id: question.given for question in pool}
    found = teaching.shown_answers(rollouts, votes, work.config)
    questions = {question.id: question for question in pool}
    short = teaching.demonstrable(model, questions, found, work.config)
    if work.config.contexts.num_demonstrations:
        work.warn(remarks.on_shown(model, found, short, work.config, len(pool)))
    return short


def demonstration_pool(
    pool: Sequence[Question],
    answers: Mapping[str, str],
    known: Known,
    selection: Sequence[SelectionEntry],
    config: Config,
) -> DemonstrationPool:
    """Return the possible demonstrations."""
    shown = set(answers)
    if config.contexts.source == "selected":
        shown &= kept_ids(selection)
    return DemonstrationPool(
        questions={question.id: question for question in pool},
        answers=answers,
        known=known.of(shown),
        excluded=duplicates_of(pool),
    )


def choose_contexts(
    work: Workspace, trained: Known, library: DemonstrationPool
) -> Sequence[records.TeacherContext]:
    """Choose the demonstrations of trained questions."""
    config = work.config
    if not needs_contexts(config):
        config = config.changed(contexts={"num_demonstrations": 0})
    contexts = work.cache.once(
        "contexts",
        codecs.CONTEXTS,
        lambda: teaching.build_contexts(trained, library, config),
        made_from=[*ANSWERS, "neurons", "selection", *names_read(config)],
    )
    work.warn(remarks.on_search(contexts, library))
    return contexts


def write_examples(
    work: Workspace,
    model: Tokenizer,
    contexts: Sequence[records.TeacherContext],
    library: DemonstrationPool,
) -> tuple[records.TrainingExample, ...]:
    """Write what student and teacher see; report what is dropped."""
    with work.progress.stage("contexts", len(contexts), "questions") as done:
        examples = teaching.build_examples(
            model, contexts, library, work.config, on_done=done
        )
    work.warn(remarks.on_dropped(examples))
    return examples
