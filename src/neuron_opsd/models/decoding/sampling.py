"""Drawing one token for each row of a batch, each row with its own random numbers.

Axes: B rows, V vocabulary, W tokens of a block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from neuron_opsd.models.roles import Sampling

BLOCK: Final = 256
"""W: tokens whose probabilities are added up before single ones are looked at."""

ROWS: Final = 16
"""Rows drawn at once on a processor: few enough that its cache holds their logits."""

NUCLEUS: Final = 256
"""Most probable tokens among which the edge of the nucleus is looked for first."""


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """The tokens of one step."""

    tokens: Tensor
    """``(B,)`` token ids."""
    logprobs: Tensor
    """``(B,)`` nats, under the distribution that was drawn from."""
    entropies: Tensor
    """``(B,)`` nats, of the same distribution."""


def draw_tokens(logits: Tensor, uniform: Tensor, sampling: Sampling) -> Draw:
    """Draw a token for every row by inverting the cumulative distribution.

    The distribution runs over tokens in the order of their ids. A row's draw depends on
    that row alone, whatever the batch.

    Args:
        logits: ``(B, V)``.
        uniform: ``(B,)`` float64 in [0, 1), one random number per row.
        sampling: A temperature of 0 takes the most probable token. Of the others first
            the `top_k` most probable are kept, of these those that together reach
            `top_p`, of these those within `min_p` of the most probable; each with all
            that are as probable as the last one kept. The order is that of
            transformers.

    Returns:
        Tokens with the log-probability and entropy of what they were drawn from; the
        log-probability of a row is NaN where its logits cannot be drawn from.
    """
    if sampling.temperature == 0.0:
        tokens = logits.argmax(dim=-1)
        best = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).float()
        zeros = best - best  # NaN where the best is NaN or infinite
        return Draw(tokens, zeros, zeros)
    # A GPU is kept busy by many rows at once.
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
    """Return the columns of a `Draw` of a few rows, as `draw_tokens` says."""
    temperature = sampling.temperature
    scaled = logits.float() / temperature if temperature != 1.0 else logits
    # Minus infinity would make its share of the entropy NaN.
    least = torch.finfo(torch.float32).min / 2
    scaled = scaled.float().clamp(min=least)
    if 0 < sampling.top_k < scaled.shape[-1]:
        last = scaled.topk(sampling.top_k).values[:, -1:]
        scaled = scaled.masked_fill(scaled < last, least)
    if sampling.top_p < 1.0:
        scaled = within_nucleus(scaled, sampling.top_p)
    # Beside the largest, so that a sure token loses nothing to rounding.
    largest = scaled.amax(dim=-1, keepdim=True)
    # Where all logits are minus infinity there is nothing to draw.
    scaled -= largest.masked_fill(largest <= least, torch.nan)
    if sampling.min_p > 0.0:
        far = scaled < math.log(sampling.min_p)
        scaled = scaled.masked_fill(far, least)
    weights = scaled.exp()
    tokens = inverted(weights, uniform)
    total = weights.sum(dim=-1)
    drawn = scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    mean = weights.mul_(scaled).sum(dim=-1) / total
    return tokens, drawn - total.log(), total.log() - mean


def within_nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Return the logits ``(B, V)`` with those outside the nucleus at the lowest."""
    probabilities = logits.softmax(dim=-1)
    ranked = probabilities.topk(min(NUCLEUS, logits.shape[-1])).values
    if (ranked.double().sum(dim=-1) < top_p).any():
        ranked = probabilities.sort(dim=-1, descending=True).values
    # float64 keeps the edge from depending on rounding in the long sum.
    reached = ranked.double().cumsum(dim=-1) >= top_p
    edge = reached.int().argmax(dim=-1, keepdim=True)
    # Rounding can leave the whole just under `top_p`; then every token is kept.
    edge = torch.where(reached[:, -1:], edge, ranked.shape[-1] - 1)
    return logits.masked_fill(
        probabilities < ranked.gather(-1, edge), torch.finfo(logits.dtype).min / 2
    )


def inverted(weights: Tensor, uniform: Tensor) -> Tensor:
    """Return for each row the token at which its distribution passes its number.

    First the block of tokens is found, then the token in it, so that no sum runs along
    the whole vocabulary twice. Weights ``(B, V)`` are in proportion to probabilities.
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
    """Return where each row's sum passes its number, and how far into that place.

    Args:
        weights: ``(B, W)``, not negative, one of each row positive.
        uniform: ``(B,)`` in [0, 1): the share of the row's sum to pass.

    Returns:
        ``(B,)`` places, each of a positive weight, and ``(B,)`` shares in [0, 1).
    """
    sums = weights.double().cumsum(dim=-1)
    target = uniform.unsqueeze(-1) * sums[:, -1:]
    # The first sum above the target; rounding must not lead past the last of them.
    place = torch.searchsorted(sums, target, right=True)
    last = (sums < sums[:, -1:]).sum(dim=-1, keepdim=True)
    place = torch.minimum(place, last)
    weight = weights.double().gather(-1, place)
    before = sums.gather(-1, place) - weight
    share = ((target - before) / weight).clamp(0.0, 1.0 - 2.0**-53)
    return place.squeeze(-1), share.squeeze(-1)
