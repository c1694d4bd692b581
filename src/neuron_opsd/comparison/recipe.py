"""The methods of a recipe, as variants to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from neuron_opsd.comparison.variants import (
    NAME,
    NAME_TEXT,
    Variant,
    config_of,
    parse_variant,
)
from neuron_opsd.config import Config, tables
from neuron_opsd.config.recipes import Recipe
from neuron_opsd.errors import ConfigError
from neuron_opsd.methods import METHODS

DEFAULT_METHODS: Final = ("neuron-opsd", "lmsi", "ttrl", "intuitor")


def variants_of(recipe: Recipe, wanted: Sequence[str]) -> tuple[Variant, ...]:
    """Return the methods of these names, or all of a recipe's.

    Where a recipe has none of a name it is taken as written; without a recipe and names
    the methods are `DEFAULT_METHODS`.

    Raises:
        ConfigError: For the first method, wanted or not, that cannot be trained so.
    """
    shared = tables.config_from_table(recipe.settings)
    named: dict[str, Variant] = {}
    for name, table in recipe.methods.items():
        try:
            named[name] = variant_in(name, table, shared)
        except ConfigError as error:
            raise ConfigError(f"recipe {recipe.place}: {error}") from None
    names = [*map(str, wanted)] or [*named] or DEFAULT_METHODS
    return tuple(named.get(name) or parse_variant(name) for name in names)


def variant_in(name: str, table: Any, shared: Config) -> Variant:
    """Read one method of a recipe."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{tables.shortened(name)} cannot name a method; a name {NAME_TEXT}"
        )
    if not isinstance(table, Mapping):
        raise ConfigError(
            f"the method {name} is {tables.shortened(table)}, but it must be a table, "
            'such as {} or { method = "neuron-opsd" }'
        )
    own = dict(table)
    method, seeds = own.pop("method", name), own.pop("seeds", 0)
    if not isinstance(method, str) or method not in METHODS:
        raise ConfigError(
            f"the method of {name} is {tables.shortened(method)}; set method to one "
            f"of {', '.join(METHODS)}"
        )
    if type(seeds) is not int or seeds < 0:
        raise ConfigError(
            f"the seeds of {name} are {tables.shortened(seeds)}, but they must be a "
            "whole number: with how many of all it is trained; 0 means all"
        )
    variant = Variant(name, method, own, seeds)
    try:
        config_of(variant, shared)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    return variant
