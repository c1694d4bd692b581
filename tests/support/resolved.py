"""Settings as they are once they were resolved for a model."""

from __future__ import annotations

from neuron_opsd.config import Config


def sampled_among_choices(config: Config) -> Config:
    """Return settings under which answers are sampled among choices."""
    return in_mode(config, "constrained")


def written_freely(config: Config) -> Config:
    """Return settings under which all answers are written freely."""
    return in_mode(config, "free")


def in_mode(config: Config, mode: str) -> Config:
    """Return settings with a mode of rollouts."""
    rollouts = config.rollouts.model_copy(update={"mode": mode})
    return config.model_copy(update={"rollouts": rollouts})
