"""Read out states: logits, divergences and log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuron_opsd.errors import NotFiniteError
from neuron_opsd.method.fused_loss import HiddenStates
from neuron_opsd.method.losses import capped
from neuron_opsd.models.room import Room
from neuron_opsd.records import Pair, TokenIds

CHUNK: Final = 128
"""Positions whose logits a divergence holds at once."""


@dataclass(frozen=True, slots=True)
class Head:
    """The unembedding of one set of weights."""

    weight: Tensor
    """``(V, D)``."""
    softcap: float | None = None
    """If set, logits are ``softcap * tanh(logits / softcap)``."""

    def reading(self, states: Tensor) -> HiddenStates:
        """Return states ``(N, D)`` together with this head."""
        return HiddenStates(states, self.weight, self.softcap)

    def some_logits(self, state: Tensor, tokens: TokenIds) -> NDArray[np.float32]:
        """Return the float32 logits of a few tokens at one position."""
        if not tokens:
            return np.empty(0, dtype=np.float32)
        rows = self.weight[torch.tensor(tokens, device=self.weight.device)]
        logits = capped(rows.float() @ state.float(), self.softcap)
        values: NDArray[np.float32] = logits.cpu().numpy()
        return values


def mean_divergences(
    pairs: Sequence[Pair],
    others: Sequence[Pair],
    states: Callable[[Sequence[Pair]], Tensor],
    logits: Callable[[Tensor], Tensor],
) -> list[float]:
    """Implement `Scorer.divergences`.

    `states` gives the ``(N, D)`` states that predict completions' tokens, `logits`
    their ``(N, V)`` logits.
    """

    def terms(pair: Pair, other: Pair) -> Iterator[float]:
        both = (states([one]).split(CHUNK) for one in (pair, other))
        for chunks in zip(*both, strict=True):
            log_p, log_q = (logits(chunk).log_softmax(dim=-1) for chunk in chunks)
            yield float((log_p.exp() * (log_p - log_q)).sum())

    found = [
        sum(terms(pair, other)) / len(pair[1])
        for pair, other in zip(pairs, others, strict=True)
    ]
    return finite(found, "the divergence of what it says with demonstrations")


def completion_logprobs(
    pairs: Sequence[Pair],
    states: Callable[[Sequence[Pair]], Tensor],
    logits: Callable[[Tensor], Tensor],
    room: Room,
) -> list[float]:
    """Implement `Scorer.logprobs`; see `mean_divergences`."""
    found = [0.0] * len(pairs)

    def score(batch: Sequence[int]) -> None:
        values = summed_logprobs([pairs[i] for i in batch], states, logits)
        for i, value in zip(batch, values, strict=True):
            found[i] = value

    room.each_pass(pairs, score)
    return finite(found, "the log-probability of its completion")


def summed_logprobs(
    pairs: Sequence[Pair],
    states: Callable[[Sequence[Pair]], Tensor],
    logits: Callable[[Tensor], Tensor],
) -> list[float]:
    """Return each completion's log-probability, in one pass."""
    predicting = states(pairs)
    targets = torch.tensor(
        [token for _, completion in pairs for token in completion],
        device=predicting.device,
    )
    of_tokens = torch.cat(
        [
            logits(some).log_softmax(dim=-1).gather(1, chosen[:, None])[:, 0]
            for some, chosen in zip(
                predicting.split(CHUNK), targets.split(CHUNK), strict=True
            )
        ]
    )
    sizes = [len(completion) for _, completion in pairs]
    # Sums over thousands of tokens would lose digits in float32.
    return [float(part.double().sum()) for part in of_tokens.split(sizes)]


def finite(values: list[float], what: str) -> list[float]:
    """Return finite numbers; else raise, naming `what` and their places."""
    wrong = [i for i, value in enumerate(values) if not math.isfinite(value)]
    if wrong:
        raise NotFiniteError(f"{what} is not finite", wrong)
    return values
