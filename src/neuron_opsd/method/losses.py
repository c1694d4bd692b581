"""Losses of distillation and imitation: sums over positions, with their gradients.

Gradients are formulas, and replace the student's logits.

Axes: N completion tokens, r tokens of a block, k top tokens, V vocabulary. Divergences
are in nats.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neuron_opsd.method.divergence import DIVERGENCES
from neuron_opsd.method.fused_loss import HiddenStates, fused_loss, weighted
from neuron_opsd.method.settings import DistillConfig


def divergences_of(student: Tensor, teacher: Tensor, config: DistillConfig) -> Tensor:
    """Return divergences ``(r,)`` and replace the student's logits by the gradient.

    Both logits are ``(r, V)``; the teacher's are overwritten too.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"student logits have shape {tuple(student.shape)} but teacher logits have "
            f"shape {tuple(teacher.shape)}; score the same completion tokens with the "
            "same vocabulary"
        )
    for logits in (student, teacher):
        torch.log_softmax(logits, dim=-1, out=logits)
    if config.top_k == 0:
        values, grad = value_and_grad(student, teacher, config)
        # If the gradient was made in place, this copies nothing.
        student.copy_(grad)
        return values
    return top_divergences(student, teacher, config)


def top_divergences(log_p: Tensor, log_q: Tensor, config: DistillConfig) -> Tensor:
    """Apply `divergences_of` to the top tokens and one bucket of all others.

    No gradient flows through the choice of top tokens.

    Source: the tail bucket of SDPO, arXiv:2601.20802.
    """
    chooser = log_q if config.top_k_of == "teacher" else log_p
    top = chooser.topk(min(config.top_k, chooser.shape[-1]), dim=-1).indices
    buckets_p, buckets_q = with_tail(log_p, top), with_tail(log_q, top)
    tail = buckets_p[:, -1:].clone()
    values, grad = value_and_grad(buckets_p, buckets_q, config)
    # A token's share of the tail's gradient is its share of the tail's mass.
    log_p.sub_(tail).exp_().mul_(grad[:, -1:]).scatter_(-1, top, grad[:, :-1])
    return values


def with_tail(log_probs: Tensor, top: Tensor) -> Tensor:
    """Return log-probabilities ``(r, k + 1)`` of the top tokens and the rest."""
    rest = log_probs.scatter(-1, top, -torch.inf).logsumexp(dim=-1, keepdim=True)
    # The rest may be 0, and the difference of two infinities is NaN.
    least = torch.finfo(rest.dtype).tiny
    return torch.cat(
        [log_probs.gather(-1, top), rest.exp_().clamp_min_(least).log_()], dim=-1
    )


def value_and_grad(
    log_p: Tensor, log_q: Tensor, config: DistillConfig
) -> tuple[Tensor, Tensor]:
    """Return divergences and their gradient by the student's logits.

    Source: the clip of entries is OPSD's, arXiv:2601.18734.
    """
    entries = DIVERGENCES[config.divergence].entries(log_p, log_q, config.beta)
    p, terms, slopes = entries.p, entries.terms, entries.slopes
    if config.entry_clip > 0.0:
        slopes = torch.add(slopes, p, alpha=entries.shift)
        slopes.masked_fill_(terms > config.entry_clip, 0.0)
        terms.clamp_max_(config.entry_clip)
    values = terms.sum(dim=-1)
    total = values if slopes is terms else slopes.sum(dim=-1)
    return values, slopes.addcmul_(p, total.unsqueeze(-1), value=-1.0)


def distillation_loss(
    student: HiddenStates,
    teacher: HiddenStates,
    config: DistillConfig,
    weights: Tensor | None = None,
) -> Tensor:
    """Sum the divergence of the student from the teacher over all positions.

    Args:
        student: Its states and weight receive gradients if they require them.
        teacher: A constant; with the student's weight, one product makes both logits.
        config: Sets the divergence and the positions per tile.
        weights: ``(N,)`` how often each position counts; once by default.
    """
    if len(student.hidden) != len(teacher.hidden):
        raise ValueError(
            f"the student has {len(student.hidden)} positions but the teacher has "
            f"{len(teacher.hidden)}; score the same completion tokens"
        )

    def against_teacher(logits: Sequence[Tensor], rows: slice) -> Tensor:
        del rows
        of_student, of_teacher = logits
        return divergences_of(of_student, of_teacher, config)

    loss = weighted(against_teacher, weights, len(student.hidden))
    return fused_loss((student, teacher), loss, config.chunk_positions)


def imitation_loss(
    student: HiddenStates, targets: Tensor, chunk: int, weights: Tensor | None = None
) -> Tensor:
    """Sum the cross-entropy of targets over all positions, in nats.

    Student and weights are as in `distillation_loss`, targets ``(N,)`` token ids,
    `chunk` the positions per tile.
    """

    def of_targets(logits: Sequence[Tensor], rows: slice) -> Tensor:
        (log_p,) = logits
        wanted = targets[rows].unsqueeze(-1)
        torch.log_softmax(log_p, dim=-1, out=log_p)
        values = -log_p.gather(-1, wanted).squeeze(-1)
        log_p.exp_().scatter_add_(-1, wanted, log_p.new_full(wanted.shape, -1.0))
        return values

    loss = weighted(of_targets, weights, len(student.hidden))
    return fused_loss((student,), loss, chunk)


def capped(logits: Tensor, softcap: float | None) -> Tensor:
    """Apply the softcap that some models use."""
    if softcap is None:
        return logits
    return softcap * torch.tanh(logits / softcap)
