"""Every method that can be run and compared, each in a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from neuron_opsd.errors import ConfigError
from neuron_opsd.methods import (
    context_sft,
    ema_only,
    empo,
    form_only,
    intuitor,
    lmsi,
    neuron_opsd,
    oracle_grpo,
    oracle_opsd,
    random_opsd,
    rent,
    ttrl,
    u_opsd,
)
from neuron_opsd.methods.method import Method, Targets

__all__ = ["METHODS", "Method", "Targets", "method_named"]

METHODS: Final[Mapping[str, Method]] = MappingProxyType(
    {
        method.name: method
        for method in (
            neuron_opsd.METHOD,
            random_opsd.METHOD,
            ema_only.METHOD,
            context_sft.METHOD,
            u_opsd.METHOD,
            form_only.METHOD,
            lmsi.METHOD,
            ttrl.METHOD,
            intuitor.METHOD,
            rent.METHOD,
            empo.METHOD,
            oracle_grpo.METHOD,
            oracle_opsd.METHOD,
        )
    }
)


def method_named(name: str) -> Method:
    """Return a method.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name not in METHODS:
        raise ConfigError(
            f"there is no method {name!r}; there are {', '.join(METHODS)}"
        )
    return METHODS[name]
