"""What a comparison compares: methods, each with settings and a name of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from neuron_opsd.config import Config
from neuron_opsd.config.tables import (
    config_from_table,
    differences,
    merge,
    parse_assignment,
    toml_value,
)
from neuron_opsd.errors import ConfigError
from neuron_opsd.methods import METHODS, method_named
from neuron_opsd.results.comparison import BASE, FORM, MethodLine
from neuron_opsd.results.run import PROMPTED
from neuron_opsd.runs.resolution import SOURCE
from neuron_opsd.storage.names import check_names

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")

OWN_SECTIONS: Final = (
    "neurons",
    "selection",
    "contexts",
    "distill",
    "policy",
    "teacher_check",
)
"""What a variant may set; how all are asked and tested is one for all."""

NUM_SAMPLES: Final = 8
"""Rollouts per question and step of every method, unless the settings name a number."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A method with settings of its own."""

    name: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """A table of tables; wins over the comparison's settings."""


def parse_variant(text: str) -> Variant:
    """Read `METHOD`, or `NAME=METHOD:section.field=value,...`.

    Raises:
        ConfigError: If there is no such method, or a name or a setting cannot be.
    """
    if text in METHODS:
        return Variant(text, text)
    head, colon, tail = text.partition(":")
    name, equals, method = head.partition("=")
    if not equals or not NAME.fullmatch(name.strip()):
        raise ConfigError(
            f"{text!r} names no method to compare; write one of {', '.join(METHODS)}, "
            "or NAME=METHOD:section.field=value,..., where NAME begins with a letter "
            "or digit and has at most 32 letters, digits, dots, dashes and underscores"
        )
    table: dict[str, Any] = {}
    for assignment in filter(None, tail.split(",")) if colon else ():
        table = merge(table, parse_assignment(assignment))
    return Variant(name.strip(), method_named(method.strip()).name, table)


def check_variants(variants: Sequence[Variant], *, oracle: bool) -> None:
    """Refuse variants that cannot stand beside each other.

    Raises:
        ConfigError: If a name appears twice or is taken, a setting is one for all, or
            an oracle was not asked for.
    """
    seen: set[str] = set()
    check_names([variant.name for variant in variants], "a method")
    for variant in variants:
        check_own_settings(variant)
        if variant.name in seen:
            raise ConfigError(
                f"the name {variant.name} appears twice; give another one"
            )
        if variant.name in (BASE, PROMPTED):
            raise ConfigError(
                f"{variant.name} is the name of an untrained model, which every "
                "comparison shows; give the method another one"
            )
        if variant.name == FORM and variant.method != FORM:
            raise ConfigError(
                f"{FORM} is the name of the control that every gain is stated net of; "
                f"give this {variant.method} another one"
            )
        seen.add(variant.name)
        if METHODS[variant.method].oracle and not oracle:
            raise ConfigError(
                f"{variant.method} learns from the pool's gold answers; say --oracle "
                "to compare with it, and it is marked wherever it stands"
            )


def check_own_settings(variant: Variant) -> None:
    """Refuse settings of a variant that would make it no fair comparison.

    Raises:
        ConfigError: If it sets how models are asked or tested, or for how many steps
            they are trained.
    """
    for section, fields in variant.settings.items():
        if section == "preset":
            continue
        if section not in OWN_SECTIONS:
            raise ConfigError(
                f"{variant.name} sets {section}, but that must be one for all methods; "
                f"a method may set {', '.join(OWN_SECTIONS)}, so give it with --set"
            )
        if section == "distill" and "steps" in fields:
            raise ConfigError(
                f"{variant.name} sets distill.steps, but methods are compared after "
                "the same number of steps; give it with --set, and --at for results "
                "on the way"
            )


def with_form(variants: Sequence[Variant]) -> tuple[Variant, ...]:
    """Return the variants with the form-only control first, added if it is not there.

    Every gain is stated net of it.
    """
    own = [variant for variant in variants if variant.name == FORM]
    others = [variant for variant in variants if variant.name != FORM]
    return (*(own or [Variant(FORM, FORM)]), *others)


def config_of(variant: Variant, shared: Config) -> Config:
    """Return the settings of a variant.

    What a method needs wins over what the comparison shares, except for the number of
    rollouts, which must be the same for all; the variant's own settings win over both.
    The preset of its source stands below what the comparison shares, or above it where
    the variant itself asks for it; then budgets are no longer the same.

    Raises:
        ConfigError: If a setting cannot be.
    """
    method = METHODS[variant.method]
    chosen = shared.model_dump(exclude_unset=True)
    trained = config_from_table(merge(chosen, variant.settings))
    source = method.preset.table(trained) if trained.preset == SOURCE else {}
    below = merge(method.defaults, source)
    table = merge(merge(below, chosen), method.settings)
    counts = (samples_in(one) for one in (chosen, below))
    count = next(filter(None, counts), NUM_SAMPLES)
    table = merge(table, {"method": variant.method, "distill": {"num_samples": count}})
    if "preset" in variant.settings:
        table = merge(table, source)
    return config_from_table(merge(table, variant.settings))


def samples_in(table: Mapping[str, Any]) -> int | None:
    """Return the rollouts per question and step that a table of settings names."""
    found: int | None = table.get("distill", {}).get("num_samples")
    return found


def shared_config(config: Config) -> Config:
    """Return the settings that all variants share.

    Greedy answers are drawn besides the samples, for variants that show them.
    """
    chosen = config.model_dump(exclude_unset=True)
    if config.preset == SOURCE or samples_in(chosen) is not None:
        return config
    table = merge(chosen, {"distill": {"num_samples": NUM_SAMPLES}})
    return config_from_table(table)


def method_line(variant: Variant, shared: Config) -> MethodLine:
    """Return what the page says of a variant."""
    method = METHODS[variant.method]
    changed = differences(shared, config_of(variant, shared))
    return MethodLine(
        name=variant.name,
        summary=f"{method.summary} ({method.source})",
        settings={
            name: "unset" if value is None else toml_value(value)
            for name, value in changed.items()
            if name != "method"
        },
        oracle=method.oracle,
    )


def untrained_lines(config: Config) -> tuple[MethodLine, ...]:
    """Return what the page says of the models that are not trained."""
    base = MethodLine(BASE, "the model before any training", trained=False)
    if not config.tests_prompted:
        return (base,)
    prompted = MethodLine(
        PROMPTED,
        "the model where training begins, with its own demonstrations in the prompt",
        trained=False,
    )
    return (base, prompted)
