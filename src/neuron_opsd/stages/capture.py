"""Reading off which neurons pushed the tokens of completions that exist already."""

from __future__ import annotations

from collections.abc import Sequence

from neuron_opsd.config import NeuronsConfig
from neuron_opsd.method.neurons import Activated, NeuronCounter, Sizes, scaled_sizes
from neuron_opsd.models.batches import batches
from neuron_opsd.models.protocol import LanguageModel, ModelFacts, Pair
from neuron_opsd.records import NeuronSet


def sizes_of(config: NeuronsConfig, facts: ModelFacts) -> Sizes:
    """Return how many entries the rules keep for a model."""
    return scaled_sizes(
        facts.num_layers,
        facts.num_neurons,
        per_layer=config.per_layer,
        keep=config.keep,
    )


def capture_neurons(
    model: LanguageModel,
    question_ids: Sequence[str],
    pairs: Sequence[Pair],
    config: NeuronsConfig,
    tokens_per_batch: int,
) -> list[NeuronSet]:
    """Return the neuron sets of completions, from one forward pass over each.

    Args:
        model: Scores its own neurons, layer by layer.
        question_ids: One for each pair.
        pairs: Prompt and completion as token ids; completions must not be empty.
        config: Which neurons count.
        tokens_per_batch: Tokens, padding included, that one forward pass may hold.
    """
    sizes = sizes_of(config, model.facts)
    found: dict[int, Activated] = {}
    for batch in batches(pairs, tokens_per_batch):
        chosen = [pairs[i] for i in batch]
        counter = NeuronCounter([len(c) for _, c in chosen], config.rule, sizes)
        model.capture(
            chosen,
            config.value,
            counter.add,
            half_projections=config.rule == "neufs",
        )
        found.update(zip(batch, counter.finish(), strict=True))
    return [
        NeuronSet(
            question_id=question_id,
            neuron_count=found[i].neuron_count,
            neuron_ids=found[i].neuron_ids,
            scores=found[i].scores,
            num_tokens=len(pairs[i][1]),
        )
        for i, question_id in enumerate(question_ids)
    ]
