"""What a run's stages share, and settings resolved for a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias

from neuron_opsd.config import Config, RolloutsConfig
from neuron_opsd.errors import ConfigError
from neuron_opsd.models.roles import Capturer, ModelFacts, Tokenizer
from neuron_opsd.models.room import GB
from neuron_opsd.processes.memory import peak_memory
from neuron_opsd.progress import PassedOn, Progress
from neuron_opsd.prompts import resolve_prompts, student_prompt, teacher_prompt
from neuron_opsd.records import GoldAnswers, Message, Prompt, Question, TokenIds
from neuron_opsd.runs.machines import THIS_MACHINE, Machines
from neuron_opsd.runs.resolution import check_selection, for_choices
from neuron_opsd.stages.splitting import Split, Splits
from neuron_opsd.storage.caching import Workspace
from neuron_opsd.storage.manifest import MANIFEST, read_manifest
from neuron_opsd.storage.run_directory import RunDirectory

PEAK = "peak_memory_bytes"
"""Manifest fact: peak memory of the run."""
ROOM: Final = "tokens_per_batch"
"""Manifest fact: the lowered token limit of passes."""
SPLITS: Final = "splits"
"""Manifest fact: splits of each training's batches, by step."""

PLAIN_DECODING: Final = (
    "this model's attention cannot be followed, so free answers are made with "
    "transformers' own cache, which is slower"
)
OPEN_ANSWERS: Final = (
    "the chat template closes answers with no token of their own, so completions end "
    "where the model's settings say; if many are cut, set prompts.form=plain"
)

QUIET_ANSWERS: Final = (
    "the chat template's reasoning is turned off, since answers are sampled among "
    "choices; set rollouts.mode=free to let the model reason first"
)
NO_VOTES: Final = (
    "evaluation.num_samples is 1, and one answer to a question has no vote: "
    "calibration (ECE, Brier score, AUROC, over-confidence) and unanimity of tests are "
    "not measured; set it to 2 or more to measure them"
)
IDLE_ENGINE: Final = (
    "engine.rollouts is vllm, but answers to questions with choices are sampled among "
    "these, without vLLM; set rollouts.mode=free to have vLLM write them"
)
FREE_ANSWERS: Final = (
    "the chat template begins every answer with reasoning, {why}, so answers are "
    "written freely and not sampled among choices"
)
NO_SWITCH: Final = "and no switch for it was found"
ASKED_TO_REASON: Final = "as prompts.student_thinking asks for"

Mode: TypeAlias = Literal["free", "constrained"]


@dataclass(frozen=True, slots=True)
class TestSet:
    """A test set and its name."""

    __test__ = False  # pytest would take it for a test class

    name: str
    questions: tuple[Question, ...]
    gold: GoldAnswers
    in_domain: bool


@dataclass(frozen=True, slots=True)
class RunContext(PassedOn):
    """A run directory with settings resolved for a model."""

    directory: RunDirectory
    config: Config
    """As returned by `resolve`."""
    progress: Progress
    machines: Machines = THIS_MACHINE

    @property
    def work(self) -> Workspace:
        """Workspace for the steps of Algorithm 1."""
        return Workspace(self.config, self.directory, self, self.machines)

    def path(self, *parts: str) -> Path:
        """Return a path in the run directory."""
        return self.directory.path(*parts)

    def warn(self, text: str) -> None:
        """Record a warning in the run and pass it on."""
        self.directory.warn(text)

    def count_tokens(self, stage: str, num_tokens: int) -> None:
        """Record how many tokens a stage read and wrote."""
        if self.directory.manifest.facts.get("tokens", {}).get(stage) != num_tokens:
            self.directory.note("tokens", {stage: num_tokens})

    def note_peak_memory(self, device: str) -> None:
        """Record this process's peak memory, unless one is recorded."""
        if PEAK not in self.directory.manifest.facts:
            self.directory.note(PEAK, peak_memory(device))


PROBE = Question("probe", (Message("user", "Which one?"),))
"""Rendered to see how a template begins an answer."""


def resolve(
    config: Config,
    model: Tokenizer,
    begun: Iterable[Path] = (),
    *,
    chooses: bool = True,
) -> Config:
    """Resolve for a model what the settings leave open.

    No `auto` is left in `rollouts.mode`, `prompts.form` and `prompts.list_choices`.
    Choices are never scored where the model would reason: the template's switch turns
    reasoning off; without one, answers are written freely if the template opens a
    reasoning block. If no question `chooses`, a reasoning model keeps reasoning. A date
    fixed in `begun`, run directories that may exist, is kept.

    Raises:
        ConfigError: If choices would be sampled inside reasoning, student and teacher
            prompts begin differently, a text of the settings holds a control token, or
            the selection rule has nothing to compare.
    """
    begun = [folder for folder in begun if (folder / MANIFEST).is_file()]
    check_mode(config, model, begun, chooses=chooses)
    mode = mode_for(config.rollouts, model.facts)
    found = with_mode(config, model, mode)
    check_own_texts(model, found)
    constrained = mode == "constrained" and chooses
    if constrained:
        found = quietened(found, model)
    if constrained and opens_reasoning(found, model):
        if config.rollouts.mode == "constrained":
            raise ConfigError(
                f"rollouts.mode is constrained, but the chat template of "
                f"{model.facts.name} begins every answer with reasoning, in which no "
                "choice can be scored; set rollouts.mode=free, prompts.form=plain, or "
                "leave prompts.student_thinking unset if the template has a switch"
            )
        found = with_mode(config, model, "free")
    check_alike(found, model)
    check_selection(found)
    return with_date(found, model.facts, begun)


def resolve_method(
    config: Config,
    model: Tokenizer,
    pool: Iterable[Question],
    begun: Iterable[Path] = (),
    *,
    chooses: bool = True,
) -> Config:
    """Resolve settled settings for a model and the pool that it learns from.

    Raises:
        ConfigError: As `resolve` does.
    """
    found = resolve(config, model, begun, chooses=chooses)
    return for_choices(found) if have_choices(pool) else found


def have_choices(questions: Iterable[Question]) -> bool:
    """Say whether any question has choices."""
    return any(question.choices for question in questions)


def mode_for(config: RolloutsConfig, facts: ModelFacts) -> Mode:
    """Decide whether to sample among the choices."""
    if config.mode != "auto":
        return config.mode
    return "constrained" if facts.num_parameters < config.constrain_below else "free"


def check_mode(
    config: Config, model: Tokenizer, begun: Iterable[Path], *, chooses: bool
) -> None:
    """Refuse a mode unlike an earlier version's choice for `auto`."""
    mode = config.rollouts.mode
    for folder in begun if mode != "auto" else ():
        if read_manifest(folder).settings.get("rollouts.mode") != "auto":
            continue
        as_begun = config.changed(rollouts={"mode": "auto"})
        came_to = resolve(as_begun, model, chooses=chooses).rollouts.mode
        if mode != came_to:
            raise ConfigError(
                f"{folder} was started with rollouts.mode=auto, which is {came_to} for "
                f"this model, now it is {mode}; set it to auto, or choose another --out"
            )


def check_own_texts(model: Tokenizer, config: Config) -> None:
    """Refuse control tokens in texts from settings."""
    if config.prompts.form != "chat":
        return
    own = (
        ("system", Message("system", config.prompts.system)),
        ("instruction", Message("user", config.prompts.instruction)),
    )
    for name, message in own:
        if problem := model.refusal(Prompt(messages=(message,))):
            raise ConfigError(f"prompts.{name} is part of every prompt: {problem}")


def with_mode(config: Config, model: Tokenizer, mode: Mode) -> Config:
    """Return settings with this mode and resolved prompts."""
    prompts = resolve_prompts(
        config.prompts,
        has_chat_template=model.facts.has_chat_template,
        constrained=mode == "constrained",
    )
    found = config.model_copy(update={"prompts": prompts})
    return found.changed(rollouts={"mode": mode})


def quietened(config: Config, model: Tokenizer) -> Config:
    """Return settings with reasoning off, if the template has a switch.

    A model may open a reasoning block itself; a choice in its place has almost no
    probability.
    """
    names = ("student_thinking", "teacher_thinking")
    off = {name: False for name in names if getattr(config.prompts, name) is None}
    quiet = config.changed(prompts=off)
    same = beginnings(quiet, model) == beginnings(config, model)
    return config if same or opens_reasoning(quiet, model) else quiet


def beginnings(config: Config, model: Tokenizer) -> tuple[TokenIds, TokenIds]:
    """Return the encoded prompts of student and teacher."""
    student = student_prompt(PROBE, config.prompts)
    teacher = teacher_prompt(PROBE, (), config.prompts)
    return model.encode(student), model.encode(teacher)


def opens_reasoning(config: Config, model: Tokenizer) -> bool:
    """Whether student prompts end inside a reasoning block."""
    return model.opens_reasoning(beginnings(config, model)[0])


def check_alike(config: Config, model: Tokenizer) -> None:
    """Refuse settings where only one of student and teacher reasons.

    The student's tokens would mean something else to the teacher.
    """
    student, teacher = beginnings(config, model)
    if model.opens_reasoning(student) != model.opens_reasoning(teacher):
        prompts = config.prompts
        raise ConfigError(
            f"prompts.student_thinking is {prompts.student_thinking} and "
            f"prompts.teacher_thinking {prompts.teacher_thinking}, so the chat "
            "template opens reasoning for only one of them, and the teacher would read "
            "the student's answer as reasoning; set both alike"
        )


def with_date(config: Config, facts: ModelFacts, begun: Iterable[Path]) -> Config:
    """Return settings with a date if the chat template prints one.

    A run must always use the same tokens.
    """
    prompts = config.prompts
    if prompts.date or prompts.form != "chat" or not facts.prints_date:
        return config
    known = [read_manifest(folder).settings.get("prompts.date") for folder in begun]
    today = datetime.now().astimezone().date().isoformat()
    return config.changed(prompts={"date": next(filter(None, known), today)})


def remarks(facts: ModelFacts, config: Config, given: Config) -> tuple[str, ...]:
    """Return remarks on how a model is run."""
    thinking = config.prompts.student_thinking
    found = [] if facts.shares_prompts else [PLAIN_DECODING]
    if config.prompts.form == "chat" and not facts.closes_answers:
        found.append(OPEN_ANSWERS)
    if given.prompts.student_thinking is None and thinking is False:
        found.append(QUIET_ANSWERS)
    if config.rollouts.mode != mode_for(given.rollouts, facts):
        why = ASKED_TO_REASON if thinking else NO_SWITCH
        found.append(FREE_ANSWERS.format(why=why))
    if config.engine.rollouts == "vllm" and config.rollouts.mode == "constrained":
        found.append(IDLE_ENGINE)
    if config.evaluation.num_samples == 1:
        found.append(NO_VOTES)
    return tuple(found)


def keep_room(run: RunContext, model: Capturer) -> None:
    """Restore this run's token limit, and record new ones."""
    usual = run.config.model.tokens_per_batch
    model.room.memory = round(run.config.engine.decoding_memory * GB)
    model.room.tokens = min(usual, run.directory.manifest.facts.get(ROOM, usual))

    def keep(text: str) -> None:
        if model.room.tokens < run.directory.manifest.facts.get(ROOM, usual):
            run.directory.note(ROOM, model.room.tokens)
        run.warn(text)

    model.room.told = keep


def splits_of(run: RunContext, name: str) -> Splits:
    """Return a training's batch splits so far, and record new ones."""
    rows = run.directory.manifest.facts.get(SPLITS, {}).get(name, [])
    known = [Split(**row) for row in rows]
    for split in known[1:]:
        run.warn(split_text(split))

    def keep(splits: Sequence[Split], said: str) -> None:
        run.directory.note(SPLITS, {name: [asdict(split) for split in splits]})
        if said:
            run.warn(split_text(splits[-1]))

    return Splits(known, keep)


def split_text(split: Split) -> str:
    """Say how batches are split, and since which step."""
    return (
        f"step {split.step}: memory ran out; from here on training passes hold at most "
        f"{split.micro_batch_size} completions and others {split.tokens} tokens, which "
        "changes gradients only by rounding; a run that resumes does the same"
    )
