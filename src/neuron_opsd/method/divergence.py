"""Per-token divergences between student and teacher, and their sum over chunks.

Axes: N completion tokens, c tokens of a chunk, D residual width, V vocabulary.
Divergences are in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

Divergence: TypeAlias = Callable[[Tensor, Tensor, float], Tensor]
"""Takes student logits, teacher logits, both ``(c, V)``, and beta; gives ``(c,)``."""

LogitsLoss: TypeAlias = Callable[[Tensor, slice], Tensor]
"""Takes the logits ``(c, V)`` of a chunk and its place in N; gives losses ``(c,)``."""


def reverse_kl(student: Tensor, teacher: Tensor, beta: float = 0.0) -> Tensor:
    """Return KL(student || teacher) at each position.

    Source: Eq. 10 of arXiv:2607.02460.
    """
    del beta
    p, q = log_probabilities(student, teacher)
    return (p.exp() * (p - q)).sum(dim=-1)


def forward_kl(student: Tensor, teacher: Tensor, beta: float = 0.0) -> Tensor:
    """Return KL(teacher || student) at each position."""
    del beta
    p, q = log_probabilities(student, teacher)
    return (q.exp() * (q - p)).sum(dim=-1)


def jensen_shannon(student: Tensor, teacher: Tensor, beta: float = 0.5) -> Tensor:
    """Return the generalised Jensen-Shannon divergence at each position.

    With the mixture ``m = (1 - beta) * student + beta * teacher`` it is
    ``beta * KL(teacher || m) + (1 - beta) * KL(student || m)``; at 0 and at 1, where
    that vanishes, it is the forward and the reverse KL it tends to per unit of beta.

    Source: Agarwal et al., arXiv:2306.13649, with its limits as in GKD trainers.
    """
    if beta == 0.0:
        return forward_kl(student, teacher)
    if beta == 1.0:
        return reverse_kl(student, teacher)
    p, q = log_probabilities(student, teacher)
    weight = torch.tensor(beta, dtype=p.dtype, device=p.device)
    m = torch.logaddexp(p + torch.log1p(-weight), q + weight.log())
    to_teacher = (q.exp() * (q - m)).sum(dim=-1)
    to_student = (p.exp() * (p - m)).sum(dim=-1)
    return beta * to_teacher + (1.0 - beta) * to_student


def log_probabilities(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both log-softmaxes, at least in float32, the teacher's as a constant.

    Raises:
        ValueError: If the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"student logits have shape {tuple(student.shape)} but teacher logits have "
            f"shape {tuple(teacher.shape)}; score the same completion tokens with the "
            "same vocabulary"
        )
    if student.dtype != torch.float64:
        student, teacher = student.float(), teacher.float()
    return student.log_softmax(dim=-1), teacher.detach().log_softmax(dim=-1)


DIVERGENCES: Final[Mapping[str, Divergence]] = {
    "reverse-kl": reverse_kl,
    "forward-kl": forward_kl,
    "jsd": jensen_shannon,
}


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return minus the log-probability of each target, ``(c,)``, in nats."""
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")


def chunked_loss(
    hidden: Tensor,
    weight: Tensor,
    loss: LogitsLoss,
    *,
    chunk: int,
    softcap: float | None = None,
) -> Tensor:
    """Sum a loss over positions without ever holding more logits than a chunk's.

    The gradient is made in the forward pass, chunk by chunk: logits are projected once
    and dropped. A weight that needs no gradient costs no product for one.

    Args:
        hidden: ``(N, D)`` states that predict the tokens; receive the gradient.
        weight: ``(V, D)`` unembedding; receives the gradient if it asks for one.
        loss: Called once per chunk, with gradient enabled for its logits.
        chunk: Positions held at once.
        softcap: Squash logits to ``softcap * tanh(logits / softcap)``.

    Returns:
        A scalar, in float32 or better.
    """
    total: Tensor = OnePass.apply(  # type: ignore[no-untyped-call]
        hidden, weight, loss, chunk, softcap
    )
    return total


class OnePass(torch.autograd.Function):
    """The sum of a chunked loss, with its gradient made on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        loss: LogitsLoss,
        chunk: int,
        softcap: float | None,
    ) -> Tensor:
        """Return the sum and keep the gradients."""
        total = torch.zeros((), dtype=at_least_float32(hidden), device=hidden.device)
        hidden_grad = torch.empty_like(hidden)
        needs_weight = ctx.needs_input_grad[1]
        weight_grad = torch.zeros_like(weight) if needs_weight else None
        with torch.autocast(hidden.device.type, enabled=False):
            product_weight = weight.detach().to(hidden.dtype)
            for start in range(0, len(hidden), chunk):
                rows = slice(start, start + chunk)
                states = hidden[rows].detach()
                value, grad = value_and_grad(
                    states @ product_weight.T, loss, rows, softcap
                )
                total += value
                hidden_grad[rows] = grad @ product_weight
                if weight_grad is not None:
                    weight_grad += (grad.T @ states).to(weight_grad.dtype)
        ctx.save_for_backward(hidden_grad, weight_grad)
        return total

    @staticmethod
    def backward(
        ctx: Any, grad_output: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        """Scale the gradients kept by the forward pass."""
        hidden_grad, weight_grad = ctx.saved_tensors
        scaled_weight = None if weight_grad is None else weight_grad * grad_output
        return hidden_grad * grad_output, scaled_weight, None, None, None


def value_and_grad(
    logits: Tensor, loss: LogitsLoss, rows: slice, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """Return a chunk's summed loss and its gradient with respect to the logits."""
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        value = loss(capped(leaf, softcap), rows).sum()
        (grad,) = torch.autograd.grad(value, leaf)
    return value.detach(), grad


def capped(logits: Tensor, softcap: float | None) -> Tensor:
    """Squash logits as the models do that ask for it."""
    if softcap is None:
        return logits
    return softcap * torch.tanh(logits / softcap)


def at_least_float32(tensor: Tensor) -> torch.dtype:
    """Return the type in which to add up values of a tensor."""
    return torch.promote_types(tensor.dtype, torch.float32)
