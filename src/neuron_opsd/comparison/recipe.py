"""A comparison written down: methods with their settings, and what all share.

Pools and tests are no part of it, so that one recipe compares on anybody's questions:

    seeds = 3

    [settings.distill]
    steps = 40

    [methods]
    lmsi = {}
    by-words = { method = "neuron-opsd", contexts = { rule = "words" } }
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from neuron_opsd.comparison.variants import NAME, Variant, config_of
from neuron_opsd.config import tables
from neuron_opsd.errors import ConfigError
from neuron_opsd.methods import METHODS

CHOICES: Final[Mapping[str, tuple[type, str]]] = {
    "seeds": (int, "a whole number"),
    "warm_start": (str, '"no", "form" or "both"'),
    "at": (list, "a list of whole numbers"),
    "oracle": (bool, "true or false"),
}
"""What a recipe may say of how methods are compared, and what each takes."""
UNSAID: Final = (None, False, ())
PARTS: Final = ("settings", "methods", *CHOICES)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a file says of a comparison."""

    settings: tables.Table = field(default_factory=dict)
    """Of all methods; a settings file, and then flags, win over them."""
    variants: tuple[Variant, ...] = ()
    choices: Mapping[str, Any] = field(default_factory=dict)
    """How methods are compared, by the names of `CHOICES`."""

    def chosen(
        self, methods: Sequence[str], flags: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return how methods are compared, and which: what the user says wins.

        Methods are the recipe's of these names, or all of them; others are taken as
        written. Flags that say nothing are `None`, false or empty.
        """
        named = {variant.name: variant for variant in self.variants}
        wanted = [named.get(one, one) for one in methods] or [*self.variants]
        given = {name: value for name, value in flags.items() if value not in UNSAID}
        return {**self.choices, **given, "methods": wanted}


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe and check all that can be known without a model.

    Raises:
        ConfigError: If the file cannot be read, or for the first entry that is wrong.
    """
    table = tables.toml_table(Path(path), "recipe")
    check_parts(path, table)
    try:
        settings = table.get("settings", {})
        shared = tables.config_from_table(settings)
        variants = tuple(variants_in(table.get("methods", {})))
    except ConfigError as error:
        raise ConfigError(f"recipe {path}: {error}") from None
    if not variants:
        raise ConfigError(
            f"recipe {path} names no method; give it a table [methods] with entries "
            'such as lmsi = {} or mine = { method = "neuron-opsd" }'
        )
    for variant in variants:
        try:
            config_of(variant, shared)
        except ConfigError as error:
            raise ConfigError(f"recipe {path}, {variant.name}: {error}") from None
    choices = {name: table[name] for name in CHOICES if name in table}
    return Recipe(settings, variants, choices)


def check_parts(path: str | Path, table: Mapping[str, Any]) -> None:
    """Refuse entries that no recipe has, and values of another kind."""
    for name, value in table.items():
        if name not in PARTS:
            near = difflib.get_close_matches(name, PARTS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(PARTS)}"
            raise ConfigError(f"recipe {path} has no entry {name}; {hint}")
        kind, said = CHOICES.get(name, (dict, "a table"))
        # A truth value counts as a whole number elsewhere in Python.
        if type(value) is not kind:
            raise ConfigError(
                f"recipe {path}: {name} is {tables.shortened(value)}, but it must be "
                f"{said}"
            )


def variants_in(methods: Mapping[str, Any]) -> Iterator[Variant]:
    """Yield the methods of a recipe in its order."""
    for name, table in methods.items():
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"{tables.shortened(name)} cannot name a method; a name begins with a "
                "letter or digit and has at most 32 letters, digits, dots, dashes and "
                "underscores"
            )
        if not isinstance(table, Mapping):
            raise ConfigError(
                f"the method {name} is {tables.shortened(table)}, but it must be a "
                'table, such as {} or { method = "neuron-opsd" }'
            )
        own = dict(table)
        method, seeds = own.pop("method", name), own.pop("seeds", 0)
        if not isinstance(method, str) or method not in METHODS:
            raise ConfigError(
                f"the method of {name} is {tables.shortened(method)}; set method to "
                f"one of {', '.join(METHODS)}"
            )
        if type(seeds) is not int or seeds < 0:
            raise ConfigError(
                f"the seeds of {name} are {tables.shortened(seeds)}, but they must be "
                "a whole number, with how many of all it is trained; 0 means all"
            )
        yield Variant(name, method, own, seeds)
