"""From a pool of questions to what student and teacher will see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from neuron_opsd.config import Config
from neuron_opsd.config.needs import needs_neurons
from neuron_opsd.data.questions import duplicates_of
from neuron_opsd.errors import TeacherError
from neuron_opsd.method.selection import select_questions
from neuron_opsd.methods import METHODS
from neuron_opsd.models.protocol import LanguageModel
from neuron_opsd.outlines import RolloutFacts
from neuron_opsd.records import (
    Fitness,
    NeuronSet,
    Prompt,
    Question,
    Rollout,
    SelectionEntry,
    TeacherContext,
    TrainingExample,
    Vote,
)
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.neurons import Chosen, capture
from neuron_opsd.runs.pool_rollouts import NAME as ROLLOUTS_NAME
from neuron_opsd.runs.pool_rollouts import answers_to_show, roll_out
from neuron_opsd.runs.selection import unread_of, warn_of_selection
from neuron_opsd.runs.verdicts import noted, verdicts_name, vote, warn_as_kept
from neuron_opsd.seeds import derive_seed
from neuron_opsd.stages.capture import not_read
from neuron_opsd.stages.fitness import check_teacher, pool_findings, selection_findings
from neuron_opsd.stages.library import DemonstrationPool, search_remarks
from neuron_opsd.stages.one_answer import one_answer_findings, refuse_one_answer
from neuron_opsd.stages.rollouts import ask
from neuron_opsd.stages.teaching import (
    build_contexts,
    build_examples,
    fits,
    fitted_prompt,
)
from neuron_opsd.storage.codecs import CONTEXTS, SELECTION, Codec, record_codec
from neuron_opsd.storage.kept_rollouts import outlines_of

T = TypeVar("T")
R = TypeVar("R", bound=RolloutFacts)
"""A rollout or its outline."""

FITNESS = record_codec("fitness.json", Fitness)

ANSWERS = (ROLLOUTS_NAME, verdicts_name(ROLLOUTS_NAME))
"""What the model answered to the pool, and which of these answers are equal."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that training needs, made from questions without labels."""

    rollouts: Sequence[Rollout]
    """Of the pool; those of a run stay in their file."""
    votes: Mapping[str, Vote]
    neurons: tuple[NeuronSet, ...]
    """Of every question, empty where the settings ask for none."""
    selection: tuple[SelectionEntry, ...]
    library: DemonstrationPool
    contexts: tuple[TeacherContext, ...]
    examples: tuple[TrainingExample, ...]
    fitness: Fitness | None = None


@dataclass(frozen=True, slots=True)
class PreparedNames:
    """What the outputs are called that training is prepared with."""

    folder: str = ""
    """As in `prepare`."""
    neurons: str = "neurons"

    @property
    def read(self) -> tuple[str, ...]:
        """What the model answered, which answers are equal, and their neurons."""
        return (*ANSWERS, self.neurons)

    @property
    def all(self) -> tuple[str, ...]:
        """All of them, up to the teacher's contexts."""
        own = (inside(self.folder, name) for name in ("selection", "contexts"))
        return (*self.read, *own)


def prepare(
    run: RunContext,
    model: LanguageModel,
    pool: Sequence[Question],
    *,
    folder: str = "",
    neurons_name: str = "neurons",
) -> Prepared:
    """Run Algorithm 1 up to training: rollouts, neurons, selection, contexts.

    Args:
        run: Keeps everything.
        model: Answers.
        pool: The questions.
        folder: Where selection, contexts and the teacher's check go, below the run
            directory; empty for the run directory itself. Rollouts are shared.
        neurons_name: Of the neuron sets, shared by all that asks for the same.
    """
    made = PreparedNames(folder, neurons_name)
    rollouts = roll_out(run, model, pool)
    votes = vote(run, pool, rollouts, ROLLOUTS_NAME)
    chosen = representatives(outlines_of(rollouts), votes, run.config)
    own, unread = own_answers(chosen), unread_of(chosen)
    neurons = neurons_of(run, model, pool, Chosen(rollouts, chosen), neurons_name)
    selection = run.directory.once(
        inside(folder, "selection"),
        placed(SELECTION, folder),
        lambda: select_questions(
            neurons, run.config.selection, run.config.seed, own, unread
        ),
        made_from=made.read,
    )
    warn_of_selection(run, neurons, own, unread)
    answers = answers_to_show(run, model, pool, rollouts, votes)
    library = make_demonstration_pool(pool, answers, neurons, selection, run.config)
    contexts = run.directory.once(
        inside(folder, "contexts"),
        placed(CONTEXTS, folder),
        lambda: build_contexts(kept(neurons, selection), library, run.config),
        made_from=[*made.read, inside(folder, "selection")],
    )
    for text in search_remarks(contexts, library):
        run.directory.warn(text)
    examples = written_examples(run, model, contexts, library)
    prepared = Prepared(
        rollouts,
        votes,
        tuple(neurons),
        tuple(selection),
        library,
        tuple(contexts),
        examples,
    )
    return replace(prepared, fitness=check(run, model, prepared, own, made))


def written_examples(
    run: RunContext,
    model: LanguageModel,
    contexts: Sequence[TeacherContext],
    library: DemonstrationPool,
) -> tuple[TrainingExample, ...]:
    """Write out what student and teacher see; say which demonstrations do not fit."""
    with run.progress.stage("contexts", len(contexts), "questions") as done:
        examples = build_examples(
            model,
            contexts,
            library,
            run.config,
            constrained=run.constrained,
            on_done=done,
        )
    warn_of_dropped(run, examples)
    return examples


def neurons_of(
    run: RunContext,
    model: LanguageModel,
    pool: Sequence[Question],
    chosen: Chosen,
    name: str,
) -> Sequence[NeuronSet]:
    """Read off the neurons of the pool's answers, where the settings ask for them."""
    if not needs_neurons(run.config):
        return not_read([question.id for question in pool])
    return capture(run, model, pool, chosen, name, ANSWERS)


def inside(folder: str, name: str) -> str:
    """Return the name of something in a folder of the run directory."""
    return f"{folder}/{name}" if folder else name


def placed(codec: Codec[T], folder: str) -> Codec[T]:
    """Return a codec whose file lies in a folder of the run directory."""
    return codec.at(inside(folder, codec.file_name))


def representatives(
    rollouts: Iterable[R], votes: Mapping[str, Vote], config: Config
) -> dict[str, R]:
    """Return the rollout that stands for each question.

    It is the one a demonstration would show, and its neurons are the question's; the
    first one where none can be shown.
    """
    chosen: dict[str, R] = {}
    first: dict[str, R] = {}
    for rollout in rollouts:
        first.setdefault(rollout.question_id, rollout)
        if fits(rollout, votes, config.contexts):
            chosen.setdefault(rollout.question_id, rollout)
    return {**first, **chosen}


def own_answers(chosen: Mapping[str, RolloutFacts]) -> dict[str, str | None]:
    """Return the answer that stands for each question."""
    return {question_id: rollout.answer for question_id, rollout in chosen.items()}


def kept(
    neurons: Sequence[NeuronSet], selection: Sequence[SelectionEntry]
) -> list[NeuronSet]:
    """Return the neuron sets of the selected questions."""
    chosen = {entry.question_id for entry in selection if entry.kept}
    return [entry for entry in neurons if entry.question_id in chosen]


def make_demonstration_pool(
    pool: Sequence[Question],
    answers: Mapping[str, str],
    neurons: Sequence[NeuronSet],
    selection: Sequence[SelectionEntry],
    config: Config,
) -> DemonstrationPool:
    """Return the questions that may become demonstrations, by their answers."""
    source = neurons
    if config.contexts.source == "selected":
        source = kept(neurons, selection)
    return DemonstrationPool(
        questions={question.id: question for question in pool},
        answers=answers,
        neurons=tuple(entry for entry in source if entry.question_id in answers),
        excluded=duplicates_of(pool),
    )


def warn_of_dropped(run: RunContext, examples: Sequence[TrainingExample]) -> None:
    """Say how many demonstrations did not fit into the teacher's prompt."""
    dropped = sum(example.num_dropped for example in examples)
    if dropped:
        run.directory.warn(
            f"{dropped} demonstrations of "
            f"{sum(example.num_dropped > 0 for example in examples)} questions were "
            "left out because the teacher's prompt would have been too long; the "
            "farthest went first"
        )


def check(
    run: RunContext,
    model: LanguageModel,
    prepared: Prepared,
    own: Mapping[str, str | None],
    made: PreparedNames,
) -> Fitness | None:
    """Ask whether the teacher is fit to teach; warn or stop as the settings say.

    Args:
        run: Keeps what was found.
        model: Student and teacher, which still are one.
        prepared: What training will use.
        own: Question id to the model's own answer.
        made: What the finding is called, and what it is made from.

    Raises:
        TeacherError: If it is not and the settings say to stop, or if there is nothing
            to learn and they do not say to train all the same.
    """
    config = run.config
    if config.fitness.action == "off":
        return None
    questions = list(prepared.library.questions.values())
    found = pool_findings(questions, outlines_of(prepared.rollouts), config.fitness)
    found += one_answer_findings(prepared.votes, config.fitness)
    found += selection_findings(prepared.selection, own, config.fitness)
    fitness = None
    if config.contexts.num_demonstrations:
        name = inside(made.folder, "fitness")
        fitness = run.directory.once(
            name,
            placed(FITNESS, made.folder),
            lambda: noted(
                run, name, made.all, lambda: compare_teacher(run, model, prepared)
            ),
            made_from=made.all,
        )
        warn_as_kept(run, name, verdicts_name(name))
        found += fitness.findings
        if METHODS[config.method].learns_from_itself:
            refuse_one_answer(fitness, config.fitness)
    for finding in found:
        run.directory.warn(finding)
    if found and config.fitness.action == "stop":
        raise TeacherError(f"{found[0]} (fitness.action is stop)")
    return fitness


def compare_teacher(
    run: RunContext, model: LanguageModel, prepared: Prepared
) -> Fitness:
    """Compare student and teacher on the first of the selected questions."""
    config, library = run.config, prepared.library
    some = prepared.contexts[: config.fitness.num_questions]
    ids = {context.question_id for context in some}
    sets = [entry for entry in prepared.neurons if entry.question_id in ids]
    # Drawn apart from the contexts themselves, which may be random too.
    apart = config.model_copy(update={"seed": derive_seed(config.seed, "fitness")})
    random = build_contexts(sets, library, apart, rule="random")

    def prompts(shown: Sequence[TeacherContext]) -> list[Prompt]:
        questions = [library.questions[context.question_id] for context in shown]
        return [
            fitted_prompt(model, question, context, library, config)[0]
            for question, context in zip(questions, shown, strict=True)
        ]

    asked = ask(
        [library.questions[context.question_id] for context in some],
        config,
        constrained=run.constrained,
    )
    with run.progress.stage("teacher check", len(some), "questions") as done:
        fitness = check_teacher(
            model, asked, prompts(some), prompts(random), prepared.votes, config
        )
        done(len(some))
    return fitness
