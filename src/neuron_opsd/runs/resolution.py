"""The settings that a method trains with, from all who have a word in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from neuron_opsd.config import Config
from neuron_opsd.config.needs import reading_none, selects_by_neurons, shows_by_neurons
from neuron_opsd.config.tables import (
    Table,
    config_from_table,
    differences,
    flatten,
    flatten_table,
    merge,
    toml_value,
)
from neuron_opsd.errors import ConfigError
from neuron_opsd.method.contexts import CONTEXT_RULES
from neuron_opsd.method.selection import SELECTION_RULES
from neuron_opsd.methods import METHODS, method_named, method_of
from neuron_opsd.models.roles import ModelFacts

SOURCE: Final = "source"
"""The value of `preset` that takes what a method's source trains with."""

NOTHING: Final[Table] = {}


def settled(
    config: Config,
    own: Mapping[str, Any] = NOTHING,
    budget: Mapping[str, Any] = NOTHING,
) -> Config:
    """Return the settings that a method trains with.

    What comes later wins: the defaults, the method's own settings, `budget`, the preset
    of its source where that is asked for, what the user chose for all (in a file, then
    by flags), and `own`.

    Args:
        config: What the user chose for all, as far as its fields are set.
        own: What the user chose for one variant of a comparison.
        budget: What all methods of a comparison are given.
    """
    chosen = merge(config.model_dump(exclude_unset=True), own)
    asked = config_from_table(chosen)
    method = method_named(asked.method)
    below = merge(method.settings, budget)
    if asked.preset == SOURCE:
        below = merge(below, method.preset.table(asked))
    return config_from_table(merge(below, chosen))


def with_method(config: Config) -> Config:
    """Return the settings of a run with its method's own where the user named none.

    Raises:
        ConfigError: If there is no such method, it is an oracle, or the settings ask
            of it what it cannot do.
    """
    resolved = settled(config)
    method_of(resolved)  # refuses, for example, groups of one rollout
    return resolved


def for_model(
    config: Config, facts: ModelFacts, instead: Mapping[str, Any] | None = None
) -> Config:
    """Return the settings of a method for a model whose neurons may not be readable.

    Args:
        config: As `settled` returns it.
        facts: Of the model.
        instead: Settings for such a model where the user named none; the method's own
            when left out.

    Raises:
        ConfigError: If the settings ask for neurons all the same.
    """
    asked = asking(config)
    if not (facts.why_no_neurons and asked):
        return config
    own = METHODS[config.method].without_neurons if instead is None else instead
    taken = {section: own[section] for section in asked if section in own}
    chosen = config.model_dump(exclude_unset=True)
    resolved = config_from_table(merge(taken, chosen))
    if still := asking(resolved):
        rules = [f"{name}.rule is {getattr(resolved, name).rule}" for name in still]
        raise ConfigError(
            f"{config.method} asks for neurons ({', '.join(rules)}), but "
            f"{facts.why_no_neurons}; set "
            f"{' and '.join(ASKS[name][1] for name in still)}, or take a method that "
            "reads none, such as ttrl, or another model"
        )
    return resolved


ASKS: Final = {
    "selection": (
        selects_by_neurons,
        f"selection.rule to {reading_none(SELECTION_RULES)}",
    ),
    "contexts": (
        shows_by_neurons,
        f"contexts.rule to {reading_none(CONTEXT_RULES)} (or no demonstrations)",
    ),
}
"""Sections that may ask for neurons: whether they do, and what to set if not."""


def asking(config: Config) -> list[str]:
    """Return the sections that ask for neurons."""
    return [section for section, (asks, _) in ASKS.items() if asks(config)]


def replaced_text(config: Config, resolved: Config) -> str:
    """Say what `for_model` put in place of what reads neurons; empty for nothing."""
    changed = differences(config, resolved)
    if not changed:
        return ""
    taken = " and ".join(f"{name} = {toml_value(v)}" for name, v in changed.items())
    return (
        f"this model's neurons cannot be read, so {config.method} takes {taken}; set "
        "them yourself to choose otherwise"
    )


def method_remarks(config: Config, resolved: Config) -> list[str]:
    """Say what a user should know of the settings that a run's method trains with."""
    own, found = flatten_table(METHODS[config.method].settings), flatten(config)
    remarks = [
        f"{config.method} is itself with {name} = {toml_value(own[name])} alone, but "
        f"it is {toml_value(found[name])}: this trains another method"
        for name in METHODS[config.method].essential
        if found[name] != own[name]
    ]
    return [*remarks, *filter(None, [replaced_text(config, resolved)])]
