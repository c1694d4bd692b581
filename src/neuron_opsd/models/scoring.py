"""What a model says of some tokens, and how far that is from what it says elsewhere."""

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
    """Logits are ``softcap * tanh(logits / softcap)`` where this is set."""

    def reading(self, states: Tensor) -> HiddenStates:
        """Return states ``(N, D)`` with this to read them out."""
        return HiddenStates(states, self.weight, self.softcap)

    def some_logits(self, state: Tensor, tokens: TokenIds) -> NDArray[np.float32]:
        """Return the float32 logits of a few tokens at one position."""
        if not tokens:
            return np.empty(0, dtype=np.float32)
        rows = self.weight[torch.tensor(tokens, device=self.weight.device)]
        logits = capped(rows.float() @ state.float(), self.softcap)
        values: NDArray[np.float32] = logits.cpu().numpy()
        return values


def sum_logprobs(
    pairs: Sequence[Pair],
    room: Room,
    states: Callable[[Sequence[Pair]], Tensor],
    logits: Callable[[Tensor], Tensor],
) -> list[float]:
    """Return what `Scorer.logprobs` does; `states` and `logits` as below."""
    found = [0.0] * len(pairs)

    def score(batch: Sequence[int]) -> None:
        some = [pairs[i] for i in batch]
        targets = torch.tensor([token for _, ids in some for token in ids])
        at = states(some)
        chunks = zip(at.split(CHUNK), targets.to(at.device).split(CHUNK), strict=True)
        each = [
            logits(part).log_softmax(dim=-1).gather(1, ids[:, None])[:, 0].double()
            for part, ids in chunks
        ]
        lengths = [len(ids) for _, ids in some]
        for i, own in zip(batch, torch.cat(each).split(lengths), strict=True):
            found[i] = float(own.sum())

    room.each_pass(pairs, score)
    wrong = [i for i, value in enumerate(found) if not math.isfinite(value)]
    if wrong:
        raise NotFiniteError("the log-probability of an answer is not finite", wrong)
    return found


def mean_divergences(
    pairs: Sequence[Pair],
    others: Sequence[Pair],
    states: Callable[[Sequence[Pair]], Tensor],
    logits: Callable[[Tensor], Tensor],
) -> list[float]:
    """Return what `Scorer.divergences` does.

    `states` gives ``(N, D)`` final states that predict completions' tokens, `logits`
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
    wrong = [i for i, value in enumerate(found) if not math.isfinite(value)]
    if wrong:
        raise NotFiniteError(
            "the divergence of what it says with demonstrations is not finite", wrong
        )
    return found
