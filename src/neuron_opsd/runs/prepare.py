"""Algorithm 1 in a run directory, and the teacher check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from neuron_opsd.beliefs import TAUGHT, belief_names
from neuron_opsd.config import NeuronsConfig
from neuron_opsd.errors import TeacherError
from neuron_opsd.known import MEDOIDS_NAME, QUESTION_NEURONS, names_read
from neuron_opsd.methods import METHODS, needs_contexts, needs_medoids, needs_neurons
from neuron_opsd.models.roles import Answerer, LanguageModel, Tokenizer
from neuron_opsd.pipeline import ANSWERS, ROLLOUTS_NAME, Prepared, prepare
from neuron_opsd.records import (
    NeuronSet,
    Prompt,
    Question,
    Rollout,
    RolloutSummary,
    TeacherCheck,
    TeacherContext,
)
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.model_checks import CHUNK
from neuron_opsd.runs.verdicts import noted, warn_as_kept
from neuron_opsd.seeds import derive_seed
from neuron_opsd.stages.beliefs import DRAWS
from neuron_opsd.stages.rollouts import PromptedQuestion, ask
from neuron_opsd.stages.teacher_check import (
    check_teacher,
    one_answer_findings,
    pool_findings,
    refuse_one_answer,
    selection_findings,
)
from neuron_opsd.stages.teaching import build_contexts, fitted_prompt, own_answers
from neuron_opsd.storage.caching import InChunks, Task, Workspace
from neuron_opsd.storage.codecs import MEDOIDS, TEACHER_CHECK, Codec
from neuron_opsd.storage.manifest import kept_name
from neuron_opsd.storage.run_directory import RunDirectory
from neuron_opsd.storage.stored_rollouts import summaries_of
from neuron_opsd.storage.verdicts import verdicts_name

T = TypeVar("T")
R = TypeVar("R")
Item = TypeVar("Item")

MADE = (*ANSWERS, "neurons", "selection", "contexts")
"""Outputs of `prepare` for a pool."""
OWN = ("selection", "contexts", "teacher_check")
"""Outputs that methods never share."""


@dataclass(frozen=True, slots=True)
class PoolOutputs:
    """Names of a pool's outputs in a run directory."""

    folder: str = ""
    """Folder of selection, contexts and teacher check; empty for the run's."""
    neurons: str = "neurons"
    """Name of the neuron sets, shared by equal settings."""
    changed: str = ""
    """Suffix of other neuron outputs with unshared settings."""
    taught: str = ""
    """Suffix of the teacher's views, shared by equal contexts."""

    @property
    def all(self) -> list[str]:
        """All outputs up to the teacher's contexts."""
        return self.of(MADE)

    def of(self, names: Sequence[str]) -> list[str]:
        """Return the output names for names in `prepare`."""
        own = {name: inside(self.folder, name) for name in OWN}
        own |= {n: f"{n}{self.changed}" for n in (QUESTION_NEURONS, MEDOIDS_NAME)}
        own["neurons"] = self.neurons
        own |= {name: f"{name}{self.taught}" for name in TAUGHT}
        return [own.get(name, name) for name in names]


@dataclass(frozen=True, slots=True)
class PoolCache:
    """A run directory as the cache of `prepare`."""

    directory: RunDirectory
    outputs: PoolOutputs

    def once(
        self,
        name: str,
        codec: Codec[T],
        compute: Callable[[], T],
        *,
        made_from: Sequence[str] = (),
    ) -> T:
        """Return an output kept as a whole."""
        own, *sources = self.outputs.of([name, *made_from])
        return self.directory.once(own, codec.named(own), compute, made_from=sources)

    def chunks(
        self,
        name: str,
        codec: Codec[Sequence[R]],
        items: InChunks[Item],
        task: Task[Any, Item, R],
        *,
        made_from: Sequence[str] = (),
    ) -> Sequence[R]:
        """Return an output kept by chunk."""
        own, *sources = self.outputs.of([name, *made_from])
        placed = codec.named(own)
        return self.directory.chunks(own, placed, items, task, made_from=sources)


RUN_OUTPUTS: Final = PoolOutputs()


def prepare_run(
    run: RunContext,
    model: LanguageModel,
    pool: Sequence[Question],
    outputs: PoolOutputs = RUN_OUTPUTS,
) -> Prepared:
    """Run Algorithm 1 up to training in a run directory, and check the teacher.

    Raises:
        TeacherError: If the teacher has nothing to teach.
    """
    cache = PoolCache(run.directory, outputs)
    work = Workspace(run.config, cache, run, run.machines)
    prepared = prepare(work, model, pool)
    count_pool_tokens(run, model, prepared, outputs)
    for name in outputs.of(belief_names(run.config, pool)):
        run.count_tokens(name, prepared.taught_tokens)
    teacher_check = check(run, model, prepared, cache)
    # No longer needed, and large for big pools.
    return replace(prepared, representatives={}, teacher_check=teacher_check)


def count_pool_tokens(
    run: RunContext, model: Tokenizer, prepared: Prepared, outputs: PoolOutputs
) -> None:
    """Count the tokens of answering and capturing a pool."""
    asked = ask(list(prepared.library.questions.values()), run.config)
    prompts = prompt_tokens(model, asked)
    run.count_tokens(ROLLOUTS_NAME, prompts + written_tokens(prepared.rollouts))
    if needs_neurons(run.config):
        chosen, config = prepared.representatives, run.config.neurons
        read = tokens_read(prepared.known.neurons, chosen, config)
        run.count_tokens(outputs.neurons, prompts + read)
    for name in outputs.of(names_read(run.config)):
        run.count_tokens(name, prompts)
    if needs_medoids(run.config):
        (name,) = outputs.of([MEDOIDS_NAME])
        medoids = MEDOIDS.load(run.path(f"{name}.json"))
        run.count_tokens(name, sum(one.num_read for one in medoids))


def prompt_tokens(model: Tokenizer, asked: Sequence[PromptedQuestion]) -> int:
    """Count prompt tokens, encoding in batches."""
    return sum(
        len(ids)
        for some in InChunks(asked, CHUNK)
        for ids in model.encode_all([a.prompt for a in some])
    )


def written_tokens(rollouts: Sequence[Rollout]) -> int:
    """Count completion tokens."""
    return sum(rollout.num_tokens for rollout in summaries_of(rollouts))


def tokens_read(
    neurons: Sequence[NeuronSet],
    chosen: Mapping[str, RolloutSummary],
    config: NeuronsConfig,
) -> int:
    """Count the completion tokens that passes read.

    For span `answer` these are all, whatever `neurons.first_tokens` leaves out.
    """
    if config.span == "answer":
        return sum(chosen[entry.question_id].num_tokens for entry in neurons)
    return sum(entry.num_tokens for entry in neurons)


def inside(folder: str, name: str) -> str:
    """Return a name inside a folder of the run directory."""
    return f"{folder}/{name}" if folder else name


def check(
    run: RunContext, model: Answerer, prepared: Prepared, cache: PoolCache
) -> TeacherCheck | None:
    """Check the teacher; warn or stop as the settings say.

    Raises:
        TeacherError: If settings stop at a finding, or there is nothing to learn.
    """
    config = run.config
    if config.teacher_check.action == "off":
        return None
    questions = list(prepared.library.questions.values())
    found = pool_findings(
        questions, summaries_of(prepared.rollouts), config.teacher_check
    )
    found += one_answer_findings(prepared.votes, config.teacher_check)
    own = own_answers(prepared.representatives)
    found += selection_findings(prepared.selection, own, config.teacher_check)
    teacher_check = None
    if needs_contexts(config):
        own_name, *made_from = cache.outputs.of(["teacher_check", *MADE])
        name = kept_name(own_name, run.directory.manifest.outputs)
        teacher_check = run.directory.once(
            name,
            TEACHER_CHECK.named(name),
            lambda: noted(
                run, name, made_from, lambda: compare_teacher(run, model, prepared)
            ),
            made_from=made_from,
        )
        warn_as_kept(run, name, verdicts_name(name))
        found += teacher_check.findings
        if METHODS[config.method].learns_from_itself:
            refuse_one_answer(teacher_check, config.teacher_check)
    for finding in found:
        run.warn(finding)
    if found and config.teacher_check.action == "stop":
        raise TeacherError(f"{found[0]} (teacher_check.action is stop)")
    return teacher_check


def compare_teacher(
    run: RunContext, model: Answerer, prepared: Prepared
) -> TeacherCheck:
    """Compare student and teacher on the first selected questions."""
    config, library = run.config, prepared.library
    some = prepared.contexts[: config.teacher_check.num_questions]
    ids = {context.question_id for context in some}
    # Independent of the contexts' draws, which may be random too.
    apart = config.model_copy(update={"seed": derive_seed(config.seed, DRAWS)})
    random = build_contexts(prepared.known.of(ids), library, apart, rule="random")

    def prompts(shown: Sequence[TeacherContext]) -> list[Prompt]:
        questions = [library.questions[context.question_id] for context in shown]
        return [
            fitted_prompt(model, question, context, library, config)[0]
            for question, context in zip(questions, shown, strict=True)
        ]

    asked = ask([library.questions[context.question_id] for context in some], config)
    with run.progress.stage("teacher check", len(some), "questions") as done:
        teacher_check = check_teacher(
            run.work.employed(model),
            asked,
            prompts(some),
            prompts(random),
            prepared.votes,
            config,
        )
        done(len(some))
    return teacher_check
