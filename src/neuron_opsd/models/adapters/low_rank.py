"""Low-rank changes kept next to a matrix instead of merged into it.

Published weights lie on the bfloat16 grid, so a change below half a step is lost if
merged before rounding, and equally if added to a rounded product. A *widened* matrix
makes both one product: input ``(x, x A^T)`` times ``(W, B)``, summed in float32 and
rounded once.

Axes: K inputs and O outputs of a linear layer, r rank, N tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

DOWN, UP, COLUMNS = "down", "up", "columns"
"""Buffers of a linear layer: factors ``A`` and ``B``, and a packed layer's extra
columns."""

ALIGNED: Final = 16
"""Ranks are padded to a multiple of this: others are slow to read on a GPU, and a CPU
adds a one-column product in another order."""


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """A change of a matrix."""

    down: Tensor
    """``(r, K)``."""
    up: Tensor
    """``(O, r)``, scaling included."""

    @property
    def product(self) -> Tensor:
        """``up @ down``, ``(O, K)``."""
        return self.up @ self.down

    def beside(self, other: LowRank) -> LowRank:
        """Return the sum of two changes."""
        return LowRank(
            torch.cat([self.down, other.down]), torch.cat([self.up, other.up], dim=1)
        )

    def for_products(self, kind: torch.dtype) -> LowRank:
        """Cast to `kind` and zero-pad the rank to a multiple of `ALIGNED`."""
        missing = -len(self.down) % ALIGNED
        down = nn.functional.pad(self.down, (0, 0, 0, missing))
        up = nn.functional.pad(self.up, (0, missing))
        return LowRank(down.to(kind), up.to(kind))


Changes = Mapping[str, LowRank]
"""Keyed by the decoder's linear layers."""


def for_products(changes: Changes, kind: torch.dtype) -> dict[str, LowRank]:
    """Cast and pad changes for products; training may take gradients through them."""
    with torch.inference_mode(mode=False):
        return {name: change.for_products(kind) for name, change in changes.items()}


def added(first: Changes, second: Changes) -> dict[str, LowRank]:
    """Return the second changes on top of the first."""
    return {**first} | {
        name: first[name].beside(change) if name in first else change
        for name, change in second.items()
    }


def carry_changes(decoder: nn.Module) -> None:
    """Let a decoder's linear layers use the weights that `Matrices` returns."""
    for module in decoder.modules():
        if isinstance(module, nn.Linear):
            module.register_buffer(DOWN, None, persistent=False)
            module.register_buffer(UP, None, persistent=False)
            module.register_forward_pre_hook(before_product)
            module.register_forward_hook(after_product)


def before_product(module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor] | None:
    """Return the input for a widened matrix, `None` for a plain one."""
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
    """Add a separate change, or attach a widened one's gradient."""
    up: Tensor | None = module.up
    if up is None:
        return None
    (states,) = given
    if states.shape[-1] > module.in_features:
        # A copy, so that the rest of the input can be freed.
        low = states[..., -up.shape[1] :].clone()
        gives: Tensor = GivesGradient.apply(output, low, up)  # type: ignore[no-untyped-call]
        return gives
    low = nn.functional.linear(states.to(up.dtype), module.down)
    return output + nn.functional.linear(low, up)


class GivesGradient(torch.autograd.Function):
    """Pass an output on, and compute the gradient of one of its factors.

    The factor is part of a matrix whose other columns are frozen.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, low: Tensor, up: Tensor) -> Tensor:
        """Return the output ``(..., O)``, made from ``low (..., r)`` and ``up``."""
        ctx.save_for_backward(low)
        ctx.kind = up.dtype
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
        """Return the gradients of the output and of ``up``."""
        (low,) = ctx.saved_tensors
        up_grad = grad.flatten(0, -2).T @ low.flatten(0, -2).to(grad.dtype)
        return grad, None, up_grad.to(ctx.kind)
