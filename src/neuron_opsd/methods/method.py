"""What a method is: the settings it makes its own, and its objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from neuron_opsd.config import Config
from neuron_opsd.methods.preset import Preset
from neuron_opsd.stages.training import Objective


@dataclass(frozen=True, slots=True)
class Target:
    """What an oracle is told of a question."""

    answer: str
    """As the question's reader spells it."""
    written: str
    """As a model writes it: the letter of a choice where choices have letters."""


Targets: TypeAlias = Mapping[str, Target]
"""Question id to what an oracle is told; empty for all other methods."""

WHOLE_POOL: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "selection": MappingProxyType({"rule": "all"}),
        "contexts": MappingProxyType({"num_demonstrations": 0}),
    }
)
"""Settings of methods that train on every question and show no demonstrations."""

GROUPS: Final[Mapping[str, Any]] = MappingProxyType(
    {**WHOLE_POOL, "distill": MappingProxyType({"num_samples": 8})}
)
"""Settings of methods that also compare the rollouts of a question."""


TEMPERED: Final[Mapping[str, Any]] = MappingProxyType(
    {"distill": MappingProxyType({"temperature": 0.7})}
)
"""Defaults of methods that imitate samples of a frozen model, as LMSI draws them."""

WITHOUT_NEURONS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "selection": MappingProxyType({"rule": "random"}),
        "contexts": MappingProxyType({"rule": "words"}),
    }
)
"""How questions and demonstrations are found where the model has no neurons that can be
read, unless the user says how."""


@dataclass(frozen=True, slots=True)
class Method:
    """A way to train."""

    name: str
    summary: str
    """What it does, in a line."""
    acts_on: str
    """On which distribution its loss acts."""
    source: str
    """The paper it follows, or why it is here."""
    objective: Callable[[Config, Targets], Objective]
    preset: Preset
    """What its source trains with, taken with `preset = "source"`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What it needs to be that method, a table of tables. A user's settings win over
    it in a run; in a comparison it wins over what all methods share."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of its own besides; a user's settings always win over them."""
    notes: tuple[str, ...] = ()
    """Where it follows its source and where it does not, with the reason."""
    without_neurons: Mapping[str, Any] = field(default_factory=lambda: WITHOUT_NEURONS)
    """Its defaults where the model's neurons cannot be read; a method that is nothing
    without them has none and is refused."""
    kl_weight: float = 0.0
    """Weight of the divergence from the base where the settings name none."""
    oracle: bool = False
    """Whether it is told gold answers, which `run` never does."""
