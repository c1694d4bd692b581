"""The settings a method trains with, merged from all their sources.

What is refused raises a `ConfigError`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from neuron_opsd.config import Config, tables
from neuron_opsd.config.tables import Table, toml_value
from neuron_opsd.errors import ConfigError
from neuron_opsd.method.contexts import (
    CONTEXT_RULES,
    GIVEN,
    SHOWN_ANSWERS,
    ContextRule,
)
from neuron_opsd.method.contexts.search import OF_NEURONS
from neuron_opsd.method.selection import SELECTION_RULES, SelectionRule
from neuron_opsd.methods import METHODS, method_named, method_of, needs_medoids
from neuron_opsd.methods.method import Settings
from neuron_opsd.models.load import check_engine, check_quantization
from neuron_opsd.models.roles import ModelFacts

PAPER: Final = "paper"
"""`preset` value that takes the settings of a method's paper or public code."""

NOTHING: Final[Table] = {}
ONE_GIVEN: Final[Table] = {"contexts": {"num_demonstrations": 1}}


def settled(
    config: Config,
    own: Mapping[str, Any] = NOTHING,
    budget: Mapping[str, Any] = NOTHING,
) -> Config:
    """Return the settings that a method trains with.

    Later wins: defaults, the method's own, `budget` (for all methods of a comparison),
    the preset of its source if asked for, the user's choices (file, then flags: the
    fields set in `config`), and `own`, for one variant of a comparison.
    """
    chosen = tables.merge(config.model_dump(exclude_unset=True), own)
    asked = tables.config_from_table(chosen)
    method = method_named(asked.method)
    given = ONE_GIVEN if asked.contexts.rule == GIVEN else NOTHING
    below = tables.merge(tables.merge(given, method.settings), budget)
    if asked.preset == PAPER:
        preset = method.preset.table(asked)
        if given:  # the preset's demonstrations are those of another teacher
            preset.pop("contexts", None)
        below = tables.merge(below, preset)
    found = tables.config_from_table(tables.merge(below, chosen))
    check_engine(found)
    check_quantization(found)
    check_selection(found)
    check_given(found)
    return found


def for_choices(config: Config, instead: Settings | None = None) -> Config:
    """Return settled settings for a pool whose answers are chosen among choices.

    `instead`, by default the method's own for that, is taken where nothing is set. The
    paper's preset has its own, and a selection that the user began to set is left
    alone, since a share or a balance means nothing under another rule.
    """
    asked = config.rollouts.mode == "constrained" and config.preset != PAPER
    if not asked or config.contexts.rule == GIVEN:
        return config
    taken: Table = {}
    short = METHODS[config.method].short_answers if instead is None else instead
    for name, own in short.items():
        known = getattr(config, name).model_fields_set
        if name != "selection" or not known:
            taken[name] = {n: value for n, value in own.items() if n not in known}
    return config.changed(**taken)


def check_given(config: Config) -> None:
    """Refuse several demonstrations or contexts where each question has its own."""
    number = config.contexts.num_demonstrations
    if config.contexts.rule == GIVEN and number > 1:
        raise ConfigError(
            f"contexts.rule is {GIVEN}, which shows the teacher what is given with "
            f"each question and nothing else, but contexts.num_demonstrations is "
            f"{number}; leave it out"
        )
    if config.contexts.rule == GIVEN and config.contexts.num_contexts > 1:
        raise ConfigError(
            f"contexts.num_contexts is {config.contexts.num_contexts}, but with "
            f"contexts.rule={GIVEN} each question has one context; leave it out"
        )


def check_selection(config: Config) -> None:
    """Refuse a selection rule without anything to read.

    Free answers are known only for settings resolved for a model.
    """
    rule, contexts = config.selection_rule, config.contexts
    named = f"selection.rule={config.selection.rule}"
    if rule.reads_teacher and not contexts.num_demonstrations:
        raise ConfigError(
            f"{named} compares what the model answers with demonstrations and without, "
            f"but contexts.num_demonstrations is 0 for {config.method}; set it to at "
            "least 1, or choose another rule"
        )
    if rule.reads_teacher and contexts.source != "pool":
        raise ConfigError(
            f"{named} shows the whole pool to the teacher before any question is "
            f"selected, but contexts.source is {contexts.source}; set it to pool, or "
            "choose another rule"
        )
    free = config.rollouts.mode == "free"
    if (rule.reads_votes or (rule.reads_beliefs and free)) and (
        config.rollouts.num_samples < 2
    ):
        raise ConfigError(
            f"{named} compares the answers of a question's samples, but "
            f"rollouts.num_samples is {config.rollouts.num_samples}; set it to at "
            "least 2, or choose another rule"
        )


def with_method(config: Config) -> Config:
    """Fill in the method's settings where the user set none."""
    resolved = settled(config)
    method_of(resolved)  # refuses, for example, groups of one rollout
    return resolved


def for_model(
    config: Config, facts: ModelFacts, instead: Mapping[str, Any] | None = None
) -> Config:
    """Return a method's settings for a model whose neurons may be unreadable.

    `config` comes from `settled`; for such a model `instead`, by default the method's
    own, replaces settings that the user left unset.
    """
    refuse_medoids(config, facts)
    asked = asking(config)
    if not (facts.why_no_neurons and asked):
        return config
    own = METHODS[config.method].without_neurons if instead is None else instead
    taken = {section: own[section] for section in asked if section in own}
    chosen = config.model_dump(exclude_unset=True)
    resolved = tables.config_from_table(tables.merge(taken, chosen))
    if still := asking(resolved):
        rules = [f"{name}.rule is {getattr(resolved, name).rule}" for name in still]
        raise ConfigError(
            f"{config.method} asks for neurons ({', '.join(rules)}), but "
            f"{facts.why_no_neurons}; set "
            f"{' and '.join(map(instead_of, still))}, or take a method that "
            "reads none, such as ttrl, or another model"
        )
    return resolved


def refuse_medoids(config: Config, facts: ModelFacts) -> None:
    """Refuse to pick shown answers by unreadable neurons."""
    if facts.why_no_neurons and needs_medoids(config):
        others = [n for n, one in SHOWN_ANSWERS.items() if not one.reads_all_neurons]
        raise ConfigError(
            f"contexts.answer is {config.contexts.answer}, which reads neurons, but "
            f"{facts.why_no_neurons}; set it to {listing(others)}, or take another "
            "model"
        )


def listing(names: Sequence[str]) -> str:
    """List alternatives."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def asking(config: Config) -> list[str]:
    """Return the sections that ask for neurons."""
    shows = bool(config.context_signals & OF_NEURONS)
    asks = {"selection": config.selects_by_neurons, "contexts": shows}
    return [section for section, one in asks.items() if one]


def instead_of(section: str) -> str:
    """Say how to set a section to need no neurons."""
    if section == "selection":
        return f"selection.rule to {reading_none(SELECTION_RULES)}"
    return f"contexts.rule to {reading_none(CONTEXT_RULES)} (or no demonstrations)"


def reading_none(rules: Mapping[str, ContextRule | SelectionRule]) -> str:
    """List the rules that need no neurons."""
    return listing([n for n, rule in rules.items() if not rule.reads_neurons])


def replaced_text(config: Config, resolved: Config) -> str:
    """Say what `for_model` put in place of neuron rules."""
    changed = tables.differences(config, resolved)
    if not changed:
        return ""
    taken = " and ".join(f"{name} = {toml_value(v)}" for name, v in changed.items())
    return (
        f"this model's neurons cannot be read, so {config.method} takes {taken}; set "
        "them yourself to choose others"
    )


def method_remarks(config: Config, resolved: Config) -> list[str]:
    """Return remarks on a method's settings."""
    method, found = METHODS[config.method], tables.flatten(config)
    own = tables.flatten_table(method.settings)
    remarks = [
        f"{config.method} requires {name} = {toml_value(own[name])}, but it is set to "
        f"{toml_value(found[name])}: this trains another method"
        for name in method.essential
        if found[name] != own[name]
    ]
    return [*remarks, *filter(None, [replaced_text(config, resolved)])]
