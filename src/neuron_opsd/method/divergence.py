"""Divergences between student and teacher, with gradients by formula.

Settings name them, so PyTorch, which takes seconds, is imported late. Axes: r tokens, V
vocabulary. Divergences are in nats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Entries:
    """What each vocabulary entry adds to a divergence, and the slopes."""

    p: Tensor
    """Student probabilities."""
    terms: Tensor
    """Their sum is the divergence."""
    slopes: Tensor
    """Derivatives of the terms by log `p`, less `shift` times `p`; may be `terms`
    itself. Multiples of `p` drop out of the gradient by the logits."""
    shift: float = 0.0


@dataclass(frozen=True, slots=True)
class Divergence:
    """A divergence to train on."""

    entries: Callable[[Tensor, Tensor, float], Entries]
    """Takes log-probabilities of student and teacher (may overwrite them), and beta."""
    help: str


def reverse_kl(log_p: Tensor, log_q: Tensor, beta: float = 0.0) -> Entries:
    """Return the entries of KL(student || teacher), Eq. 10 of arXiv:2607.02460."""
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

    With ``m = (1 - beta) * student + beta * teacher`` it is ``beta * KL(teacher || m) +
    (1 - beta) * KL(student || m)``. At 0 and 1, where that vanishes, it is its limit
    per unit of beta: the forward and the reverse KL.

    Source: Agarwal et al., arXiv:2306.13649, with its limits as in GKD trainers.
    """
    from torch import finfo

    if beta == 0.0:
        return forward_kl(log_p, log_q)
    if beta == 1.0:
        return reverse_kl(log_p, log_q)
    p, q = log_p.exp(), log_q.exp()
    # Where both vanish, so does the mixture, but its factor is 0 there.
    log_m = p.lerp(q, beta).clamp_min_(finfo(p.dtype).tiny).log_()
    to_teacher = log_q.sub_(log_m).mul_(q)
    to_student = log_p.sub_(log_m).mul_(p).mul_(1.0 - beta)
    return Entries(p, to_teacher.mul_(beta).add_(to_student), to_student)


DIVERGENCES: Final[dict[str, Divergence]] = {
    "reverse-kl": Divergence(reverse_kl, "KL(student || teacher)"),
    "forward-kl": Divergence(forward_kl, "KL(teacher || student)"),
    "jsd": Divergence(
        jensen_shannon, "a Jensen-Shannon divergence from a mixture of both"
    ),
}
