"""Sums of a loss over the logits of all positions, tile by tile, in one pass.

All logits would not fit into memory. The forward pass makes one tile at a time, with
its gradient, so none is made twice.

Products are summed and returned in float32: in bfloat16, top logits tie and are off by
percents of a nat.

Axes: N completion tokens, c tokens of a tile, r tokens of a block, D residual width, V
vocabulary, m measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

BLOCK_BYTES = 2**21
"""Logits per block on a CPU, to stay in its cache."""

TileLoss: TypeAlias = Callable[[Sequence[Tensor], slice], Tensor]
"""Takes the logits ``(r, V)`` of each readout and their slice of N; replaces the first
by the gradient and returns losses ``(r,)``. A measure may leave anything there and
returns ``(r, m)``."""


@dataclass(frozen=True, slots=True)
class HiddenStates:
    """States, and the head that turns them into logits."""

    hidden: Tensor
    """``(N, D)`` states that predict the tokens."""
    weight: Tensor
    """``(V, D)`` unembedding."""
    softcap: float | None = None
    """If set, logits are ``softcap * tanh(logits / softcap)``."""


def fused_loss(readouts: Sequence[HiddenStates], loss: TileLoss, chunk: int) -> Tensor:
    """Sum a loss over all positions; the first readout receives gradients."""
    first = readouts[0]
    total: Tensor = FusedLoss.apply(  # type: ignore[no-untyped-call]
        first.hidden, first.weight, readouts, loss, chunk
    )
    return total


def weighted(loss: TileLoss, weights: Tensor | None, num_positions: int) -> TileLoss:
    """Weight the loss and gradient of each of N positions, if there are weights."""
    if weights is None:
        return loss
    if weights.shape != (num_positions,):
        raise ValueError(
            f"weights have shape {tuple(weights.shape)} but there are {num_positions} "
            "positions; give one weight for each"
        )

    def of_tile(logits: Sequence[Tensor], rows: slice) -> Tensor:
        factors = weights[rows].to(logits[0])
        values = loss(logits, rows)
        logits[0].mul_(factors.unsqueeze(-1))
        return values * factors

    return of_tile


class FusedLoss(torch.autograd.Function):
    """The sum of a loss over tiles, with its gradient made on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        readouts: Sequence[HiddenStates],
        loss: TileLoss,
        chunk: int,
    ) -> Tensor:
        """Return the sum and keep the gradients."""
        kind = at_least_float32(hidden)
        factors = in_product_type(readouts)
        losses = hidden.new_empty(len(hidden), dtype=kind)
        hidden_grad = torch.empty_like(hidden, dtype=kind)
        needs_weight = ctx.needs_input_grad[1]
        weight_grad = torch.zeros_like(weight, dtype=kind) if needs_weight else None
        for rows, logits in tiles_of(factors, chunk):
            losses[rows] = by_blocks(loss, logits, factors, rows)
            grad = logits[0]
            multiply(grad, factors[0].weight, hidden_grad[rows])
            if weight_grad is not None:
                weight_grad.addmm_(grad.T, factors[0].hidden[rows].to(grad.dtype))
        ctx.save_for_backward(
            hidden_grad.to(hidden.dtype),
            None if weight_grad is None else weight_grad.to(weight.dtype),
        )
        return losses.sum()

    @staticmethod
    def backward(
        ctx: Any, grad_output: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        """Scale the kept gradients."""
        hidden_grad, weight_grad = ctx.saved_tensors
        scaled_weight = None if weight_grad is None else weight_grad * grad_output
        return hidden_grad * grad_output, scaled_weight, None, None, None


@torch.no_grad()
def measured(
    readouts: Sequence[HiddenStates],
    measure: TileLoss,
    num_measures: int,
    chunk: int,
) -> Tensor:
    """Return measures ``(N, m)`` of all positions' logits, without gradient."""
    factors = in_product_type(readouts)
    hidden = factors[0].hidden
    shape = (len(hidden), num_measures)
    result = hidden.new_empty(shape, dtype=at_least_float32(hidden))
    for rows, logits in tiles_of(factors, chunk):
        result[rows] = by_blocks(measure, logits, factors, rows)
    return result


def in_product_type(readouts: Sequence[HiddenStates]) -> list[HiddenStates]:
    """Detach readouts and cast them for products; shared weights stay shared.

    Half precision is kept only where products give float32 logits.
    """
    first = readouts[0]
    kind = factor_type(first.hidden)
    weight = first.weight.detach().to(kind)
    return [
        HiddenStates(
            readout.hidden.detach().to(kind),
            weight
            if readout.weight is first.weight
            else readout.weight.detach().to(kind),
            readout.softcap,
        )
        for readout in readouts
    ]


def factor_type(hidden: Tensor) -> torch.dtype:
    """Return the type of factors: half precision only where that is fast."""
    return hidden.dtype if hidden.is_cuda else at_least_float32(hidden)


def tiles_of(
    readouts: Sequence[HiddenStates], chunk: int
) -> Iterator[tuple[slice, tuple[Tensor, ...]]]:
    """Yield tiles' slices of N and their logits ``(c, V)`` per readout, uncapped.

    The next tile overwrites the last.
    """
    hidden, weight = readouts[0].hidden, readouts[0].weight
    most = len(readouts) * min(chunk, len(hidden))
    tiles = hidden.new_empty((most, len(weight)), dtype=at_least_float32(hidden))
    for start in range(0, len(hidden), chunk):
        rows = slice(start, min(start + chunk, len(hidden)))
        yield rows, project(readouts, rows, tiles)


def project(
    readouts: Sequence[HiddenStates], rows: slice, tiles: Tensor
) -> tuple[Tensor, ...]:
    """Write the logits ``(c, V)`` of each readout into `tiles`; return them."""
    weight = readouts[0].weight
    states = [readout.hidden[rows] for readout in readouts]
    count = len(states[0])
    logits: tuple[Tensor, ...] = tiles[: count * len(readouts)].split(count)
    if all(readout.weight is weight for readout in readouts):
        # One large product keeps a processor busier than two.
        multiply(torch.cat(states), weight.T, tiles[: count * len(readouts)])
    else:
        for state, readout, tile in zip(states, readouts, logits, strict=True):
            multiply(state, readout.weight.T, tile)
    return logits


def by_blocks(
    loss: TileLoss,
    logits: Sequence[Tensor],
    readouts: Sequence[HiddenStates],
    rows: slice,
) -> Tensor:
    """Apply softcaps and a loss or measure, block by block; return its values."""
    num_rows, num_tokens = logits[0].shape
    size = num_rows
    if logits[0].device.type == "cpu":
        size = max(1, BLOCK_BYTES // (num_tokens * logits[0].element_size()))
    losses: list[Tensor] = []
    for blocks in zip(*(tile.split(size) for tile in logits), strict=True):
        slopes = [
            cap(block, readout.softcap)
            for block, readout in zip(blocks, readouts, strict=True)
        ]
        start = rows.start + len(losses) * size
        losses.append(loss(blocks, slice(start, start + len(blocks[0]))))
        if slopes[0] is not None:
            blocks[0].mul_(slopes[0])
    return torch.cat(losses)


def cap(logits: Tensor, softcap: float | None) -> Tensor | None:
    """Apply the softcap in place; return its derivative."""
    if softcap is None:
        return None
    logits.div_(softcap).tanh_()
    slope = logits.square().neg_().add_(1.0)
    logits.mul_(softcap)
    return slope


def at_least_float32(tensor: Tensor) -> torch.dtype:
    """Return the type in which to sum a tensor's values."""
    return torch.promote_types(tensor.dtype, torch.float32)


def multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Write a product into `out`, summed in its type, whatever autocast is on.

    `left` is cast to the type of `right`; that of `out` is the same or finer.
    """
    left = left.to(right.dtype)
    if right.dtype == out.dtype:
        torch.mm(left, right, out=out)
    elif right.is_cuda:
        torch.mm(left, right, out_dtype=out.dtype, out=out)
    else:
        # Here products are rounded too. The second part is what rounding took from
        # the first: subtracting before rounding the sum keeps twice the digits.
        rounded = left @ right
        out.copy_(rounded).add_(torch.addmm(rounded, left, right, beta=-1.0))
