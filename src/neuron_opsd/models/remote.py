"""A model whose weights are in other processes, and in this one only on demand.

Its tokenizer is here. What answers questions chunk by chunk is done by workers that
have the weights; whoever asks the model itself has them loaded here first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.roles import (
    ContributionConsumer,
    Finished,
    ModelFacts,
    NeuronValue,
    Sampling,
    ignore,
)
from neuron_opsd.models.room import Room
from neuron_opsd.models.tokenizer.encoding import ModelTokenizer
from neuron_opsd.records import Completion, Pair, TokenIds


class RemoteModel(ModelTokenizer):
    """Fulfils the role of a `LanguageModel` for those who seldom need its weights."""

    def __init__(
        self,
        tokenizer: ModelTokenizer,
        facts: ModelFacts,
        room: Room,
        recipe: Callable[[], HFModel],
        load: Callable[[], HFModel],
    ) -> None:
        """Take how workers make the model, and how this process would."""
        super().__init__(tokenizer.tokens, facts)
        self.room = room
        self.recipe = recipe
        self._load = load
        self._here: HFModel | None = None

    def here(self) -> HFModel:
        """Return the model itself, loaded once."""
        if self._here is None:
            self._here = self._load()
            self._here.room.told = self.room.told
            self._here.room.tokens = self.room.tokens
        return self._here

    def sample(
        self,
        prompts: Sequence[TokenIds],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
        finished: Finished = ignore,
    ) -> list[list[Completion]]:
        """Draw one completion per seed for every prompt; equal seeds draw alike."""
        return self.here().sample(prompts, seeds, sampling, finished)

    def logits_at(
        self, pairs: Sequence[Pair], columns: Sequence[Sequence[TokenIds]]
    ) -> list[list[NDArray[np.float32]]]:
        """Return the logits of a few tokens at a few positions."""
        return self.here().logits_at(pairs, columns)

    def divergences(self, pairs: Sequence[Pair], others: Sequence[Pair]) -> list[float]:
        """Return KL(pair || other) per completion token, in nats."""
        return self.here().divergences(pairs, others)

    def logprobs(self, pairs: Sequence[Pair]) -> list[float]:
        """Return the log-probability of each completion, in nats."""
        return self.here().logprobs(pairs)

    def capture(
        self,
        pairs: Sequence[Pair],
        value: NeuronValue,
        consume: ContributionConsumer,
        *,
        half_projections: bool = False,
    ) -> None:
        """Run one forward pass and pass on every layer's contribution scores."""
        self.here().capture(pairs, value, consume, half_projections=half_projections)

    def mean_states(
        self, pairs: Sequence[Pair], layer: int
    ) -> list[NDArray[np.float32]]:
        """Run one forward pass and return the mean state of each completion."""
        return self.here().mean_states(pairs, layer)

    def release(self) -> None:
        """Free the weights that are here; they are loaded again when needed."""
        self._here = None
