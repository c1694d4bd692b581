"""What settings ask of a model besides its answers."""

from __future__ import annotations

from neuron_opsd.config import Config


def selects_by_neurons(config: Config) -> bool:
    """Whether questions are selected by how many neurons were active."""
    return config.selection.rule not in ("random", "all")


def shows_by_neurons(config: Config) -> bool:
    """Whether demonstrations are those with the nearest neurons."""
    shows = config.contexts.num_demonstrations > 0
    return shows and config.contexts.rule not in ("words", "random")
