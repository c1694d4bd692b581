"""Algorithm 1 of arXiv:2607.02460, from questions to training examples. Start here.

A model answers a pool of questions. The neurons that pushed each answer say which
questions to train on, and which others, with the model's own answers, the teacher is
shown before each. `prepare` is the whole of it in the order of the paper; what a run, a
preview, a plan or a comparison does with a pool, it does with `prepare` or its parts.
The student is then trained by `stages.training.train`. No gold answer is read here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from neuron_opsd.config import Config, NeuronsConfig
from neuron_opsd.data.questions import duplicates_of
from neuron_opsd.errors import DataError
from neuron_opsd.method.selection import (
    PoolSignals,
    kept_ids,
    rank_questions,
    select_questions,
    selection_warnings,
)
from neuron_opsd.methods import needs_contexts, needs_neurons
from neuron_opsd.models.roles import Answerer, LanguageModel, Tokenizer
from neuron_opsd.progress import QUIET, Progress
from neuron_opsd.records import (
    Brief,
    NeuronSet,
    Question,
    Rollout,
    RolloutSummary,
    SelectionEntry,
    TeacherCheck,
    TeacherContext,
    TrainingExample,
    Vote,
)
from neuron_opsd.stages.capture import capture_neurons, lacks_span, not_read, pairs_of
from neuron_opsd.stages.library import DemonstrationPool, search_remarks
from neuron_opsd.stages.remarks import (
    remarks_on_dropped,
    remarks_on_rollouts,
    remarks_on_shown,
)
from neuron_opsd.stages.representatives import representatives
from neuron_opsd.stages.rollouts import OWN, PromptedQuestion, ask, sample_rollouts
from neuron_opsd.stages.teaching import (
    build_contexts,
    build_examples,
    demonstrable,
    pool_draws,
    shown_answers,
)
from neuron_opsd.storage.caching import MEMORY, Cache, Workspace
from neuron_opsd.storage.codecs import CONTEXTS, NEURONS, ROLLOUTS, SELECTION
from neuron_opsd.storage.stored_rollouts import ROWS_READ, Chosen, summaries_of
from neuron_opsd.storage.verdicts import hold_votes, verdicts_name

BIAS_NAME: Final = "choice-bias"
ROLLOUTS_NAME: Final = "rollouts"
ANSWERS: Final = (ROLLOUTS_NAME, verdicts_name(ROLLOUTS_NAME))
"""What the model answered to the pool, and which of these answers are equal."""


@dataclass(frozen=True, slots=True, repr=False)
class Prepared(Brief):
    """Everything that training needs, made from questions without labels."""

    rollouts: Sequence[Rollout]
    """Of the pool; those of a run stay in their file."""
    votes: Mapping[str, Vote]
    representatives: Mapping[str, RolloutSummary]
    """Question id to the rollout that stands for it; a run lets go of them."""
    neurons: tuple[NeuronSet, ...]
    """Of every question, empty where the settings ask for none."""
    selection: tuple[SelectionEntry, ...]
    library: DemonstrationPool
    contexts: tuple[TeacherContext, ...]
    examples: tuple[TrainingExample, ...]
    teacher_check: TeacherCheck | None = None


def prepare(
    model: LanguageModel,
    pool: Sequence[Question],
    config: Config,
    cache: Cache = MEMORY,
    progress: Progress = QUIET,
    only: Set[str] | None = None,
) -> Prepared:
    """Make training examples from unlabelled questions: Algorithm 1 up to training.

    Args:
        model: Answers, and its neurons are read.
        pool: The questions.
        config: Resolved for the model, by `runs.context.resolve`.
        cache: Keeps what is expensive; memory keeps nothing.
        progress: Called with every step, and with what the user should know.
        only: Ids of the questions to make examples of; the selected ones if left out.

    Raises:
        DataError: If no question can be selected, there are too few to choose
            demonstrations from, or one is too long for the model.
        NotFiniteError: If the model computes something that is no number.
    """
    work = Workspace(config, cache, progress)
    rollouts = roll_out(work, model, pool)
    votes = hold_votes(work, pool, rollouts, ROLLOUTS_NAME)
    chosen = representatives(summaries_of(rollouts), votes, config)
    neurons = read_neurons(work, model, pool, Chosen(rollouts, chosen))
    selection = select(work, PoolSignals(neurons, chosen, votes))
    trained = only or refuse_none(kept_ids(selection), pool)
    answers = answers_to_show(work, model, pool, rollouts, votes)
    library = demonstration_pool(pool, answers, neurons, selection, config)
    contexts = choose_contexts(work, of_ids(neurons, trained), library)
    examples = write_examples(work, model, contexts, library)
    return Prepared(
        rollouts,
        votes,
        chosen,
        tuple(neurons),
        tuple(selection),
        library,
        tuple(contexts),
        examples,
    )


def roll_out(
    work: Workspace, model: Answerer, pool: Sequence[Question]
) -> Sequence[Rollout]:
    """Answer every question of the pool without a context."""
    config = work.config
    asked, draws = ask(pool, config), pool_draws(config)
    with work.progress.stage(ROLLOUTS_NAME, len(pool), "questions") as done:
        rollouts = work.cache.chunks(
            ROLLOUTS_NAME,
            ROLLOUTS,
            work.cut(asked, done),
            lambda chunk: sample_rollouts(model, chunk, config, OWN, draws),
            made_from=[BIAS_NAME],
        )
    longest = config.rollouts.max_new_tokens
    work.warn(remarks_on_rollouts(summaries_of(rollouts), longest))
    return rollouts


def read_neurons(
    work: Workspace,
    model: LanguageModel,
    questions: Sequence[Question],
    chosen: Chosen,
    name: str = "neurons",
    made_from: Sequence[str] = ANSWERS,
) -> Sequence[NeuronSet]:
    """Read off the neurons that pushed each question's rollout, where they are needed.

    Source: sections 3.1 and 3.2 of arXiv:2607.02460.
    """
    config = work.config
    if not needs_neurons(config):
        return not_read([question.id for question in questions])

    def compute(chunk: Sequence[PromptedQuestion]) -> Sequence[NeuronSet]:
        ids = [a.question.id for a in chunk]
        pairs = pairs_of(model, chunk, chosen.completions(ids), config.neurons)
        tokens = config.model.tokens_per_batch
        return capture_neurons(model, ids, pairs, config.neurons, tokens)

    asked = ask(questions, config)
    with work.progress.stage(name, len(asked), "questions") as done:
        neurons = work.cache.chunks(
            name,
            NEURONS.at(f"{name}.parquet"),
            work.cut(asked, done),
            compute,
            made_from=made_from,
        )
    warn_of_spans(work, chosen, config.neurons)
    return neurons


def warn_of_spans(work: Workspace, chosen: Chosen, config: NeuronsConfig) -> None:
    """Say how many completions do not hold the span whose neurons count."""
    if config.span == "completion":
        return
    ids = list(chosen.facts)
    lacking = sum(
        lacks_span(own, config)
        for start in range(0, len(ids), ROWS_READ)
        for own in chosen.completions(ids[start : start + ROWS_READ])
    )
    if lacking:
        work.progress.warn(
            f"{lacking} of {len(ids)} completions hold no {config.span}; the "
            "neurons of all their tokens count instead"
        )


def select(work: Workspace, pool: PoolSignals) -> Sequence[SelectionEntry]:
    """Select the questions to train on; say what was left out and what was drawn."""
    config = work.config
    selection = work.cache.once(
        "selection",
        SELECTION,
        lambda: select_questions(pool, config.selection, config.seed),
        made_from=[*ANSWERS, "neurons"],
    )
    if any(entry.kept for entry in selection):
        ranking = rank_questions(pool, config.selection, config.seed)
        work.warn(selection_warnings(ranking, config.selection))
    return selection


def of_ids(neurons: Sequence[NeuronSet], ids: Set[str]) -> list[NeuronSet]:
    """Return the neuron sets of some questions, in the order of the pool."""
    return [entry for entry in neurons if entry.question_id in ids]


def refuse_none(kept: Set[str], pool: Sequence[Question]) -> Set[str]:
    """Return the ids of the selected questions."""
    if kept:
        return kept
    raise DataError(
        f"none of the {len(pool)} questions can be selected, since every own "
        "completion was cut or holds no answer that can be read; raise "
        "rollouts.max_new_tokens, look at answers.reader, or set "
        "selection.include_unread to true"
    )


def answers_to_show(
    work: Workspace,
    model: Tokenizer,
    pool: Sequence[Question],
    rollouts: Sequence[Rollout],
    votes: Mapping[str, Vote],
) -> dict[str, str]:
    """Return what demonstrations would show; say how many questions show nothing."""
    found = shown_answers(rollouts, votes, work.config)
    questions = {question.id: question for question in pool}
    short = demonstrable(model, questions, found, work.config)
    if work.config.contexts.num_demonstrations:
        work.warn(remarks_on_shown(model, found, short, work.config, len(pool)))
    return short


def demonstration_pool(
    pool: Sequence[Question],
    answers: Mapping[str, str],
    neurons: Sequence[NeuronSet],
    selection: Sequence[SelectionEntry],
    config: Config,
) -> DemonstrationPool:
    """Return the questions that may become demonstrations, by their answers."""
    source = neurons
    if config.contexts.source == "selected":
        source = of_ids(neurons, kept_ids(selection))
    return DemonstrationPool(
        questions={question.id: question for question in pool},
        answers=answers,
        neurons=tuple(entry for entry in source if entry.question_id in answers),
        excluded=duplicates_of(pool),
    )


def choose_contexts(
    work: Workspace, trained: Sequence[NeuronSet], library: DemonstrationPool
) -> Sequence[TeacherContext]:
    """Choose the demonstrations of the questions that are trained on, where any are."""
    config = work.config
    if not needs_contexts(config):
        config = without_demonstrations(config)
    contexts = work.cache.once(
        "contexts",
        CONTEXTS,
        lambda: build_contexts(trained, library, config),
        made_from=[*ANSWERS, "neurons", "selection"],
    )
    work.warn(search_remarks(contexts, library))
    return contexts


def without_demonstrations(config: Config) -> Config:
    """Return settings for a method that takes none."""
    contexts = config.contexts.model_copy(update={"num_demonstrations": 0})
    return config.model_copy(update={"contexts": contexts})


def write_examples(
    work: Workspace,
    model: Tokenizer,
    contexts: Sequence[TeacherContext],
    library: DemonstrationPool,
) -> tuple[TrainingExample, ...]:
    """Write out what student and teacher see; say which demonstrations do not fit."""
    with work.progress.stage("contexts", len(contexts), "questions") as done:
        examples = build_examples(model, contexts, library, work.config, on_done=done)
    work.warn(remarks_on_dropped(examples))
    return examples
