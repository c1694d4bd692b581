"""Every method that can be run and compared, in a module for each family."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from neuron_opsd.config import Config
from neuron_opsd.errors import ConfigError
from neuron_opsd.method.contexts import SHOWN_ANSWERS
from neuron_opsd.method.contexts.search import Signal
from neuron_opsd.methods import distillation, imitation, reinforcement
from neuron_opsd.methods.method import Method as Method
from neuron_opsd.methods.method import Oracle as Oracle
from neuron_opsd.methods.method import Target as Target
from neuron_opsd.methods.method import Targets as Targets

_BY_NAME: Final = {
    method.name: method
    for family in (distillation, imitation, reinforcement)
    for method in family.METHODS
}
METHODS: Final[Mapping[str, type[Method]]] = MappingProxyType(_BY_NAME)

M = TypeVar("M", bound=type[Method])


def add_method(method: M) -> M:
    """Add a method for this process, so that settings can name it.

    Raises:
        ConfigError: If another method has its name.
    """
    if _BY_NAME.setdefault(method.name, method) is not method:
        raise ConfigError(
            f"there is a method {method.name} already; give yours another name"
        )
    return method


def method_named(name: str) -> type[Method]:
    """Return the class of a method."""
    if name not in METHODS:
        raise ConfigError(
            f"there is no method {name!r}; there are {', '.join(METHODS)}"
        )
    return METHODS[name]


def method_of(config: Config) -> Method:
    """Return the method that settings name, ready to train with them.

    Raises:
        ConfigError: If there is none, it is an oracle, or cannot be trained with them.
    """
    method = method_named(config.method)
    if issubclass(method, Oracle):
        raise ConfigError(
            f"{method.name} learns from gold answers, which a run never reads; "
            "`neuron-opsd compare --oracle` shows it beside the others"
        )
    return method(config)


def needs_contexts(config: Config) -> bool:
    """Say whether the method that settings name takes demonstrations."""
    return method_named(config.method).needs_contexts(config)


def context_signals(config: Config) -> frozenset[Signal]:
    """Return what a run must know of questions, for its teacher, rule or control."""
    taught = needs_contexts(config) or config.selection_rule.reads_teacher
    shown = config.tests_prompted or taught
    return config.context_signals if shown else frozenset()


def needs_neurons(config: Config) -> bool:
    """Say whether a run reads the neurons of answers, for its method or its control."""
    shown = Signal.ANSWER_NEURONS in context_signals(config)
    return shown or method_named(config.method).needs_neurons(config)


def needs_medoids(config: Config) -> bool:
    """Say whether a run reads the neurons of all rollouts, to show one of each."""
    return SHOWN_ANSWERS[config.contexts.answer].reads_all_neurons


def captures(config: Config) -> bool:
    """Say whether a run takes passes that read off neurons, whatever of."""
    asked = Signal.QUESTION_NEURONS in context_signals(config)
    return asked or needs_medoids(config) or needs_neurons(config)
