"""What a neuron's output says by itself: its column, read by the unembedding.

A neuron writes its activation times one column of ``down_proj`` into the residual.
Unembedding that column gives what it adds to each token's logit. As in contribution
scores, later layers, the final norm and a softcap are left out, so its scale is not
that of logits.

Axes: K neurons, D residual width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from torch import Tensor

from neuron_opsd.errors import ModelError
from neuron_opsd.models.hf import HFModel

TOKENS_AT_ONCE: Final = 8192
"""Unembedding rows converted to float32 at once."""

Weights: TypeAlias = tuple[tuple[int, float], ...]
"""Tokens, each with its logit per unit of activation."""


@dataclass(frozen=True, slots=True)
class OutputWeights:
    """The tokens at both ends of one neuron's scale."""

    favoured: Weights
    """Highest first."""
    opposed: Weights
    """Lowest first."""


def output_weights(
    model: HFModel, neurons: Sequence[tuple[int, int]], count: int
) -> list[OutputWeights]:
    """Return the tokens that neurons favour and oppose most, `count` of each.

    Args:
        model: Its adapter, if any, counts.
        neurons: Layer and index within it, both from 0.
        count: Tokens at each end.

    Raises:
        ModelError: If the model's neurons cannot be read.
    """
    if not neurons:
        return []
    if not model.mlps:
        raise ModelError(model.facts.why_no_neurons)
    with torch.inference_mode():
        columns = written_columns(model, neurons)
        ends = [ends_of(model, sign * columns, count) for sign in (1.0, -1.0)]
    return [
        OutputWeights(high, tuple((token, -weight) for token, weight in low))
        for high, low in zip(*ends, strict=True)
    ]


def written_columns(model: HFModel, neurons: Sequence[tuple[int, int]]) -> Tensor:
    """Return what each neuron writes into the residual, ``(D, K)``."""
    found: dict[tuple[int, int], Tensor] = {}
    for layer in sorted({layer for layer, _ in neurons}):
        own = [neuron for one, neuron in neurons if one == layer]
        matrix = model.weight_of(model.mlps[layer].down_proj)()
        found |= {(layer, neuron): matrix[:, neuron].clone() for neuron in own}
    return torch.stack([found[one] for one in neurons], dim=1)


def ends_of(model: HFModel, columns: Tensor, count: int) -> list[Weights]:
    """Return the tokens to which each of K columns ``(D, K)`` adds most.

    Rows of the unembedding without a token are skipped.
    """
    known = min(len(model.tokens.tokenizer), len(model.head().weight))
    values = columns.new_empty((0, columns.shape[1]))
    tokens = torch.empty((0, columns.shape[1]), dtype=torch.long, device=columns.device)
    for start in range(0, known, TOKENS_AT_ONCE):
        rows = model.head().weight[start : min(known, start + TOKENS_AT_ONCE)].float()
        added = rows @ columns
        ids = torch.arange(start, start + len(added), device=columns.device)
        values = torch.cat([values, added])
        tokens = torch.cat([tokens, ids.unsqueeze(1).expand_as(added)])
        # Ties keep the earlier token first.
        order = values.argsort(dim=0, descending=True, stable=True)[:count]
        values, tokens = values.gather(0, order), tokens.gather(0, order)
    return [
        tuple(zip(ids, weights, strict=True))
        for ids, weights in zip(tokens.T.tolist(), values.T.tolist(), strict=True)
    ]
