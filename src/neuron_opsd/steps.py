"""The steps of Algorithm 1, one function each, on settings of the whole run.

Each takes the results of the steps before it, and the settings that `resolve` chose for
a model. Results stay in memory; `run` does the same in a directory that resumes.
Without `progress` nothing is shown, and warnings are Python's own.
`examples/algorithm1.py` puts them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from neuron_opsd import known as knowing
from neuron_opsd import pipeline
from neuron_opsd.beliefs import with_beliefs, with_entropies
from neuron_opsd.config import Config
from neuron_opsd.config.tables import Settings, as_config
from neuron_opsd.errors import ConfigError
from neuron_opsd.method.contexts.search import Known
from neuron_opsd.method.selection import PoolSignals, kept_ids
from neuron_opsd.methods import method_of
from neuron_opsd.methods.method import PoolAnswers
from neuron_opsd.models.load import learner_of
from neuron_opsd.models.roles import (
    Answerer,
    LanguageModel,
    Learner,
    TextScorer,
    Tokenizer,
)
from neuron_opsd.pipeline import centred
from neuron_opsd.progress import QUIET, Progress
from neuron_opsd.records import (
    NeuronSet,
    Question,
    Rollout,
    SelectionEntry,
    StepMetrics,
    TeacherContext,
    TrainingExample,
    Vote,
)
from neuron_opsd.runs import context
from neuron_opsd.runs.inputs import POOL
from neuron_opsd.runs.model_checks import check_sets
from neuron_opsd.runs.resolution import for_model, method_remarks, with_method
from neuron_opsd.stages import training
from neuron_opsd.stages.teaching import DemonstrationPool
from neuron_opsd.stages.teaching import representatives as representatives
from neuron_opsd.storage.caching import MEMORY, Workspace
from neuron_opsd.storage.stored_rollouts import Chosen
from neuron_opsd.storage.verdicts import hold_votes


def resolve(
    settings: Settings,
    model: TextScorer,
    pool: Sequence[Question],
    progress: Progress = QUIET,
) -> Config:
    """Decide for a model and a pool what the settings leave open.

    Args:
        settings: A `Config` or a table; the method's own are added to them.
        model: The model to ask.
        pool: The questions.
        progress: Called with what the user should know.

    Raises:
        ConfigError: If the settings, the method and the model do not fit together.
        DataError: If the model cannot be asked some of the questions.
    """
    given = with_method(as_config(settings))
    own = for_model(given, model.facts)
    chooses = context.have_choices(pool)
    config = context.resolve_method(own, model, pool, chooses=chooses)
    check_sets(model, {POOL: pool}, config, {})
    work = Workspace(config, MEMORY, progress)
    work.warn(context.remarks(model.facts, config, own))
    work.warn(method_remarks(given, own))
    return centred(work, model, pool).config


def sample_rollouts(
    model: Answerer,
    pool: Sequence[Question],
    config: Config,
    progress: Progress = QUIET,
) -> Sequence[Rollout]:
    """Answer every question without a context.

    Returns:
        All rollouts of the first question, then of the second, and so on.

    Raises:
        NotFiniteError: If a logit is not a number.
    """
    return pipeline.roll_out(Workspace(config, MEMORY, progress), model, pool)


def tally_votes(
    pool: Sequence[Question],
    rollouts: Sequence[Rollout],
    config: Config,
    progress: Progress = QUIET,
) -> dict[str, Vote]:
    """Return by question id what the sampled rollouts of each question agree on."""
    work = Workspace(config, MEMORY, progress)
    return hold_votes(work, pool, rollouts, pipeline.ROLLOUTS_NAME)


def with_medoids(
    model: LanguageModel,
    pool: Sequence[Question],
    rollouts: Sequence[Rollout],
    votes: Mapping[str, Vote],
    config: Config,
    progress: Progress = QUIET,
) -> Mapping[str, Vote]:
    """Return votes that know which rollout `contexts.answer = "neuron-medoid"` shows.

    It takes a pass over every rollout; with another setting the votes are unchanged.
    """
    work, names = Workspace(config, MEMORY, progress), knowing.MedoidNames("")
    return knowing.with_medoids(work, model, pool, rollouts, votes, names)


def capture_neurons(
    model: LanguageModel,
    pool: Sequence[Question],
    chosen: Mapping[str, Rollout],
    config: Config,
    progress: Progress = QUIET,
) -> Sequence[NeuronSet]:
    """Read the neurons that pushed each question's rollout.

    Args:
        model: The model that wrote the rollouts.
        pool: The questions.
        chosen: One rollout per question, from `representatives`.
        config: Which neurons count.
        progress: Called with every question.

    Returns:
        One set per question; without neurons if the settings ask for none.

    Raises:
        NotFiniteError: If a score is not a number.

    Source: sections 3.1 and 3.2 of arXiv:2607.02460.
    """
    work = Workspace(config, MEMORY, progress)
    rollouts = list(chosen.values())
    return pipeline.read_neurons(work, model, pool, Chosen(rollouts, chosen))


def select_questions(
    neurons: Sequence[NeuronSet],
    chosen: Mapping[str, Rollout],
    votes: Mapping[str, Vote],
    config: Config,
    progress: Progress = QUIET,
    signals: PoolSignals | None = None,
) -> Sequence[SelectionEntry]:
    """Rank the pool by the settings' rule, and keep the requested share.

    Args:
        neurons: From `capture_neurons`.
        chosen: From `representatives`.
        votes: From `tally_votes`.
        config: Names the rule.
        progress: Called with what else decided.
        signals: From `read_signals`, for rules that read more than neurons, own answers
            and votes.

    Returns:
        One entry per question, in the order of the pool.

    Raises:
        ConfigError: If the rule reads more and there are no signals.

    Source: S = {x : s(x) <= b-th percentile}, Algorithm 1 of arXiv:2607.02460.
    """
    rule = config.selection_rule
    if signals is None and (rule.reads_entropies or rule.reads_teacher):
        raise ConfigError(
            f"selection.rule={config.selection.rule} reads more than neurons and "
            "votes; give select_questions the signals that read_signals returns"
        )
    known = signals or PoolSignals(neurons, chosen, votes)
    return pipeline.select(Workspace(config, MEMORY, progress), known)


def read_signals(
    model: TextScorer,
    pool: Sequence[Question],
    rollouts: Sequence[Rollout],
    votes: Mapping[str, Vote],
    known: Known,
    config: Config,
) -> PoolSignals:
    """Return everything the selection rule reads of a pool.

    Args:
        model: Answers with and without demonstrations, if the rule reads that.
        pool: The questions.
        rollouts: From `sample_rollouts`.
        votes: From `tally_votes`.
        known: From `look_up`.
        config: Names the rule.

    Raises:
        DataError: If the rule reads the teacher, and there are too few questions to
            choose demonstrations from, or one is too long for the model.
    """
    work = Workspace(config)

    def library() -> DemonstrationPool:
        answers = pipeline.answers_to_show(work, model, pool, rollouts, votes)
        return pipeline.demonstration_pool(pool, answers, known, (), config)

    chosen = representatives(rollouts, votes, config)
    answered = PoolSignals(known.neurons, chosen, votes)
    answered = with_entropies(work, pool, rollouts, answered)
    return with_beliefs(work, model, rollouts, answered, known, library)


def answers_to_show(
    model: Tokenizer,
    pool: Sequence[Question],
    rollouts: Sequence[Rollout],
    votes: Mapping[str, Vote],
    config: Config,
    progress: Progress = QUIET,
) -> dict[str, str]:
    """Return by question id the model's own answer that a demonstration shows.

    A question whose answer is unreadable or too long is left out.
    """
    work = Workspace(config, MEMORY, progress)
    return pipeline.answers_to_show(work, model, pool, rollouts, votes)


def look_up(
    model: LanguageModel,
    pool: Sequence[Question],
    neurons: Sequence[NeuronSet],
    chosen: Mapping[str, Rollout],
    votes: Mapping[str, Vote],
    config: Config,
) -> Known:
    """Return what the rule for demonstrations reads of every question.

    Args:
        model: Reads the questions, if the rule needs its view of them.
        pool: The questions.
        neurons: From `capture_neurons`.
        chosen: From `representatives`.
        votes: From `tally_votes`.
        config: Names the rule.
    """
    answered = PoolSignals(neurons, chosen, votes)
    return knowing.look_up(Workspace(config), model, pool, answered)


def build_contexts(
    pool: Sequence[Question],
    known: Known,
    selection: Sequence[SelectionEntry],
    answers: Mapping[str, str],
    config: Config,
    progress: Progress = QUIET,
) -> Sequence[TeacherContext]:
    """Choose the demonstrations of every selected question.

    Args:
        pool: The questions.
        known: From `look_up`.
        selection: From `select_questions`.
        answers: From `answers_to_show`.
        config: How many demonstrations, and by which rule.
        progress: Called if a search was inexact.

    Returns:
        One context per selected question, its nearest demonstration last.

    Raises:
        DataError: If no question is selected, or there are fewer demonstrations to
            choose from than asked for.

    Source: section 3.3 of arXiv:2607.02460.
    """
    kept = pipeline.refuse_none(kept_ids(selection), pool)
    library = pipeline.demonstration_pool(pool, answers, known, selection, config)
    work = Workspace(config, MEMORY, progress)
    return pipeline.choose_contexts(work, known.of(kept), library)


def build_examples(
    model: Tokenizer,
    pool: Sequence[Question],
    contexts: Sequence[TeacherContext],
    config: Config,
    progress: Progress = QUIET,
) -> tuple[TrainingExample, ...]:
    """Write out what the student and the teacher see of every selected question.

    Raises:
        DataError: If a question is too long for the model.
    """
    questions = {question.id: question for question in pool}
    library = DemonstrationPool(questions, {}, Known(()), {})
    work = Workspace(config, MEMORY, progress)
    return pipeline.write_examples(work, model, contexts, library)


def make_learner(model: LanguageModel, config: Config) -> Learner:
    """Return a student and teacher that start as a model, which never changes."""
    return learner_of(model, config.distill, config.seed)


def train(
    learner: Learner, examples: Sequence[TrainingExample], config: Config
) -> Iterator[StepMetrics]:
    """Train the student by the method of the settings; yield the metrics of each step.

    Args:
        learner: From `make_learner`; `learner.save_adapter` keeps the result.
        examples: What student and teacher see.
        config: Method, steps and rate.

    Raises:
        TrainingError: If something in a step is not finite; no weight has moved then.
    """
    method = method_of(config)
    own = method.examples(examples, PoolAnswers(dict, {}))
    return training.train(learner, own, method, config)
