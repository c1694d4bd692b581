"""How far an engine's probabilities are from the trainer's, and weights for it.

A token's importance weight is the trainer's probability over the engine's, clipped so
that no token counts many times. Products over all preceding tokens would be exact, but
over thousands end at 0 or the clip.

Axes: N completion tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from neuron_opsd.method.fused_loss import HiddenStates, measured
from neuron_opsd.method.truncation import Truncation, truncated

OUTSIDE: Final = -1e30
"""Below this log-probability, the trainer never samples a token."""

CUT_OFF: Final = 1.0
"""Distance counted for such a token, in nats."""


def drawn_logprobs(
    student: HiddenStates, targets: Tensor, truncation: Truncation, chunk: int
) -> Tensor:
    """Return the trainer's log-probabilities of tokens after truncation.

    Targets are token ids ``(N,)``, `chunk` positions make a tile, and there is no
    gradient. Returns ``(N,)`` in nats, below `OUTSIDE` for tokens cut off.
    """

    def of_tile(logits: Sequence[Tensor], rows: slice) -> Tensor:
        kept = truncated(logits[0], truncation)
        wanted = kept.gather(-1, targets[rows].unsqueeze(-1))
        return wanted - kept.logsumexp(dim=-1, keepdim=True)

    return measured((student,), of_tile, 1, chunk).squeeze(-1)


def importance_weights(trainer: Tensor, engine: Tensor, clip: float) -> Tensor:
    """Return ``min(p_trainer / p_engine, clip)`` for each token.

    Takes log-probabilities ``(N,)`` in nats; `clip` is above 0.

    Source: truncated importance sampling, Ionides, "Truncated Importance Sampling"
    (2008), for each token as in Yao et al., "Your Efficient RL Framework Secretly
    Brings You Off-Policy RL Training" (2025).
    """
    return torch.exp(trainer - engine).clamp(max=clip)


def total_gap(trainer: Tensor, engine: Tensor) -> tuple[float, int]:
    """Return the summed distance of log-probabilities, and the number of tokens.

    A token that the trainer would have cut off counts as `CUT_OFF`.
    """
    apart = (trainer - engine).abs().double()
    return float(apart.where(trainer > OUTSIDE, CUT_OFF).sum()), apart.numel()
