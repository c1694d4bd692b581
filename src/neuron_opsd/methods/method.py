"""What a method is: its needs, its examples, rollouts and loss, and its settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeAlias

from torch import Tensor

from neuron_opsd.config import Config
from neuron_opsd.config.tables import Table, merge
from neuron_opsd.models.roles import Learner
from neuron_opsd.stages.training import Batch, Examples, RolloutGroups, Sequences
from neuron_opsd.stages.training_rollouts import check_votes, num_voting

Settings: TypeAlias = Mapping[str, Mapping[str, Any]]
"""A table of tables: section to field to value."""


def sections(below: Settings | None = None, /, **own: Mapping[str, Any]) -> Settings:
    """Return settings by section, those of `own` over others."""
    return MappingProxyType(merge(below or {}, own))


WHOLE_POOL: Final = sections(
    selection={"rule": "all"}, contexts={"num_demonstrations": 0}
)
"""Settings of methods that train on every question and show no demonstrations."""

GROUPS: Final = sections(WHOLE_POOL, distill={"num_samples": 8})
"""Settings of methods that also compare the rollouts of a question."""

WITHOUT_NEURONS: Final = sections(
    selection={"rule": "random"}, contexts={"rule": "words"}
)
"""How questions and demonstrations are found where the model has no neurons that can be
read, unless the user says how."""

SHORT_ANSWERS: Final = sections(
    selection={"rule": "all"}, contexts={"num_demonstrations": 4, "answer": "greedy"}
)
"""The recipe for answers chosen among choices, where a fifth by neurons can collapse.
Source: docs/results.md, "When neurons earn their place"."""

LORA_FACTOR: Final = 10.0
"""How many times the rate of full tuning suits an adapter. Source: Schulman and
Thinking Machines Lab, "LoRA Without Regret", 2025."""


@dataclass(frozen=True, slots=True)
class Preset:
    """What a method's paper or code trains with, taken with `preset = "paper"`."""

    full_rate: float
    """Learning rate where all weights are trained."""
    said: Mapping[str, str]
    """What the source has, by what it is about: learning rate, schedule, sampling,
    samples, votes, steps, questions and divergence."""
    warmup_share: float | None = None
    """Share of the steps over which the rate rises; `None` leaves the default."""
    settings: Settings = field(default_factory=dict)
    """All others."""

    @property
    def lora_rate(self) -> float:
        """Learning rate of an adapter."""
        return float(f"{LORA_FACTOR * self.full_rate:.6g}")

    def table(self, config: Config) -> Table:
        """Return the preset as settings."""
        full = config.distill.tuning == "full"
        own: Table = {"learning_rate": self.full_rate if full else self.lora_rate}
        if self.warmup_share is not None:
            own["warmup_steps"] = round(self.warmup_share * config.distill.steps)
        return merge(self.settings, {"distill": own})


@dataclass(frozen=True, slots=True)
class PoolAnswers:
    """The model's own answers to the pool, from which examples may be made."""

    texts: Callable[[], Mapping[str, str]]
    """Reads the whole answers that demonstrations would show, by question id."""
    excluded: Mapping[str, frozenset[str]]
    """For a question's id those of the same text, whose answers it may not be given."""


class Method(ABC):
    """A way to train; an instance is one with its settings, and an `Objective`.

    A subclass is one method, listed at the end of its family's module. The first line
    of its docstring is its summary.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    """What it does, in a line, as the end of a sentence."""
    acts_on: ClassVar[str]
    """On which distribution its loss acts."""
    source: ClassVar[str]
    """The paper it follows, or why it is here."""
    notes: ClassVar[tuple[str, ...]] = ()
    """Where it follows its source and where it does not, with the reason."""
    preset: ClassVar[Preset]
    settings: ClassVar[Settings] = {}
    """Its own settings; a preset wins over them, and the user over both."""
    short_answers: ClassVar[Settings] = {}
    """What it takes besides where answers are chosen among choices; its own settings
    win."""
    essential: ClassVar[tuple[str, ...]] = ()
    """Dotted names of those of its settings without which it is another method."""
    without_neurons: ClassVar[Settings] = WITHOUT_NEURONS
    """Its settings where the model's neurons cannot be read; a method that is nothing
    without them has none and is refused."""
    kl_weight: ClassVar[float] = 0.0
    """Weight of the divergence from the base where the settings name none."""
    votes: ClassVar[bool] = False
    """Whether the rollouts of a question vote, also some that are not trained on."""
    reads_contexts: ClassVar[bool] = False
    """Whether it trains towards what is said after the demonstrations."""
    learns_from_itself: ClassVar[bool] = True
    """Whether it has nothing but the model's own answers to learn from."""

    def __init_subclass__(cls) -> None:
        """Take the summary from the docstring, unless the class has one."""
        if cls.__doc__ and "summary" not in vars(cls):
            first = cls.__doc__.partition("\n")[0].removesuffix(".")
            word = first.partition(" ")[0]
            cls.summary = (word if word.isupper() else word.lower()) + first[
                len(word) :
            ]

    def __init__(self, config: Config) -> None:
        """Take the settings."""
        self.check(config)
        self.config = config

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse settings that the method cannot be trained with.

        Raises:
            ConfigError: Naming them.
        """
        if cls.votes:
            check_votes(config)

    @classmethod
    def needs_contexts(cls, config: Config) -> bool:
        """Say whether training takes demonstrations."""
        return cls.reads_contexts and config.contexts.num_demonstrations > 0

    @classmethod
    def needs_neurons(cls, config: Config) -> bool:
        """Say whether training takes the neurons of the pool's answers."""
        teaches = cls.needs_contexts(config) or config.selection_rule.reads_teacher
        return config.selects_by_neurons or (teaches and config.shows_by_neurons)

    @classmethod
    def num_drawn(cls, config: Config) -> int:
        """Return how many rollouts of a question a step draws."""
        return num_voting(config) if cls.votes else config.distill.num_samples

    def examples(self, shown: Examples, answers: PoolAnswers) -> Examples:
        """Return what is trained on."""
        del answers
        return shown

    @abstractmethod
    def roll_out(self, learner: Learner, batch: Batch) -> RolloutGroups:
        """Return what a step makes of a batch, a group for each example."""

    @abstractmethod
    def loss(self, learner: Learner, sequences: Sequences) -> Tensor:
        """Return the loss, summed over all completion tokens, repeats counted."""


@dataclass(frozen=True, slots=True)
class Target:
    """What an oracle is given of a question."""

    answer: str
    """As the question's reader spells it."""
    written: str
    """As a model writes it: the letter of a choice where choices have letters."""


Targets: TypeAlias = Mapping[str, Target]
"""Question id to what an oracle is given."""


class Oracle(Method):
    """An upper bound that is given gold answers, which `run` never does."""

    learns_from_itself = False

    def __init__(self, config: Config, targets: Targets) -> None:
        """Take the settings, and what it is given of each question."""
        super().__init__(config)
        self.targets = targets
