"""The distribution that tokens are sampled from.

Axes: B rows, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

NUCLEUS: Final = 256
"""Most probable tokens searched first for the edge of the nucleus."""


@dataclass(frozen=True, slots=True)
class Truncation:
    """How a distribution is sharpened and cut before sampling."""

    temperature: float
    """Divides the logits; above 0."""
    top_p: float = 1.0
    top_k: int = 0
    """Most probable tokens to keep; 0 keeps all."""
    min_p: float = 0.0
    """Least probability to keep, relative to the most probable token's."""


def truncated(logits: Tensor, truncation: Truncation) -> Tensor:
    """Return the logits to sample from, ``(B, V)``, each row's maximum at 0.

    Keeps the `top_k` most probable, of these the `top_p` nucleus, of these those within
    `min_p`, as transformers does, each with all ties of the last one kept. Other tokens
    get the lowest float32, or half of it; a row with nothing to sample is NaN.
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
    # Relative to the largest, so that a sure token loses nothing to rounding.
    largest = scaled.amax(dim=-1, keepdim=True)
    # Where all logits are minus infinity there is nothing to sample.
    scaled -= largest.masked_fill(largest <= least, torch.nan)
    if truncation.min_p > 0.0:
        far = scaled < math.log(truncation.min_p)
        scaled = scaled.masked_fill(far, least)
    return scaled


def within_nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Set logits ``(B, V)`` outside the nucleus to half the lowest number."""
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
