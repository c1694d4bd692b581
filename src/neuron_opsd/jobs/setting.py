"""What every job of a run shares."""

from __future__ import annotations

from dataclasses import dataclass

from neuron_opsd.config import Config
from neuron_opsd.errors import ConfigError
from neuron_opsd.models.protocol import LanguageModel
from neuron_opsd.progress import Progress
from neuron_opsd.prompts import resolve_prompts, student_prompt, teacher_prompt
from neuron_opsd.records import GoldAnswers, Message, Question
from neuron_opsd.stages.rollouts import is_constrained
from neuron_opsd.world.memory import peak_memory
from neuron_opsd.world.store import RunDir

PEAK = "peak_memory_bytes"
"""The fact of a manifest that says how much memory the run took."""

CARD = "README.md"
"""The model card's name in an adapter's folder; written after the adapter."""

ADAPTER_SETTINGS = "adapter_config.json"
"""What PEFT keeps of an adapter besides its weights, the base's name among it."""


@dataclass(frozen=True, slots=True)
class TestSet:
    """A test set under the name the user gave it."""

    __test__ = False  # pytest would take the name for a test class

    name: str
    questions: tuple[Question, ...]
    gold: GoldAnswers
    in_domain: bool


@dataclass(frozen=True, slots=True)
class Job:
    """A run directory with settings that are decided for a model."""

    run: RunDir
    config: Config
    """Its `prompts.form` and `prompts.list_choices` are resolved."""
    constrained: bool
    """Whether questions with choices are answered among these."""
    progress: Progress

    def count_tokens(self, stage: str, num_tokens: int) -> None:
        """Keep how many tokens a stage read and wrote."""
        if self.run.manifest.facts.get("tokens", {}).get(stage) != num_tokens:
            self.run.note("tokens", {stage: num_tokens})

    def note_peak_memory(self, device: str) -> None:
        """Keep the most memory held by the process that ended this run first."""
        if PEAK not in self.run.manifest.facts:
            self.run.note(PEAK, peak_memory(device))


PROBE = Question("probe", (Message("user", "Which one?"),))
"""Asked of a template to see how it begins an answer."""


def settle(config: Config, model: LanguageModel) -> tuple[Config, bool]:
    """Decide for a model what the settings leave open.

    Choices are never scored inside a block of reasoning that the template opens: the
    template's switch turns it off, else answers are written freely.

    Returns:
        The settings with the prompts resolved, and whether answers to questions with
        choices are sampled among these.

    Raises:
        ConfigError: If choices are to be sampled inside reasoning, or student and
            teacher do not begin alike.
    """
    constrained = is_constrained(config.rollouts, model.facts.num_parameters)
    found = with_prompts(config, model, constrained=constrained)
    if constrained and opens_reasoning(found, model):
        quiet = without_thinking(found)
        if not opens_reasoning(quiet, model):
            found = quiet
        elif config.rollouts.mode == "constrained":
            raise ConfigError(
                f"rollouts.mode is constrained, but the chat template of "
                f"{model.facts.name} begins every answer with reasoning, in which no "
                "choice can be scored; set rollouts.mode=free, prompts.form=plain, or "
                "leave prompts.student_thinking unset if the template has a switch"
            )
        else:
            constrained = False
            found = with_prompts(config, model, constrained=False)
    check_alike(found, model)
    return found, constrained


def with_prompts(config: Config, model: LanguageModel, *, constrained: bool) -> Config:
    """Return the settings with the prompts resolved."""
    prompts = resolve_prompts(
        config.prompts,
        has_chat_template=model.facts.has_chat_template,
        constrained=constrained,
    )
    return config.model_copy(update={"prompts": prompts})


def without_thinking(config: Config) -> Config:
    """Return the settings with the switches of reasoning off that were left open."""
    names = ("student_thinking", "teacher_thinking")
    off = {name: False for name in names if getattr(config.prompts, name) is None}
    prompts = config.prompts.model_copy(update=off)
    return config.model_copy(update={"prompts": prompts})


def opens_reasoning(config: Config, model: LanguageModel) -> bool:
    """Whether the student's prompts end inside a block of reasoning."""
    return model.opens_reasoning(model.encode(student_prompt(PROBE, config.prompts)))


def check_alike(config: Config, model: LanguageModel) -> None:
    """Refuse a teacher that reasons where the student does not, or the other way.

    Raises:
        ConfigError: If the template opens reasoning for one of them alone: the tokens
            that the student writes would mean another thing to the teacher.
    """
    teacher = model.encode(teacher_prompt(PROBE, (), config.prompts))
    if opens_reasoning(config, model) != model.opens_reasoning(teacher):
        prompts = config.prompts
        raise ConfigError(
            f"prompts.student_thinking is {prompts.student_thinking} and "
            f"prompts.teacher_thinking {prompts.teacher_thinking}, so the chat "
            "template opens reasoning for one of them alone, and the teacher would "
            "read the student's answer as thoughts; set both alike"
        )
