"""Sample one token per row, each row with its own random numbers.

Axes: B rows, V vocabulary, W tokens of a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from neuron_opsd.method.truncation import truncated
from neuron_opsd.models.roles import Sampling

BLOCK: Final = 256
"""W: tokens whose probabilities are summed first."""

ROWS: Final = 16
"""Rows sampled at once on a CPU, to keep their logits in its cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """The tokens of one step."""

    tokens: Tensor
    logprobs: Tensor
    """``(B,)`` nats, under the sampling distribution."""
    entropies: Tensor
    """``(B,)`` nats."""


def draw_tokens(logits: Tensor, uniform: Tensor, sampling: Sampling) -> Draw:
    """Sample a token per row by inverting the cumulative distribution.

    Tokens are in the order of their ids. A row's token does not depend on the batch;
    its log-probability is NaN if its logits cannot be sampled from.

    Args:
        logits: ``(B, V)``.
        uniform: ``(B,)`` float64 in [0, 1), one random number per row.
        sampling: A temperature of 0 takes the most probable token; others sample from
            the `truncated` logits.
    """
    if sampling.temperature == 0.0:
        tokens = logits.argmax(dim=-1)
        best = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).float()
        zeros = best - best  # NaN if the best is NaN or infinite
        return Draw(tokens, zeros, zeros)
    # A GPU needs many rows at once.
    size = ROWS if logits.device.type == "cpu" else max(1, len(logits))
    numbers = uniform.to(logits.device).split(size)
    parts = [
        draw_some(*some, sampling)
        for some in zip(logits.split(size), numbers, strict=True)
    ]
    return Draw(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def draw_some(
    logits: Tensor, uniform: Tensor, sampling: Sampling
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the columns of a `Draw` for a few rows."""
    scaled = truncated(logits, sampling.truncation)
    weights = scaled.exp()
    tokens = inverted(weights, uniform)
    total = weights.sum(dim=-1)
    drawn = scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    mean = weights.mul_(scaled).sum(dim=-1) / total
    return tokens, drawn - total.log(), total.log() - mean


def inverted(weights: Tensor, uniform: Tensor) -> Tensor:
    """Return for each row the token where its cumulative sum passes its number.

    The block is found first, then the token. Weights ``(B, V)`` are proportional to
    probabilities.
    """
    rows, size = weights.shape
    if padding := -size % BLOCK:
        weights = torch.nn.functional.pad(weights, (0, padding))
    blocks = weights.view(rows, -1, BLOCK)
    block, rest = passed(blocks.sum(dim=-1), uniform)
    inside = blocks[torch.arange(rows, device=blocks.device), block]
    token, _ = passed(inside, rest)
    return block * BLOCK + token


def passed(weights: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each row's cumulative sum passes its number, and how far in.

    Weights ``(B, W)`` are not negative, with a positive one per row; `uniform` ``(B,)``
    is in [0, 1). Returns ``(B,)`` indices of positive weights and ``(B,)`` shares in
    [0, 1).
    """
    sums = weights.double().cumsum(dim=-1)
    target = uniform.unsqueeze(-1) * sums[:, -1:]
    # Rounding must not lead past the last sum.
    place = torch.searchsorted(sums, target, right=True)
    last = (sums < sums[:, -1:]).sum(dim=-1, keepdim=True)
    place = torch.minimum(place, last)
    weight = weights.double().gather(-1, place)
    before = sums.gather(-1, place) - weight
    share = ((target - before) / weight).clamp(0.0, 1.0 - 2.0**-53)
    return place.squeeze(-1), share.squeeze(-1)
