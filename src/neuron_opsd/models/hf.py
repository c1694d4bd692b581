"""A causal language model of the transformers library behind `LanguageModel`.

Axes: B rows of a batch, T positions, N completion tokens of a batch, F neurons of one
layer, D residual width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuron_opsd.method.divergence import capped
from neuron_opsd.models.batches import batches
from neuron_opsd.models.generation import generate
from neuron_opsd.models.mlps import GatedMLP
from neuron_opsd.models.protocol import (
    ContributionConsumer,
    Head,
    ModelFacts,
    NeuronValue,
    Pair,
    Sampling,
)
from neuron_opsd.models.tokens import Tokens
from neuron_opsd.records import Completion, Prompt, TokenIds


class HFModel:
    """A frozen model: prompts in; completions, logits and contributions out."""

    def __init__(
        self,
        network: nn.Module,
        tokens: Tokens,
        facts: ModelFacts,
        mlps: Sequence[GatedMLP],
        tokens_per_batch: int,
    ) -> None:
        self.network: Any = network
        self.tokens = tokens
        self.tokens_per_batch = tokens_per_batch
        self._facts = facts
        self.mlps = tuple(mlps)

    @property
    def facts(self) -> ModelFacts:
        """What the model is."""
        return self._facts

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self._facts.device)

    def encode(self, prompt: Prompt) -> TokenIds:
        """Return the prompt's token ids, chat template and first token included."""
        return self.tokens.encode(prompt)

    def encode_answer(self, prompt: Prompt, answer: str) -> TokenIds:
        """Return what would complete the prompt with this answer, end included."""
        return self.tokens.encode_answer(prompt, answer)

    def decode(self, token_ids: TokenIds) -> str:
        """Return the text of a completion without control tokens, stripped."""
        return self.tokens.decode(token_ids)

    def sample(
        self,
        prompts: Sequence[TokenIds],
        seeds: Sequence[Sequence[int]],
        sampling: Sampling,
    ) -> list[list[Completion]]:
        """Draw one completion per seed for every prompt; equal seeds draw alike."""
        with torch.inference_mode(), self.computing():
            return generate(self, prompts, seeds, sampling)

    def logits_at(
        self, pairs: Sequence[Pair], columns: Sequence[Sequence[TokenIds]]
    ) -> list[list[NDArray[np.float32]]]:
        """Return the logits of a few tokens at a few positions."""
        results: list[list[NDArray[np.float32]]] = [[] for _ in pairs]
        head = self.student_head()
        with torch.inference_mode():
            for batch in batches(pairs, self.tokens_per_batch):
                # One position more than the completion: what would come next.
                states = self.states([pairs[i] for i in batch], after=1)
                sizes = [len(pairs[i][1]) + 1 for i in batch]
                for i, rows in zip(batch, states.split(sizes), strict=True):
                    results[i] = [
                        some_logits(row, head, wanted)
                        for row, wanted in zip(rows, columns[i], strict=True)
                    ]
        return results

    def capture(
        self,
        pairs: Sequence[Pair],
        value: NeuronValue,
        consume: ContributionConsumer,
        *,
        half_projections: bool = False,
    ) -> None:
        """Run one forward pass and hand on every layer's contribution scores."""
        rows, columns = predicting_positions(pairs, after=0)
        targets = [token for _, completion in pairs for token in completion]
        distinct, place = np.unique(targets, return_inverse=True)
        unembedding = self.student_head().weight
        embeddings = unembedding[torch.from_numpy(distinct).to(self.device)].float()
        places = torch.from_numpy(place).to(self.device)

        def score(layer: int, activations: Tensor) -> None:
            at_tokens = activations[rows, columns].float()
            with torch.autocast(self.device.type, enabled=False):
                weight = self.mlps[layer].down_proj.weight.float()
                projections = embeddings @ weight
            if half_projections:
                projections = projections.half().float()
            consume(layer, at_tokens * projections[places])

        with torch.inference_mode(), hooked(self.mlps, value, score):
            self.forward(pairs)

    def student_head(self) -> Head:
        """Return the unembedding."""
        weight: Tensor = self.network.get_output_embeddings().weight
        return Head(weight, softcap_of(self.network.config))

    def computing(self) -> AbstractContextManager[Any]:
        """Return the context in which matrix products have the chosen precision."""
        if self._facts.compute == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def states(self, pairs: Sequence[Pair], *, after: int = 0) -> Tensor:
        """Return ``(N, D)`` final states that predict the completions' tokens.

        Args:
            pairs: One forward pass holds all of them.
            after: 1 adds to each pair the state that predicts what would come next.
        """
        rows, columns = predicting_positions(pairs, after=after)
        hidden = self.forward(pairs)
        return hidden[rows, columns]

    def forward(self, pairs: Sequence[Pair]) -> Tensor:
        """Return the final states ``(B, T, D)`` of pairs padded on the right.

        Padding on the right needs no mask: no real position looks ahead at it. So
        nothing depends on which token pads, which may also be the end token.
        """
        with self.computing():
            return self.run_decoder(padded(pairs).to(self.device))

    def run_decoder(self, token_ids: Tensor) -> Tensor:
        """Return the final states ``(B, T, D)`` of token ids ``(B, T)``."""
        decoder = self.network.get_decoder()
        states: Tensor = decoder(input_ids=token_ids, use_cache=False).last_hidden_state
        return states


def padded(pairs: Sequence[Pair]) -> Tensor:
    """Return the token ids of pairs as ``(B, T)``, padded on the right with zeros."""
    sequences = [prompt + completion for prompt, completion in pairs]
    ids = torch.zeros(len(pairs), max(map(len, sequences)), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
    return ids


def predicting_positions(pairs: Sequence[Pair], *, after: int) -> tuple[Tensor, Tensor]:
    """Return row and column of every position that predicts a completion token."""
    rows: list[int] = []
    columns: list[int] = []
    for row, (prompt, completion) in enumerate(pairs):
        count = len(completion) + after
        rows += [row] * count
        # One before the token: the state at position t predicts token t + 1.
        columns += range(len(prompt) - 1, len(prompt) - 1 + count)
    return torch.tensor(rows), torch.tensor(columns)


def some_logits(state: Tensor, head: Head, tokens: TokenIds) -> NDArray[np.float32]:
    """Return the float32 logits of a few tokens at one position."""
    if not tokens:
        return np.empty(0, dtype=np.float32)
    rows = head.weight[torch.tensor(tokens, device=head.weight.device)]
    logits = capped(rows.float() @ state.float(), head.softcap)
    values: NDArray[np.float32] = logits.cpu().numpy()
    return values


def softcap_of(config: Any) -> float | None:
    """Return the final softcap of a model's configuration, if it has one."""
    value = config.to_dict().get("final_logit_softcapping")
    return None if value is None else float(value)


@contextmanager
def hooked(
    mlps: Sequence[GatedMLP],
    value: NeuronValue,
    score: Callable[[int, Tensor], None],
) -> Iterator[None]:
    """Call ``score(layer, activations)`` for every layer of the next forward pass."""
    handles = [
        mlp.watch(value, partial(score, layer)) for layer, mlp in enumerate(mlps)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
