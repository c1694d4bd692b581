"""What settings ask of a model besides its answers."""

from __future__ import annotations

from collections.abc import Mapping

from neuron_opsd.config import Config
from neuron_opsd.method.contexts import CONTEXT_RULES, ContextRule
from neuron_opsd.method.selection import SELECTION_RULES, SelectionRule


def selects_by_neurons(config: Config) -> bool:
    """Whether questions are selected by their neurons."""
    return SELECTION_RULES[config.selection.rule].reads_neurons


def shows_by_neurons(config: Config) -> bool:
    """Whether demonstrations are those with the nearest neurons."""
    shows = config.contexts.num_demonstrations > 0
    return shows and CONTEXT_RULES[config.contexts.rule].reads_neurons


def reading_none(rules: Mapping[str, ContextRule | SelectionRule]) -> str:
    """Name the rules that read no neurons."""
    return " or ".join(n for n, rule in rules.items() if not rule.reads_neurons)
