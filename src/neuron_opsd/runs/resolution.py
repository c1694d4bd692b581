"""The settings of a run by its method: the method's own where the user named none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from neuron_opsd.config import Config
from neuron_opsd.config.needs import needs_neurons, selects_by_neurons, shows_by_neurons
from neuron_opsd.config.tables import (
    Table,
    config_from_table,
    differences,
    merge,
    toml_value,
)
from neuron_opsd.errors import ConfigError
from neuron_opsd.methods import METHODS, Method, method_named
from neuron_opsd.models.roles import ModelFacts

SOURCE: Final = "source"
"""The value of `preset` that takes what a method's source trains with."""


def with_method(config: Config) -> Config:
    """Return the settings with the method's own where the user named none.

    Raises:
        ConfigError: If there is no such method, it is an oracle, or the settings ask
            of it what it cannot do.
    """
    method = method_named(config.method)
    if method.oracle:
        raise ConfigError(
            f"{method.name} learns from gold answers, which a run never reads; "
            "`neuron-opsd compare --oracle` shows it beside the others"
        )
    chosen = config.model_dump(exclude_unset=True)
    resolved = config_from_table(merge(own_settings(method, config), chosen))
    method.objective(resolved, {})  # refuses, for example, groups of one rollout
    return resolved


def own_settings(method: Method, config: Config) -> Table:
    """Return the settings of a method where the user named none.

    Args:
        method: Whose.
        config: Says whether they are those of its source.
    """
    own = merge(method.defaults, method.settings)
    if config.preset != SOURCE:
        return own
    return merge(own, method.preset.table(config))


def for_model(
    config: Config, facts: ModelFacts, instead: Mapping[str, Any] | None = None
) -> Config:
    """Return the settings of a method for a model whose neurons may not be readable.

    Args:
        config: As `with_method` returns it.
        facts: Of the model.
        instead: Settings for such a model where the user named none; the method's own
            when left out.

    Raises:
        ConfigError: If the settings ask for neurons all the same.
    """
    if not (facts.why_no_neurons and needs_neurons(config)):
        return config
    own = METHODS[config.method].without_neurons if instead is None else instead
    reads = {
        "selection": selects_by_neurons(config),
        "contexts": shows_by_neurons(config),
    }
    taken = {section: table for section, table in own.items() if reads[section]}
    chosen = config.model_dump(exclude_unset=True)
    resolved = config_from_table(merge(taken, chosen))
    if needs_neurons(resolved):
        raise ConfigError(
            f"{config.method} asks for neurons ({asking(resolved)}), but "
            f"{facts.why_no_neurons}; set {readable(resolved)}, or take a method that "
            "reads none, such as ttrl, or another model"
        )
    return resolved


def asking(config: Config) -> str:
    """Say which settings ask for neurons."""
    found = []
    if selects_by_neurons(config):
        found.append(f"selection.rule is {config.selection.rule}")
    if shows_by_neurons(config):
        found.append(f"contexts.rule is {config.contexts.rule}")
    return ", ".join(found)


def readable(config: Config) -> str:
    """Say what to set so that nothing asks for neurons."""
    found = []
    if selects_by_neurons(config):
        found.append("selection.rule to random or all")
    if shows_by_neurons(config):
        found.append("contexts.rule to words or random (or no demonstrations)")
    return " and ".join(found)


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
