"""Divergences between student and teacher, with their gradients, and their sums.

Gradients by the student's logits are written out as formulas and put in the place of
these logits, so that a pass over logits makes no copy of them.

Axes: N completion tokens, r tokens of a block of them, k top tokens, V vocabulary.
Divergences are in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from torch import Tensor

from neuron_opsd.config import DistillConfig
from neuron_opsd.method.fused_loss import HiddenStates, one_pass, weighted


@dataclass(frozen=True, slots=True)
class Entries:
    """What each entry of the vocabulary adds to a divergence, and how it grows."""

    p: Tensor
    """The student's probabilities."""
    terms: Tensor
    """What each entry adds; their sum is the divergence."""
    slopes: Tensor
    """Derivatives of the terms by the logarithm of `p`, less `shift` times `p`; may be
    `terms` itself. A multiple of `p` drops out of the gradient by the logits."""
    shift: float = 0.0


Divergence: TypeAlias = Callable[[Tensor, Tensor, float], Entries]
"""Takes log-probabilities of student and teacher, which it may overwrite, and beta."""


def reverse_kl(log_p: Tensor, log_q: Tensor, beta: float = 0.0) -> Entries:
    """Return the entries of KL(student || teacher).

    Source: Eq. 10 of arXiv:2607.02460.
    """
    del beta
    p = log_p.exp()
    terms = log_p.sub_(log_q).mul_(p)
    return Entries(p, terms, terms, shift=1.0)


def forward_kl(log_p: Tensor, log_q: Tensor, beta: float = 0.0) -> Entries:
    """Return the entries of KL(teacher || student)."""
    del beta
    q = log_q.exp()
    terms = log_q.sub_(log_p).mul_(q)
    return Entries(log_p.exp_(), terms, q.neg_())


def jensen_shannon(log_p: Tensor, log_q: Tensor, beta: float = 0.5) -> Entries:
    """Return the entries of the generalised Jensen-Shannon divergence.

    With the mixture ``m = (1 - beta) * student + beta * teacher`` it is
    ``beta * KL(teacher || m) + (1 - beta) * KL(student || m)``; at 0 and at 1, where
    that vanishes, it is the forward and the reverse KL it tends to per unit of beta.

    Source: Agarwal et al., arXiv:2306.13649, with its limits as in GKD trainers.
    """
    if beta == 0.0:
        return forward_kl(log_p, log_q)
    if beta == 1.0:
        return reverse_kl(log_p, log_q)
    p, q = log_p.exp(), log_q.exp()
    # Where both vanish the mixture does too; what it is multiplied by is 0 there.
    log_m = torch.lerp(p, q, beta).clamp_min_(torch.finfo(p.dtype).tiny).log_()
    to_teacher = log_q.sub_(log_m).mul_(q)
    to_student = log_p.sub_(log_m).mul_(p).mul_(1.0 - beta)
    return Entries(p, to_teacher.mul_(beta).add_(to_student), to_student)


DIVERGENCES: Final[Mapping[str, Divergence]] = {
    "reverse-kl": reverse_kl,
    "forward-kl": forward_kl,
    "jsd": jensen_shannon,
}


def compare(student: Tensor, teacher: Tensor, config: DistillConfig) -> Tensor:
    """Return divergences ``(r,)`` and put the gradient in place of student logits.

    Args:
        student: Logits ``(r, V)``; hold the gradient of the sum afterwards.
        teacher: Logits ``(r, V)``; hold nothing of use afterwards.
        config: Names the divergence, and what of the vocabulary it sees.

    Raises:
        ValueError: If the shapes differ.
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
        # Where the gradient was made in place this copies nothing.
        student.copy_(grad)
        return values
    return compare_top(student, teacher, config)


def compare_top(log_p: Tensor, log_q: Tensor, config: DistillConfig) -> Tensor:
    """Do the work of `compare` over the top tokens and one bucket of all others.

    Which tokens are the top ones is taken as given: no gradient flows through it.

    Source: the tail bucket of SDPO, arXiv:2601.20802.
    """
    chooser = log_q if config.top_k_of == "teacher" else log_p
    top = chooser.topk(min(config.top_k, chooser.shape[-1]), dim=-1).indices
    buckets_p, buckets_q = with_tail(log_p, top), with_tail(log_q, top)
    tail = buckets_p[:, -1:].clone()
    values, grad = value_and_grad(buckets_p, buckets_q, config)
    # Each token of the tail has the share of its gradient that it has of its mass.
    log_p.sub_(tail).exp_().mul_(grad[:, -1:]).scatter_(-1, top, grad[:, :-1])
    return values


def with_tail(log_probs: Tensor, top: Tensor) -> Tensor:
    """Return the log-probabilities ``(r, k + 1)`` of top tokens and of all others."""
    rest = log_probs.scatter(-1, top, -torch.inf).logsumexp(dim=-1, keepdim=True)
    # Nothing may be left, and the difference of two infinities is no number.
    least = torch.finfo(rest.dtype).tiny
    return torch.cat(
        [log_probs.gather(-1, top), rest.exp_().clamp_min_(least).log_()], dim=-1
    )


def value_and_grad(
    log_p: Tensor, log_q: Tensor, config: DistillConfig
) -> tuple[Tensor, Tensor]:
    """Return divergences and their gradient by the student's logits.

    Source: the clip of entries is the one of OPSD, arXiv:2601.18734.
    """
    entries = DIVERGENCES[config.divergence](log_p, log_q, config.beta)
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
        student: Its states and weight receive gradients where they ask for them; a
            weight that asks for none costs no product for one.
        teacher: A constant. One product makes both logits where it has the student's
            weight.
        config: Names divergence and positions of a tile.
        weights: ``(N,)`` how often each position counts; once each when left out.

    Returns:
        A scalar, in float32 or better.

    Raises:
        ValueError: If the two, and the weights, have not the same number of positions.
    """
    if len(student.hidden) != len(teacher.hidden):
        raise ValueError(
            f"the student has {len(student.hidden)} positions but the teacher has "
            f"{len(teacher.hidden)}; score the same completion tokens"
        )

    def against_teacher(logits: Sequence[Tensor], rows: slice) -> Tensor:
        del rows
        of_student, of_teacher = logits
        return compare(of_student, of_teacher, config)

    loss = weighted(against_teacher, weights, len(student.hidden))
    return one_pass((student, teacher), loss, config.chunk_positions)


def imitation_loss(
    student: HiddenStates, targets: Tensor, chunk: int, weights: Tensor | None = None
) -> Tensor:
    """Sum the cross-entropy of targets over all positions, in nats.

    Args:
        student: Its states and weight receive gradients where they ask for them.
        targets: ``(N,)`` token ids.
        chunk: Positions of a tile.
        weights: ``(N,)`` how often each position counts; once each when left out.

    Raises:
        ValueError: If there are weights, but not one for each position.
    """

    def of_targets(logits: Sequence[Tensor], rows: slice) -> Tensor:
        (log_p,) = logits
        wanted = targets[rows].unsqueeze(-1)
        torch.log_softmax(log_p, dim=-1, out=log_p)
        values = -log_p.gather(-1, wanted).squeeze(-1)
        log_p.exp_().scatter_add_(-1, wanted, log_p.new_full(wanted.shape, -1.0))
        return values

    loss = weighted(of_targets, weights, len(student.hidden))
    return one_pass((student,), loss, chunk)


def capped(logits: Tensor, softcap: float | None) -> Tensor:
    """Squash logits as the models do that ask for it."""
    if softcap is None:
        return logits
    return softcap * torch.tanh(logits / softcap)
