"""A comparison on a model whose neurons cannot be read, resolved before any work."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neuron_opsd.compare.variants import Variant, config_of, with_form
from neuron_opsd.config import Config
from neuron_opsd.config.tables import Table, differences, merge
from neuron_opsd.methods.method import WITHOUT_NEURONS
from neuron_opsd.models.roles import ModelFacts
from neuron_opsd.results.run import PROMPTED
from neuron_opsd.runs.resolution import for_model, replaced_text


def variants_for(
    variants: Sequence[Variant],
    shared: Config,
    facts: ModelFacts,
    warn: Callable[[str], None],
) -> tuple[Variant, ...]:
    """Return the variants as a model can have them, with the form-only control.

    Args:
        variants: Of the comparison.
        shared: What they share.
        facts: Of the model.
        warn: Told of every variant that selects otherwise than elsewhere.

    Raises:
        ConfigError: If one asks for neurons that cannot be read.
    """
    if not facts.why_no_neurons:
        return tuple(variants)
    return tuple(fitted(one, shared, facts, warn) for one in with_form(variants))


def fitted(
    variant: Variant, shared: Config, facts: ModelFacts, warn: Callable[[str], None]
) -> Variant:
    """Return a variant as a model can have it."""
    own = config_of(variant, shared)
    resolved = for_model(own, facts)
    text = replaced_text(own, resolved)
    if not text:
        return variant
    warn(text)
    taken: Table = {}
    for name, value in differences(own, resolved).items():
        section, _, field = name.partition(".")
        taken = merge(taken, {section: {field: value}})
    return Variant(variant.name, variant.method, merge(taken, variant.settings))


def check_prompted(
    shared: Config, facts: ModelFacts, warn: Callable[[str], None]
) -> None:
    """Refuse an untrained model with demonstrations that need neurons nobody can read.

    Raises:
        ConfigError: If the user asked for these.
    """
    named = shared.model_copy(update={"method": PROMPTED})
    if shared.tests_prompted and (text := replaced_text(named, prompted(named, facts))):
        warn(text)


def prompted(shared: Config, facts: ModelFacts) -> Config:
    """Return the settings of the untrained model with demonstrations in its prompt.

    Raises:
        ConfigError: If they ask for neurons that cannot be read.
    """
    return for_model(shared, facts, WITHOUT_NEURONS)
