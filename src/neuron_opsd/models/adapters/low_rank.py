"""Low-rank changes that stand beside a matrix instead of inside it.

A change that is added to a matrix before it is rounded to bfloat16 is lost where it is
below half a step of the grid, and published weights lie on that grid. Added to a
product that was rounded it is lost just so. A *widened* matrix makes one product of
both: the input ``(x, x A^T)`` times ``(W, B)``, which adds in float32 and rounds once.

Axes: K inputs and O outputs of a linear layer, r rank, N tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

DOWN, UP, COLUMNS = "down", "up", "columns"
"""Names of a linear layer's buffers for the factors ``A`` and ``B`` of its change, and
of a packed one's for columns that stand beside its matrix."""

ALIGNED: Final = 16
"""Ranks are padded to a multiple of this: rows of other lengths are slow to read on a
GPU, and a product of one column adds in another order on a processor."""


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """A change of a matrix: ``up @ down``."""

    down: Tensor
    """``(r, K)``."""
    up: Tensor
    """``(O, r)``, scaling included."""

    @property
    def product(self) -> Tensor:
        """The change itself, ``(O, K)``."""
        return self.up @ self.down

    def beside(self, other: LowRank) -> LowRank:
        """Return the sum of two changes."""
        return LowRank(
            torch.cat([self.down, other.down]), torch.cat([self.up, other.up], dim=1)
        )

    def for_products(self, kind: torch.dtype) -> LowRank:
        """Return it in a type of products, with zeros up to a rank they are fast at."""
        missing = -len(self.down) % ALIGNED
        down = nn.functional.pad(self.down, (0, 0, 0, missing))
        up = nn.functional.pad(self.up, (0, missing))
        return LowRank(down.to(kind), up.to(kind))


Changes = Mapping[str, LowRank]
"""By the names of a decoder's linear layers."""


def for_products(changes: Changes, kind: torch.dtype) -> dict[str, LowRank]:
    """Return changes in a type of products, which training may ask gradients of."""
    with torch.inference_mode(mode=False):
        return {name: change.for_products(kind) for name, change in changes.items()}


def added(first: Changes, second: Changes) -> dict[str, LowRank]:
    """Return the changes of one adapter on top of another's."""
    return {**first} | {
        name: first[name].beside(change) if name in first else change
        for name, change in second.items()
    }


def carry_changes(decoder: nn.Module) -> None:
    """Let a decoder's linear layers run with what `Matrices` returns."""
    for module in decoder.modules():
        if isinstance(module, nn.Linear):
            module.register_buffer(DOWN, None, persistent=False)
            module.register_buffer(UP, None, persistent=False)
            module.register_forward_pre_hook(before_product)
            module.register_forward_hook(after_product)


def before_product(module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor] | None:
    """Return the input that a widened matrix multiplies, `None` for another."""
    columns: Tensor | None = getattr(module, COLUMNS, None)
    if columns is None:
        columns = module.weight
        if columns.shape[1] <= module.in_features:
            return None
    states = given[0].to(columns.dtype)
    low = nn.functional.linear(states, module.down)
    return (torch.cat([states, low], dim=-1),)


def after_product(
    module: Any, given: tuple[Tensor, ...], output: Tensor
) -> Tensor | None:
    """Add a change that stands apart; give a widened one its gradient."""
    up: Tensor | None = module.up
    if up is None:
        return None
    (states,) = given
    if states.shape[-1] > module.in_features:
        # A copy, so that the rest of the input need not be kept for it.
        low = states[..., -up.shape[1] :].clone()
        gives: Tensor = GivesGradient.apply(output, low, up)  # type: ignore[no-untyped-call]
        return gives
    low = nn.functional.linear(states.to(up.dtype), module.down)
    return output + nn.functional.linear(low, up)


class GivesGradient(torch.autograd.Function):
    """Hands an output on, and gives the gradient of a factor that went into it.

    The factor stands in a matrix whose other columns are frozen.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, low: Tensor, up: Tensor) -> Tensor:
        """Return the output ``(..., O)`` made from ``low (..., r)`` and ``up``."""
        ctx.save_for_backward(low)
        ctx.kind = up.dtype
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
        """Return the gradients of the output and of ``up``."""
        (low,) = ctx.saved_tensors
        up_grad = grad.flatten(0, -2).T @ low.flatten(0, -2).to(grad.dtype)
        return grad, None, up_grad.to(ctx.kind)
