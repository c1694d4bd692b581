"""The settings of methods that reward rollouts; `config` holds them with all others."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from neuron_opsd.section import NotNegative, Section


class PolicyConfig(Section):
    """How methods that reward rollouts learn: TTRL, Intuitor, RENT, EMPO and others."""

    num_votes: NotNegative = 0
    """Rollouts per question and step that vote, of which `distill.num_samples` are
    trained on; 0 means that no others vote."""
    scale_rewards: bool = True
    """Whether a group's rewards, less their mean, are divided by their deviation."""
    clip_low: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    """How far below 1 the ratio of new to old probability still counts."""
    clip_high: Annotated[float, Field(ge=0.0)] = 0.2
    """How far above 1 it still counts."""
    kl_weight: Annotated[float, Field(ge=0.0)] | None = None
    """Weight of the divergence from the model where training began; unset takes the
    method's own, 0 for most."""
