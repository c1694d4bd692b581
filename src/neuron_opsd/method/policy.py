"""The policy-gradient loss on sampled tokens, with its gradient.

Log-probabilities are under the distribution sampled from: the softmax of logits divided
by the temperature, over the tokens allowed. Positions with one allowed token add
nothing.

Axes: N completion tokens, r tokens of a block, D residual width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from neuron_opsd.method.divergence import reverse_kl
from neuron_opsd.method.fused_loss import HiddenStates, fused_loss, measured
from neuron_opsd.records import TokenIds

Readouts: TypeAlias = tuple[HiddenStates, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """How far an update may take the student."""

    clip_low: float
    """How far below 1 the ratio of new to old probability counts; `clip_high`:
    above."""
    clip_high: float
    kl_weight: float = 0.0
    """Of the divergence from the reference; 0 needs none."""


@dataclass(frozen=True, slots=True, eq=False)
class PolicyTokens:
    """Completion tokens to learn from, and how they were sampled."""

    targets: Tensor
    """``(N,)`` token ids."""
    advantages: Tensor
    """``(N,)`` of each token's completion."""
    weights: Tensor
    """``(N,)`` how often each token counts."""
    allowed: Sequence[TokenIds]
    """The tokens allowed at each of N; empty for the whole vocabulary."""
    temperature: float
    old_logprobs: Tensor | None = None
    """``(N,)``; `None` for the student's own, right for one update per batch."""

    def at(self, places: slice | Tensor) -> PolicyTokens:
        """Select places, by a slice or ids ``(n,)``."""
        old = self.old_logprobs
        return PolicyTokens(
            self.targets[places],
            self.advantages[places],
            self.weights[places],
            self.allowed[places]
            if isinstance(places, slice)
            else [self.allowed[i] for i in places.tolist()],
            self.temperature,
            None if old is None else old[places],
        )


Drawn: TypeAlias = tuple[Readouts, PolicyTokens]


def clipped_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    clip_low: float,
    clip_high: float,
) -> Tensor:
    """Return ``-min(rho A, clip(rho, 1 - low, 1 + high) A)`` with ``rho = p / p_old``.

    All are ``(N,)``: log-probabilities in nats, and advantages A.

    Source: PPO, arXiv:1707.06347, as in GRPO, arXiv:2402.03300; two clips as in DAPO,
    arXiv:2503.14476.
    """
    ratio = torch.exp(logprobs - old_logprobs)
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def low_variance_kl(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Return ``exp(d) - d - 1`` with ``d = reference - logprobs``, at each position.

    Its mean over the student's samples is KL(student || reference), in nats.

    Source: estimator k3 of Schulman, "Approximating KL divergence" (2020), as in GRPO,
    arXiv:2402.03300.
    """
    difference = reference - logprobs
    # exp(d) - 1 would lose the digits of small differences, and most are small.
    return torch.expm1(difference) - difference


def policy_loss(
    student: HiddenStates,
    reference: HiddenStates | None,
    tokens: PolicyTokens,
    limits: Limits,
    chunk: int,
) -> Tensor:
    """Sum the clipped loss and the divergence from the reference.

    ``sum_n weight_n (clipped_loss_n + kl_weight low_variance_kl_n)``, over the
    positions with more than one allowed token.

    Args:
        student: Its states and weight receive gradients if they require them.
        reference: A constant; needed only if the limits give it a weight.
        tokens: Of all N positions.
        limits: The clip and the weight of the divergence.
        chunk: Positions per tile.

    Raises:
        ValueError: If lengths differ, a token was not allowed, the temperature is not
            above 0, or a reference is missing.

    Source: GRPO, arXiv:2402.03300.
    """
    readouts: Readouts = (student,)
    if limits.kl_weight != 0.0:
        if reference is None:
            raise ValueError(
                f"the divergence from the reference has weight {limits.kl_weight} but "
                "there is no reference; give one or set the weight to 0"
            )
        readouts = (student, reference)
    check_tokens(tokens, readouts)
    readouts, tokens = where_drawn(readouts, tokens)
    readouts, tokens = over_allowed(readouts, tokens)

    def of_tile(logits: Sequence[Tensor], rows: slice) -> Tensor:
        return of_block(logits, tokens.at(rows), limits)

    return fused_loss(readouts, of_tile, chunk)


def check_tokens(tokens: PolicyTokens, readouts: Readouts) -> None:
    """Raise ValueError for tokens that no completion could have."""
    num_positions = len(tokens.targets)
    sizes = [("states", len(readout.hidden)) for readout in readouts]
    sizes += [("advantages", len(tokens.advantages)), ("weights", len(tokens.weights))]
    sizes += [("sets of allowed tokens", len(tokens.allowed))]
    if tokens.old_logprobs is not None:
        sizes += [("old log-probabilities", len(tokens.old_logprobs))]
    for name, size in sizes:
        if size != num_positions:
            raise ValueError(
                f"there are {num_positions} targets but {size} {name}; give each "
                "target its own"
            )
    if not tokens.temperature > 0.0:
        raise ValueError(
            f"tokens drawn at temperature {tokens.temperature} have no gradient; draw "
            "them at one above 0"
        )
    for token, allowed in zip(tokens.targets.tolist(), tokens.allowed, strict=True):
        if allowed and token not in allowed:
            raise ValueError(
                f"token {token} was drawn where only {allowed} were allowed; give the "
                "tokens that it was drawn among"
            )


def where_drawn(readouts: Readouts, tokens: PolicyTokens) -> Drawn:
    """Drop positions with only one allowed token."""
    drawn = [n for n, allowed in enumerate(tokens.allowed) if len(allowed) != 1]
    if len(drawn) == len(tokens.allowed):
        return readouts, tokens
    places = torch.tensor(drawn, dtype=torch.long, device=tokens.targets.device)
    kept = tuple(replace(r, hidden=r.hidden[places]) for r in readouts)
    return kept, tokens.at(places)


def over_allowed(readouts: Readouts, tokens: PolicyTokens) -> Drawn:
    """Drop tokens that are allowed nowhere, and renumber the others."""
    if not all(tokens.allowed):
        return readouts, tokens
    kept = sorted({token for allowed in tokens.allowed for token in allowed})
    place = {token: n for n, token in enumerate(kept)}
    ids = torch.tensor(kept, dtype=torch.long, device=tokens.targets.device)
    first = readouts[0].weight
    fewer = first[ids]
    # A shared weight stays shared, so that all logits are made in one product.
    narrow = tuple(
        replace(r, weight=fewer if r.weight is first else r.weight[ids])
        for r in readouts
    )
    return narrow, replace(
        tokens,
        targets=torch.searchsorted(ids, tokens.targets.contiguous()),
        allowed=[tuple(place[t] for t in allowed) for allowed in tokens.allowed],
    )


def of_block(logits: Sequence[Tensor], tokens: PolicyTokens, limits: Limits) -> Tensor:
    """Return losses ``(r,)`` and replace the student's logits by the gradient."""
    wanted = tokens.targets.unsqueeze(-1)
    forbidden = forbidden_at(logits[0], tokens.allowed)
    chosen = []
    for log_p in logits:
        log_p.div_(tokens.temperature)
        if forbidden is not None:
            log_p.masked_fill_(forbidden, -torch.inf)
        torch.log_softmax(log_p, dim=-1, out=log_p)
        chosen.append(log_p.gather(-1, wanted).squeeze(-1))
    values, slopes = value_and_slope(chosen, tokens, limits)
    # The gradient of the target's log p is (onehot - p) / temperature.
    factors = (slopes / tokens.temperature).unsqueeze(-1)
    logits[0].exp_().mul_(-factors).scatter_add_(-1, wanted, factors)
    return values


def forbidden_at(logits: Tensor, allowed: Sequence[TokenIds]) -> Tensor | None:
    """Return the forbidden tokens ``(r, V)``; `None` if there are none."""
    if not any(allowed):
        return None
    forbidden = torch.ones_like(logits, dtype=torch.bool)
    rows = [row for row, tokens in enumerate(allowed) for _ in tokens]
    forbidden[rows, [token for tokens in allowed for token in tokens]] = False
    forbidden[[row for row, tokens in enumerate(allowed) if not tokens]] = False
    return forbidden


def value_and_slope(
    chosen: Sequence[Tensor], tokens: PolicyTokens, limits: Limits
) -> tuple[Tensor, Tensor]:
    """Return losses ``(r,)`` and their slopes by the student's log-probability."""
    own, *others = chosen
    old = own if tokens.old_logprobs is None else tokens.old_logprobs.to(own)
    gains = tokens.advantages.to(own)
    with torch.enable_grad():
        leaf = own.clone().requires_grad_()
        values = clipped_loss(leaf, old, gains, limits.clip_low, limits.clip_high)
        for reference in others:
            values = values + limits.kl_weight * low_variance_kl(leaf, reference)
        values = values * tokens.weights.to(own)
        (slopes,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), slopes


def certainty(student: HiddenStates, chunk: int) -> tuple[Tensor, Tensor]:
    """Return the student's self-certainty and entropy per position, without gradient.

    Over the whole vocabulary at temperature 1.

    Returns:
        Self-certainty ``KL(U || p) = -1/V sum_v log(V p_v)``, with U uniform, and
            entropy ``-sum_v p_v log p_v``; both ``(N,)``, in nats, in float32 or
            better.

    Source: self-certainty of Intuitor, arXiv:2505.19590 (its code leaves out the
    constant ``log V``); entropy as in RENT, arXiv:2505.22660.
    """

    def of_tile(logits: Sequence[Tensor], rows: slice) -> Tensor:
        del rows
        (log_p,) = logits
        torch.log_softmax(log_p, dim=-1, out=log_p)
        sure = -log_p.mean(dim=-1) - math.log(log_p.shape[-1])
        entropy = log_p.exp().mul_(log_p).sum(dim=-1).neg_()
        return torch.stack([sure, entropy], dim=-1)

    sure, entropy = measured((student,), of_tile, 2, chunk).unbind(-1)
    return sure, entropy


def divergence(student: HiddenStates, base: HiddenStates, chunk: int) -> Tensor:
    """Return KL(student || base) ``(N,)`` in nats, without gradient.

    Over the whole vocabulary, in float32 or better.
    """

    def of_tile(logits: Sequence[Tensor], rows: slice) -> Tensor:
        del rows
        for log_p in logits:
            torch.log_softmax(log_p, dim=-1, out=log_p)
        return reverse_kl(logits[0], logits[1]).terms.sum(dim=-1, keepdim=True)

    return measured((student, base), of_tile, 1, chunk).squeeze(-1)
