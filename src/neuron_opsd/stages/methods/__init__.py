"""Every method that can be run and compared, each in a file of its own."""

from __future__ import annotations

from types import MappingProxyType

from neuron_opsd.errors import ConfigError
from neuron_opsd.stages.methods import (
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
from neuron_opsd.stages.methods.method import Method, Targets

__all__ = ["METHODS", "Method", "Targets", "method_named"]

METHODS = MappingProxyType(
    {
        module.METHOD.name: module.METHOD
        for module in (
            neuron_opsd,
            random_opsd,
            ema_only,
            context_sft,
            u_opsd,
            form_only,
            lmsi,
            ttrl,
            intuitor,
            rent,
            empo,
            oracle_grpo,
            oracle_opsd,
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
