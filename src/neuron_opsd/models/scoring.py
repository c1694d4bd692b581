"""What a model says of some tokens, and how far that is from what it says elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuron_opsd.errors import NotFiniteError
from neuron_opsd.method.divergence import capped
from neuron_opsd.method.fused_loss import HiddenStates
from neuron_opsd.records import Pair, TokenIds


@dataclass(frozen=True, slots=True)
class Head:
    """The unembedding of one set of weights."""

    weight: Tensor
    """``(V, D)``."""
    softcap: float | None = None
    """Logits are ``softcap * tanh(logits / softcap)`` where this is set."""

    def reading(self, states: Tensor) -> HiddenStates:
        """Return states ``(N, D)`` with this to read them out."""
        return HiddenStates(states, self.weight, self.softcap)


CHUNK: Final = 128
"""Positions whose logits `divergences` holds at once."""


class Stating(Protocol):
    """A model that gives final states, and the logits of these."""

    def states(self, pairs: Sequence[Pair]) -> Tensor:
        """Return ``(N, D)`` final states that predict the completions' tokens."""
        ...

    def next_logits(self, states: Tensor) -> Tensor:
        """Return the logits ``(N, V)`` that final states give."""
        ...


class Comparing:
    """Adds `divergences` to a model that gives states."""

    def divergences(
        self: Stating, pairs: Sequence[Pair], others: Sequence[Pair]
    ) -> list[float]:
        """Return KL(pair || other) per completion token, in nats.

        Raises:
            NotFiniteError: If one is no number; its places are pairs'.
        """
        found = []
        with torch.inference_mode():
            for pair, other in zip(pairs, others, strict=True):
                chunks = zip(
                    self.states([pair]).split(CHUNK),
                    self.states([other]).split(CHUNK),
                    strict=True,
                )
                total = sum(total_divergence(self, *both) for both in chunks)
                found.append(total / len(pair[1]))
        wrong = [i for i, value in enumerate(found) if not math.isfinite(value)]
        if wrong:
            raise NotFiniteError(
                "the divergence of what it says with demonstrations is not finite",
                wrong,
            )
        return found


def total_divergence(model: Stating, states: Tensor, others: Tensor) -> float:
    """Return the sum over states ``(N, D)`` of KL(first || second), in nats."""
    log_p, log_q = (
        model.next_logits(one).log_softmax(dim=-1) for one in (states, others)
    )
    return float((log_p.exp() * (log_p - log_q)).sum())


def some_logits(state: Tensor, head: Head, tokens: TokenIds) -> NDArray[np.float32]:
    """Return the float32 logits of a few tokens at one position."""
    if not tokens:
        return np.empty(0, dtype=np.float32)
    rows = head.weight[torch.tensor(tokens, device=head.weight.device)]
    logits = capped(rows.float() @ state.float(), head.softcap)
    values: NDArray[np.float32] = logits.cpu().numpy()
    return values
