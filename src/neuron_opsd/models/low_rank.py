"""Low-rank changes that stand beside a rounded matrix instead of inside it.

A change that is added to a matrix before it is rounded to bfloat16 is lost where it is
below half a step of the grid, and published weights lie on that grid. Added to a
product that was rounded it is lost just so. Here both are one product: the input
``(x, x A^T)`` with the matrix ``(W, B)``, which adds in float32 and rounds once.

Axes: K inputs and O outputs of a linear layer, r rank, B rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

DOWN: Final = "down"
"""Name of the buffer that turns a layer's input into what its change is added from."""


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

    @property
    def padded(self) -> LowRank:
        """The same change with zeros up to a rank that products are fast at."""
        missing = -len(self.down) % ALIGNED
        pad = nn.functional.pad
        return LowRank(pad(self.down, (0, 0, 0, missing)), pad(self.up, (0, missing)))

    def beside(self, other: LowRank) -> LowRank:
        """Return the sum of two changes."""
        return LowRank(
            torch.cat([self.down, other.down]), torch.cat([self.up, other.up], dim=1)
        )


def added(
    first: Mapping[str, LowRank], second: Mapping[str, LowRank]
) -> dict[str, LowRank]:
    """Return the changes of one adapter on top of another's."""
    return {**first} | {
        name: first[name].beside(change) if name in first else change
        for name, change in second.items()
    }


def carry_changes(decoder: nn.Module) -> None:
    """Let a decoder's linear layers run with matrices that `widened` returned.

    Without such matrices they run as before.
    """
    for module in decoder.modules():
        if isinstance(module, nn.Linear):
            module.register_buffer(DOWN, None, persistent=False)
            module.register_forward_pre_hook(widened_input)


def widened_input(module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor] | None:
    """Return the input that a widened matrix multiplies, `None` for a plain one."""
    down: Tensor | None = module.down
    if down is None:
        return None
    states = given[0].to(down.dtype)
    low = nn.functional.linear(states, down)
    return (torch.cat([states, low], dim=-1),)


def widened(
    weights: Mapping[str, Tensor], changes: Mapping[str, LowRank]
) -> dict[str, Tensor]:
    """Return weights that run with changes beside those they carry already.

    Args:
        weights: Of a decoder by name, rounded; stay as they are.
        changes: By the names of linear layers.
    """
    result = dict(weights)
    for name, change in changes.items():
        weight = weights[f"{name}.weight"]
        even = change.padded
        down, up = even.down.to(weight.dtype), even.up.to(weight.dtype)
        before = weights.get(f"{name}.{DOWN}")
        result[f"{name}.{DOWN}"] = down if before is None else torch.cat([before, down])
        result[f"{name}.weight"] = torch.cat([weight, up], dim=1)
    return result
