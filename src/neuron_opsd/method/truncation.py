"""The distribution that tokens are drawn from, made of a model's logits.

Axes: B rows, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

NUCLEUS: Final = 256
"""Most probable tokens among which the edge of the nucleus is looked for first."""


@dataclass(frozen=True, slots=True)
class Truncation:
    """How a distribution is sharpened and cut before a token is drawn."""

    temperature: float
    """Divides the logits; above 0."""
    top_p: float = 1.0
    top_k: int = 0
    """Keep the most probable tokens, so many of them; 0 keeps all."""
    min_p: float = 0.0
    """Keep tokens at least this many times as probable as the most probable one."""


def truncated(logits: Tensor, truncation: Truncation) -> Tensor:
    """Return the logits of what is drawn from, ``(B, V)``, the largest of a row at 0.

    First the `top_k` most probable tokens are kept, of these those that together reach
    `top_p`, of these those within `min_p` of the most probable, as in transformers;
    each with all that are as probable as the last one kept. A token that is not kept
    has the lowest number of float32, or half of it; a row where there is nothing to
    draw is NaN.
    """
    temperature = truncation.temperature
    scaled = logits.float() / temperature if temperature != 1.0 else logits
    # Minus infinity would make its share of the entropy NaN.
    least = torch.finfo(torch.float32).min / 2
    scaled = scaled.float().clamp(min=least)
    if 0 < truncation.top_k < scaled.shape[-1]:
        last = scaled.topk(truncation.top_k).values[:, -1:]
        scaled = scaled.masked_fill(scaled < last, least)
    if truncation.top_p < 1.0:
        scaled = within_nucleus(scaled, truncation.top_p)
    # Beside the largest, so that a sure token loses nothing to rounding.
    largest = scaled.amax(dim=-1, keepdim=True)
    # Where all logits are minus infinity there is nothing to draw.
    scaled -= largest.masked_fill(largest <= least, torch.nan)
    if truncation.min_p > 0.0:
        far = scaled < math.log(truncation.min_p)
        scaled = scaled.masked_fill(far, least)
    return scaled


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
