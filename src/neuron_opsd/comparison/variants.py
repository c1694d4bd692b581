"""The methods of a comparison, each with its own name and settings."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from neuron_opsd.config import Config, tables
from neuron_opsd.config.recipes import Recipe
from neuron_opsd.errors import ConfigError
from neuron_opsd.methods import METHODS, Method, Oracle, method_named
from neuron_opsd.methods.method import SHORT_ANSWERS, WITHOUT_NEURONS
from neuron_opsd.models.roles import ModelFacts
from neuron_opsd.results.comparison import BASE, FORM, MethodLine
from neuron_opsd.results.run import PROMPTED
from neuron_opsd.runs.resolution import (
    PAPER,
    for_choices,
    for_model,
    replaced_text,
    settled,
)
from neuron_opsd.storage.output_paths import check_names

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
NAME_TEXT: Final = (
    "begins with a letter or digit and has at most 32 letters, digits, dots, dashes "
    "and underscores"
)

OWN_SECTIONS: Final = (
    "neurons",
    "selection",
    "contexts",
    "distill",
    "policy",
    "teacher_check",
)
"""What a variant may set; all else is shared."""

DEFAULT_METHODS: Final = ("neuron-opsd", "lmsi", "ttrl", "intuitor")

NUM_SAMPLES: Final = 8
"""Rollouts per question and step, unless the settings say otherwise."""
BUDGET: Final[tables.Table] = {"distill": {"num_samples": NUM_SAMPLES}}


@dataclass(frozen=True, slots=True)
class Variant:
    """A method with its own settings."""

    name: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Nested by section; wins over the comparison's settings."""
    seeds: int = 0
    """How many seeds to train with, from the first; 0 means all."""

    @property
    def trained(self) -> type[Method]:
        """The method's class."""
        return method_named(self.method)


def parse_variant(text: str) -> Variant:
    """Read `METHOD`, or `NAME=METHOD:section.field=value,...`."""
    if text in METHODS:
        return Variant(text, text)
    head, colon, tail = text.partition(":")
    name, equals, method = head.partition("=")
    if not equals or not NAME.fullmatch(name.strip()):
        raise ConfigError(
            f"{text!r} names no method to compare; write one of {', '.join(METHODS)}, "
            f"or NAME=METHOD:section.field=value,..., where NAME {NAME_TEXT}"
        )
    table: dict[str, Any] = {}
    for assignment in filter(None, tail.split(",")) if colon else ():
        table = tables.merge(table, tables.parse_assignment(assignment))
    return Variant(name.strip(), method_named(method.strip()).name, table)


def variants_of(recipe: Recipe, wanted: Sequence[str]) -> tuple[Variant, ...]:
    """Return the named methods, or all of a recipe's.

    Names that the recipe lacks are parsed as written. Without recipe and names the
    methods are `DEFAULT_METHODS`.

    Raises:
        ConfigError: For the first method, wanted or not, that cannot be trained.
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
            "whole number: how many of all seeds it is trained with; 0 means all"
        )
    variant = Variant(name, method, own, seeds)
    try:
        config_of(variant, shared)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    return variant


def check_variants(variants: Sequence[Variant], *, oracle: bool) -> None:
    """Refuse variants that cannot be compared."""
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
                f"{FORM} is the name of the control that every gain is net of; give "
                f"this {variant.method} another name"
            )
        seen.add(variant.name)
        if issubclass(variant.trained, Oracle) and not oracle:
            raise ConfigError(
                f"{variant.method} learns from the pool's gold answers; add --oracle "
                "to compare with it, marked as an oracle throughout"
            )


def check_own_settings(variant: Variant) -> None:
    """Refuse own settings that would make the comparison unfair."""
    for section, fields in variant.settings.items():
        if section == "preset":
            continue
        if section not in OWN_SECTIONS:
            raise ConfigError(
                f"{variant.name} sets {section}, but that must be the same for all "
                "methods: give it with --set; a method may set only "
                f"{', '.join(OWN_SECTIONS)}"
            )
        if section == "distill" and isinstance(fields, Mapping) and "steps" in fields:
            raise ConfigError(
                f"{variant.name} sets distill.steps, but methods are compared after "
                "the same number of steps; give it with --set, and use --at for "
                "results along the way"
            )


def with_form(variants: Sequence[Variant]) -> tuple[Variant, ...]:
    """Put the form-only control first, adding it if missing."""
    own = [variant for variant in variants if variant.name == FORM]
    others = [variant for variant in variants if variant.name != FORM]
    return (*(own or [Variant(FORM, FORM)]), *others)


def config_of(variant: Variant, shared: Config) -> Config:
    """Return a variant's `settled` settings, with one rollout budget for all."""
    return settled(shared, {**variant.settings, "method": variant.method}, BUDGET)


def with_budget(shared: Config) -> Config:
    """Return the settings that all variants share, as saved."""
    if shared.preset == PAPER:
        return shared
    return tables.config_from_table(
        tables.merge(BUDGET, shared.model_dump(exclude_unset=True))
    )


def check_resolved(
    variants: Sequence[Variant], shared: Config, warn: Callable[[str], None]
) -> None:
    """Refuse untrainable settings; warn of lost presets and unequal budgets."""
    for variant in variants:
        refuse_another_method(variant, shared)
        variant.trained.check(config_of(variant, shared))
        if lost := lost_preset(variant, shared):
            warn(
                f"{variant.name} asks for its paper's preset, but settings for all "
                f"methods override it: {', '.join(lost)}; to change that, set it in "
                f"{variant.name} itself"
            )
    for what, of in BUDGETS.items():
        given: dict[int, list[str]] = defaultdict(list)
        for variant in variants:
            if count := of(variant.trained, config_of(variant, shared)):
                given[count].append(variant.name)
        if len(given) > 1:
            said = ", ".join(f"{n} for {' and '.join(v)}" for n, v in given.items())
            warn(
                f"the methods have different budgets: {what} are {said}; what one "
                "gains over another may come from its budget"
            )


BUDGETS: Final[Mapping[str, Callable[[type[Method], Config], int]]] = {
    "rollouts of a question in a step": lambda method, config: method.num_drawn(config),
    "questions of a step": lambda _, config: config.distill.batch_size,
}


def chosen_for_all(variant: Variant, shared: Config) -> dict[str, Any]:
    """Return what is set for all but not by the variant, by dotted name."""
    own = tables.flatten_table(variant.settings)
    chosen = tables.flatten_table(shared.model_dump(exclude_unset=True))
    return {name: value for name, value in chosen.items() if name not in own}


def refuse_another_method(variant: Variant, shared: Config) -> None:
    """Refuse shared settings that silently turn a method into another."""
    own = tables.flatten_table(variant.trained.settings)
    chosen = chosen_for_all(variant, shared)
    for name in variant.trained.essential:
        if name in chosen and chosen[name] != own[name]:
            write = f"{variant.name}={variant.method}:{name}"
            raise ConfigError(
                f"{name} is {tables.toml_value(chosen[name])} for all methods, but "
                f"{variant.method} requires {tables.toml_value(own[name])}; write "
                f"{write}={own[name]} in --methods to keep that, or "
                f"{write}={chosen[name]} to change it anyway"
            )


def lost_preset(variant: Variant, shared: Config) -> list[str]:
    """List shared settings that override a variant's preset."""
    if variant.settings.get("preset") != PAPER:
        return []
    preset = variant.trained.preset.table(config_of(variant, shared))
    chosen = chosen_for_all(variant, shared)
    toml = tables.toml_value
    return [
        f"{name} = {toml(chosen[name])} (the preset has {toml(value)})"
        for name, value in tables.flatten_table(preset).items()
        if name in chosen and chosen[name] != value
    ]


def method_line(variant: Variant, shared: Config) -> MethodLine:
    """Describe a variant for the page."""
    changed = tables.differences(with_budget(shared), config_of(variant, shared))
    changed.pop("method", None)
    return MethodLine(
        name=variant.name,
        summary=f"{variant.trained.summary} ({variant.trained.source})",
        settings=tables.toml_values(changed),
        oracle=issubclass(variant.trained, Oracle),
    )


def untrained_lines(config: Config) -> tuple[MethodLine, ...]:
    """Describe untrained models for the page."""
    base = MethodLine(BASE, "the model before any training", trained=False)
    if not config.tests_prompted:
        return (base,)
    prompted = MethodLine(
        PROMPTED,
        "the model where training begins, with its own demonstrations in the prompt",
        trained=False,
    )
    return (base, prompted)


def variants_for(
    variants: Sequence[Variant],
    shared: Config,
    facts: ModelFacts,
    warn: Callable[[str], None],
) -> tuple[Variant, ...]:
    """Fit the variants to a model whose neurons may be unreadable.

    If so, add the form-only control and warn of each changed selection.
    """
    if not facts.why_no_neurons:
        return tuple(variants)
    if shared.tests_prompted:
        named = shared.model_copy(update={"method": PROMPTED})
        if text := replaced_text(named, prompted(named, facts, chooses=False)):
            warn(text)
    return tuple(fitted(one, shared, facts, warn) for one in with_form(variants))


def choosing(variants: Sequence[Variant], shared: Config) -> tuple[Variant, ...]:
    """Give variants their settings for answers that are chosen among choices."""
    settings = [(one, config_of(one, shared)) for one in with_form(variants)]
    return tuple(changed(one, own, for_choices(own)) for one, own in settings)


def changed(variant: Variant, own: Config, resolved: Config) -> Variant:
    """Return a variant with the settings in which `resolved` is not its `own`."""
    taken: tables.Table = {}
    for name, value in tables.differences(own, resolved).items():
        taken = tables.merge(taken, tables.nested(name.split("."), value))
    return replace(variant, settings=tables.merge(taken, variant.settings))


def fitted(
    variant: Variant, shared: Config, facts: ModelFacts, warn: Callable[[str], None]
) -> Variant:
    """Fit a variant to a model; warn of what changes."""
    own = config_of(variant, shared)
    resolved = for_model(own, facts)
    text = replaced_text(own, resolved)
    if not text:
        return variant
    warn(text)
    return changed(variant, own, resolved)


def prompted(shared: Config, facts: ModelFacts, *, chooses: bool) -> Config:
    """Return the settings of the prompted untrained model: neuron-opsd's contexts."""
    own = for_choices(shared, SHORT_ANSWERS) if chooses else shared
    return for_model(own, facts, WITHOUT_NEURONS)
