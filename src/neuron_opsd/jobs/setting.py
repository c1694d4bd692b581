"""What every job of a run shares."""

from __future__ import annotations

from dataclasses import dataclass

from neuron_opsd.config import Config
from neuron_opsd.models.protocol import ModelFacts
from neuron_opsd.progress import Progress
from neuron_opsd.prompts import resolve_prompts
from neuron_opsd.records import GoldAnswers, Question
from neuron_opsd.stages.rollouts import is_constrained
from neuron_opsd.world.memory import peak_memory
from neuron_opsd.world.store import RunDir

PEAK = "peak_memory_bytes"
"""The fact of a manifest that says how much memory the run took."""

CARD = "README.md"
"""The model card's name in an adapter's folder; written after the adapter."""


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


def settle(config: Config, facts: ModelFacts) -> tuple[Config, bool]:
    """Decide for a model what the settings leave open.

    Returns:
        The settings with the prompts resolved, and whether answers to questions with
        choices are sampled among these.
    """
    constrained = is_constrained(config.rollouts, facts.num_parameters)
    prompts = resolve_prompts(
        config.prompts,
        has_chat_template=facts.has_chat_template,
        constrained=constrained,
    )
    return config.model_copy(update={"prompts": prompts}), constrained
