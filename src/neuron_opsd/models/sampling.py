"""Drawing one token for each row of a batch, each row with its own random numbers.

Axes: B rows, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """The tokens of one step."""

    tokens: Tensor
    """``(B,)`` token ids."""
    logprobs: Tensor
    """``(B,)`` nats, under the distribution that was drawn from."""
    entropies: Tensor
    """``(B,)`` nats, of the same distribution."""


def draw_tokens(
    logits: Tensor, uniform: Tensor, temperature: float, top_p: float
) -> Draw:
    """Draw a token for every row by inverting the cumulative distribution.

    Args:
        logits: ``(B, V)``.
        uniform: ``(B,)`` float64 in [0, 1), one random number per row.
        temperature: 0 takes the most probable token.
        top_p: Keep the most probable tokens that together reach this share.

    Returns:
        Tokens with the log-probability and entropy of what they were drawn from.
    """
    if temperature == 0.0:
        tokens = logits.argmax(dim=-1)
        zeros = torch.zeros_like(tokens, dtype=torch.float32)
        return Draw(tokens, zeros, zeros)
    probabilities = (logits.float() / temperature).softmax(dim=-1)
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    # float64 keeps the draw from depending on rounding in the long cumulative sum.
    cumulative = ranked.double().cumsum(dim=-1)
    # A token is kept while what stands before it has not reached top_p.
    outside = (cumulative - ranked.double()) >= top_p
    kept = ranked.double().masked_fill(outside, 0.0)
    total = kept.sum(dim=-1, keepdim=True)
    target = uniform.to(kept.device).unsqueeze(-1) * total
    place = torch.searchsorted(kept.cumsum(dim=-1), target, right=True)
    last = (~outside).sum(dim=-1, keepdim=True) - 1
    place = torch.minimum(place, last)
    share = kept / total
    logs = share.log().masked_fill(share == 0.0, 0.0)
    return Draw(
        order.gather(-1, place).squeeze(-1),
        logs.gather(-1, place).squeeze(-1).float(),
        -(share * logs).sum(dim=-1).float(),
    )
