"""Recipes of comparisons: methods with their settings, and what all share.

Pools and tests are not part of a recipe, so it applies to anybody's questions:

    seeds = 3

    [settings.distill]
    steps = 40

    [methods]
    lmsi = {}
    by-words = { method = "neuron-opsd", contexts = { rule = "words" } }

Methods are not resolved here; `comparison.variants` does that.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from neuron_opsd.config import tables
from neuron_opsd.errors import ConfigError

CHOICES: Final[Mapping[str, tuple[type, str]]] = {
    "seeds": (int, "a whole number"),
    "warm_start": (str, '"no", "form" or "both"'),
    "at": (list, "a list of whole numbers"),
    "oracle": (bool, "true or false"),
}
"""Further entries of a recipe, with their types."""
PARTS: Final = ("settings", "methods", *CHOICES)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a file says of a comparison."""

    place: str = ""
    """Its file; empty without one."""
    settings: tables.Table = field(default_factory=dict)
    """For all methods; overridden by a settings file, then flags."""
    methods: Mapping[str, Any] = field(default_factory=dict)
    """Name to the method's own settings."""
    choices: Mapping[str, Any] = field(default_factory=dict)
    """How methods are compared, keyed as `CHOICES`."""


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe, and check its settings and entries.

    Raises:
        ConfigError: If the file cannot be read, or for the first wrong entry.
    """
    table = tables.toml_table(Path(path), "recipe")
    for name, value in table.items():
        check_part(str(path), name, value)
    if not table.get("methods"):
        raise ConfigError(
            f"recipe {path} names no method; give it a table [methods] with entries "
            'such as lmsi = {} or mine = { method = "neuron-opsd" }'
        )
    settings = table.get("settings", {})
    try:
        tables.config_from_table(settings)
    except ConfigError as error:
        raise ConfigError(f"recipe {path}: {error}") from None
    choices = {name: table[name] for name in CHOICES if name in table}
    return Recipe(str(path), settings, table["methods"], choices)


def check_part(place: str, name: str, value: Any) -> None:
    """Refuse unknown entries and values of another type."""
    if name not in PARTS:
        near = difflib.get_close_matches(name, PARTS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(PARTS)}"
        raise ConfigError(f"recipe {place} has no entry {name}; {hint}")
    kind, said = CHOICES.get(name, (dict, "a table"))
    # isinstance would accept a Boolean as a whole number.
    if type(value) is not kind:
        given = tables.shortened(value)
        raise ConfigError(f"recipe {place}: {name} is {given}, but it must be {said}")
