"""What a method's source trains with, as settings: `--preset source`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from neuron_opsd.config import Config
from neuron_opsd.config.tables import Table, merge

LORA_FACTOR: Final = 10.0
"""How many times the rate of full tuning suits an adapter. Source: Schulman and
Thinking Machines Lab, "LoRA Without Regret", 2025."""


@dataclass(frozen=True, slots=True)
class Preset:
    """The settings of a method's source, and in words what the source says."""

    full_rate: float
    """Learning rate where all weights are trained."""
    lora_rate: float
    """The same for an adapter."""
    warmup_share: float | None = None
    """Share of the steps over which the rate rises; `None` leaves the default."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All others, a table of tables."""
    said: Mapping[str, str] = field(default_factory=dict)
    """What the source has, by what it is about: learning rate, schedule, sampling,
    samples, votes, steps, questions and divergence."""

    def table(self, config: Config) -> Table:
        """Return the preset as settings.

        Args:
            config: Says what is trained and for how many steps.
        """
        full = config.distill.tuning == "full"
        own: Table = {"learning_rate": self.full_rate if full else self.lora_rate}
        if self.warmup_share is not None:
            own["warmup_steps"] = round(self.warmup_share * config.distill.steps)
        return merge(self.settings, {"distill": own})


def preset(full_rate: float, said: Mapping[str, str], **others: Any) -> Preset:
    """Return the preset of a source that trains all weights."""
    lora_rate = float(f"{LORA_FACTOR * full_rate:.6g}")
    return Preset(full_rate, lora_rate, said=said, **others)
