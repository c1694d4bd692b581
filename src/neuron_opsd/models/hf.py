"""A transformers causal language model as a `LanguageModel`.

Axes: B rows, T positions, N completion tokens of a batch, F neurons of one layer, D
residual width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuron_opsd.errors import ModelError
from neuron_opsd.method.fused_loss import multiply
from neuron_opsd.method.losses import capped
from neuron_opsd.models import roles
from neuron_opsd.models.adapters.low_rank import LowRank, for_products
from neuron_opsd.models.adapters.matrices import Held, Matrices
from neuron_opsd.models.decoding.generation import generate
from neuron_opsd.models.forward.attention import Whole, padded, replacing
from neuron_opsd.models.forward.layers import GatedMLP, MeanStates, readable_mlps
from neuron_opsd.models.room import Room
from neuron_opsd.models.scoring import Head, completion_logprobs, mean_divergences
from neuron_opsd.models.tokenizer.encoding import ModelTokenizer, Tokens
from neuron_opsd.models.weights.at_rest import AsFloat32, is_half
from neuron_opsd.models.weights.four_bit import PackedLinear
from neuron_opsd.records import Completion, Pair, TokenIds


class HFModel(ModelTokenizer):
    """A frozen model."""

    def __init__(
        self,
        network: nn.Module | Held,
        tokens: Tokens,
        facts: roles.ModelFacts,
        room: Room,
        changes: Mapping[str, LowRank] | None = None,
    ) -> None:
        """Hold a network and changes to its decoder's matrices, by name."""
        super().__init__(tokens, facts)
        self.held = network if isinstance(network, Held) else Held(network)
        self.device = torch.device(facts.device)
        self.changes = changes or {}
        self.room = room
        self.sampler: roles.Sampler | None = None
        """Samples instead of the network; a learner's must follow the weights."""
        self._products: dict[str, LowRank] | None = None

    @property
    def network(self) -> Any:
        """The transformers network."""
        return self.held.network

    @property
    def matrices(self) -> Matrices:
        """The network's matrices in the type of products."""
        return self.held.matrices(self.product_type)

    @property
    def mlps(self) -> tuple[GatedMLP, ...]:
        """Each layer's gated MLP; empty if they cannot be read."""
        return readable_mlps(self.network)[0]

    def in_float32(self) -> HFModel:
        """Return a model with the same weights and unrounded products."""
        facts = replace(self.facts, compute="float32")
        return HFModel(self.held, self.tokens, facts, self.room, self.changes)

    @property
    def decoder(self) -> nn.Module:
        """The decoder for passes without gradient."""
        decoder: nn.Module = self.network.get_decoder()
        return decoder

    def sample(
        self,
        prompts: Sequence[TokenIds],
        seeds: Sequence[Sequence[int]],
        sampling: roles.Sampling,
        finished: roles.Finished = roles.ignore,
    ) -> list[list[Completion]]:
        """See `Sampler`."""
        if self.sampler is not None:
            return self.sampler.sample(prompts, seeds, sampling, finished)
        with torch.inference_mode():
            return generate(self, prompts, seeds, sampling, finished)

    def logits_at(
        self, pairs: Sequence[Pair], columns: Sequence[Sequence[TokenIds]]
    ) -> list[list[NDArray[np.float32]]]:
        """See `Scorer`."""
        results: list[list[NDArray[np.float32]]] = [[] for _ in pairs]
        head = self.head()

        def score(batch: Sequence[int]) -> None:
            # One past the completion: what would come next.
            states = self.states([pairs[i] for i in batch], after=1)
            sizes = [len(pairs[i][1]) + 1 for i in batch]
            for i, rows in zip(batch, states.split(sizes), strict=True):
                results[i] = [
                    head.some_logits(row, wanted)
                    for row, wanted in zip(rows, columns[i], strict=True)
                ]

        with torch.inference_mode():
            self.room.each_pass(pairs, score)
        return results

    def divergences(self, pairs: Sequence[Pair], others: Sequence[Pair]) -> list[float]:
        """See `Scorer`."""
        with torch.inference_mode():
            return mean_divergences(pairs, others, self.states, self.next_logits)

    def logprobs(self, pairs: Sequence[Pair]) -> list[float]:
        """See `Scorer`."""
        parts = self.states, self.next_logits, self.room
        with torch.inference_mode():
            return completion_logprobs(pairs, *parts)

    def capture(
        self,
        pairs: Sequence[Pair],
        value: roles.NeuronValue,
        consume: roles.ContributionConsumer,
        *,
        half_projections: bool = False,
    ) -> None:
        """See `Capturer`."""
        mlps = self.mlps
        if not mlps:
            raise ModelError(self.facts.why_no_neurons)
        rows, columns = (
            places.to(self.device) for places in predicting_positions(pairs, after=0)
        )
        targets = [token for _, completion in pairs for token in completion]
        distinct, place = np.unique(targets, return_inverse=True)
        unembedding = self.head().weight
        embeddings = unembedding[torch.from_numpy(distinct).to(self.device)].float()
        places = torch.from_numpy(place).to(self.device)
        # Before the pass, which replaces weights with rounded ones.
        weights = [self.weight_of(mlp.down_proj) for mlp in mlps]

        def score(layer: int, activations: Tensor) -> None:
            # One index picks rows several times faster than two.
            flat = rows * activations.shape[1] + columns
            scores = activations.flatten(0, 1).index_select(0, flat).float()
            with torch.autocast(self.device.type, enabled=False):
                projections = embeddings @ weights[layer]()
            if half_projections:
                projections = projections.half().float()
            consume(layer, scores * projections.index_select(0, places))

        with torch.inference_mode(), ExitStack() as watching:
            for layer, mlp in enumerate(mlps):
                watching.enter_context(mlp.watch(value, partial(score, layer)))
            self.forward(pairs)

    def mean_states(
        self, pairs: Sequence[Pair], layer: int
    ) -> list[NDArray[np.float32]]:
        """See `Capturer`."""
        with torch.inference_mode(), MeanStates(self.network, layer, pairs) as means:
            self.forward(pairs)
        return means.found()

    def head(self) -> Head:
        """Return the unembedding; its weight may require gradients."""
        weight: Tensor = self.network.get_output_embeddings().weight
        return Head(weight, softcap_of(self.network.config))

    def weight_of(self, layer: nn.Module) -> Callable[[], Tensor]:
        """Return a function that gives a layer's float32 ``(O, K)`` with changes."""
        named = self.network.get_decoder().named_modules()
        name = next(name for name, module in named if module is layer)
        change, weight = self.changes.get(name), layer.get_parameter("weight")

        def whole() -> Tensor:
            given = layer.matrix() if isinstance(layer, PackedLinear) else weight
            matrix = given.float()
            if change is None:
                return matrix
            return torch.addmm(matrix, change.up, change.down)

        return whole

    def computing(self, network: nn.Module) -> AbstractContextManager[Any]:
        """Return the context in which products have the chosen precision."""
        if self.facts.compute == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return AsFloat32() if is_half(network) else nullcontext()

    def next_logits(self, states: Tensor) -> Tensor:
        """Return the float32 logits ``(B, V)`` of final states ``(B, D)``."""
        weight = self.product_weights().head
        logits = states.new_empty((len(states), len(weight)), dtype=torch.float32)
        multiply(states, weight.T, logits)
        return capped(logits, softcap_of(self.network.config))

    def product_weights(self) -> ProductWeights:
        """Return the weights for passes without gradient."""
        if self._products is None:
            self._products = for_products(self.changes, self.product_type)
        matrices = self.matrices
        return ProductWeights(matrices.apart(self._products), matrices.head)

    def release(self) -> None:
        """Free rounded weights."""
        self.held.release()

    @property
    def product_type(self) -> torch.dtype:
        """Precision of matrix products."""
        return torch.bfloat16 if self.facts.compute == "bfloat16" else torch.float32

    @property
    def readout_type(self) -> torch.dtype:
        """Precision for reading out states: that of products on a GPU, else float32."""
        return self.product_type if self.device.type == "cuda" else torch.float32

    def states(self, pairs: Sequence[Pair], *, after: int = 0) -> Tensor:
        """Return the ``(N, D)`` final states that predict the completions' tokens.

        `after=1` adds one per pair, which predicts what would come next.
        """
        weights = self.product_weights().decoder
        return self.states_under(self.decoder, weights, pairs, after=after)

    def states_under(
        self,
        decoder: Any,
        weights: Mapping[str, Tensor],
        pairs: Sequence[Pair],
        *,
        after: int = 0,
    ) -> Tensor:
        """Return `states` for a decoder with some weights replaced."""
        ids = padded([prompt + completion for prompt, completion in pairs])
        hidden = self.run(decoder, weights, {"input_ids": ids.to(self.device)})
        rows, columns = predicting_positions(pairs, after=after)
        return hidden[rows, columns]

    def forward(self, pairs: Sequence[Pair]) -> Tensor:
        """Return the final states ``(B, T, D)`` of right-padded pairs.

        No mask is needed, since no real position looks ahead at padding.
        """
        ids = padded([prompt + completion for prompt, completion in pairs])
        return self.run_decoder(input_ids=ids.to(self.device))

    def run_decoder(self, **inputs: Any) -> Tensor:
        """Return the final states ``(B, T, D)`` of `input_ids` ``(B, T)``."""
        return self.run(self.decoder, self.product_weights().decoder, inputs)

    def run(
        self, decoder: Any, weights: Mapping[str, Tensor], inputs: dict[str, Any]
    ) -> Tensor:
        """Return a decoder's final states, with some of its weights replaced."""
        options = {"use_cache": False} | inputs
        usual: AbstractContextManager[None] = nullcontext()
        # A pass with a mask uses the library's own cache.
        if self.facts.shares_prompts and "attention_mask" not in inputs:
            options = {"attending": Whole()} | options
            usual = replacing(decoder.config)
        with self.computing(decoder), usual:
            output = torch.func.functional_call(decoder, dict(weights), kwargs=options)
        states: Tensor = output.last_hidden_state
        return states


@dataclass(frozen=True, slots=True, eq=False)
class ProductWeights:
    """Weights that replace a network's own in a pass."""

    decoder: Mapping[str, Tensor]
    """Keyed by the decoder's names; missing ones stay as they are."""
    head: Tensor
    """``(V, D)``, in the type of products."""


def predicting_positions(pairs: Sequence[Pair], *, after: int) -> tuple[Tensor, Tensor]:
    """Return row and column of each position that predicts a token."""
    rows: list[int] = []
    columns: list[int] = []
    for row, (prompt, completion) in enumerate(pairs):
        count = len(completion) + after
        rows += [row] * count
        # The state at position t predicts token t + 1.
        columns += range(len(prompt) - 1, len(prompt) - 1 + count)
    return torch.tensor(rows), torch.tensor(columns)


def softcap_of(config: Any) -> float | None:
    """Return a model's final softcap, if it has one."""
    value = config.to_dict().get("final_logit_softcapping")
    return None if value is None else float(value)
