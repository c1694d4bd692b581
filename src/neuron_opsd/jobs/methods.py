"""The settings of a run by its method: the method's own where the user named none."""

from __future__ import annotations

from neuron_opsd.config import Config
from neuron_opsd.errors import ConfigError
from neuron_opsd.settings import config_from_table, merge
from neuron_opsd.stages.methods import method_named


def with_method(config: Config) -> Config:
    """Return the settings with the method's own where the user named none.

    Raises:
        ConfigError: If there is no such method, or it is an oracle.
    """
    method = method_named(config.method)
    if method.oracle:
        raise ConfigError(
            f"{method.name} learns from gold answers, which a run never reads; "
            "`neuron-opsd compare --oracle` shows it beside the others"
        )
    chosen = config.model_dump(exclude_unset=True)
    return config_from_table(merge(method.settings, chosen))
