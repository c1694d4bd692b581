"""Sums of a loss over tiles: what is made, how large it is, and what it costs.

Axes: N completion tokens, D residual width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from neuron_opsd.config import DistillConfig
from neuron_opsd.method import fused_loss as module
from neuron_opsd.method.fused_loss import HiddenStates, fused_loss, measured, weighted
from neuron_opsd.method.losses import capped, distillation_loss

N, D, V = 11, 6, 17

CHUNKS = [1, 2, 3, 4, N - 1, N, N + 1, 1000]


def example(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``(N, D)`` states and ``(V, D)`` head that learn, and other states."""
    gen = torch.Generator().manual_seed(0)
    hidden, weight, other = (
        torch.randn(shape, generator=gen, dtype=torch.float64).to(dtype)
        for shape in ((N, D), (V, D), (N, D))
    )
    return hidden.requires_grad_(), weight.requires_grad_(), other


def gradients(total: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(total, inputs))


def half_square(logits: Sequence[Tensor], rows: slice) -> Tensor:
    """Take half the squared distance of two sets of logits, by which it grows."""
    del rows
    student, *others = logits
    for other in others:
        student.sub_(other)
    return student.square().sum(-1) / 2


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("shared", [True, False])
def test_the_sum_over_tiles_is_that_of_all_logits(
    chunk: int, softcap: float | None, shared: bool
) -> None:
    hidden, weight, other = example()
    other_weight = weight if shared else 0.5 * weight.detach()
    # The other's head may be squashed otherwise, or not at all.
    readouts = (
        HiddenStates(hidden, weight, softcap),
        HiddenStates(other, other_weight, 3.0),
    )
    found = fused_loss(readouts, half_square, chunk)
    constant = capped(other @ other_weight.detach().T, 3.0)
    dense = (capped(hidden @ weight.T, softcap) - constant).square().sum() / 2
    torch.testing.assert_close(found, dense)
    torch.testing.assert_close(
        gradients(found, hidden, weight), gradients(dense, hidden, weight)
    )


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("num_rows", [1, 2, 5])
def test_blocks_of_a_tile_cover_every_position_once_and_in_order(
    chunk: int, num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", num_rows * V * 8 + 7)
    hidden, weight, _ = example()
    logits = (hidden @ weight.T).detach()
    places: list[int] = []

    def loss(tiles: Sequence[Tensor], rows: slice) -> Tensor:
        (tile,) = tiles
        assert 1 <= len(tile) <= min(num_rows, chunk)
        torch.testing.assert_close(tile, logits[rows])
        places.extend(range(N)[rows])
        return half_square(tiles, rows)

    found = fused_loss((HiddenStates(hidden, weight),), loss, chunk)
    assert places == list(range(N))
    torch.testing.assert_close(found.detach(), logits.square().sum() / 2)


def test_a_factor_after_the_sum_scales_the_gradients() -> None:
    hidden, weight, other = example()
    readouts = (HiddenStates(hidden, weight), HiddenStates(other, weight))
    once = gradients(fused_loss(readouts, half_square, 3), hidden, weight)
    third = gradients(fused_loss(readouts, half_square, 3) / 3, hidden, weight)
    torch.testing.assert_close([3 * grad for grad in third], once)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_never_more_than_a_tile_of_logits_is_made(chunk: int) -> None:
    hidden, weight, other = example(torch.float32)
    readouts = (HiddenStates(hidden, weight), HiddenStates(other, weight))
    with Products() as products:
        fused_loss(readouts, half_square, chunk).backward()
    assert all(rows <= 2 * chunk for rows, width in products.shapes if width == V)


def test_a_frozen_head_costs_no_product_for_its_gradient() -> None:
    hidden, weight, other = example(torch.float32)
    frozen = weight.detach()
    # 3 tiles: logits of both at once or in two products, and the states' gradient;
    # where the weight learns, its gradient as well.
    for head, other_head, products_per_tile in (
        (weight, frozen.clone(), 4),
        (frozen, frozen.clone(), 3),
        (frozen, frozen, 2),
    ):
        readouts = (HiddenStates(hidden, head), HiddenStates(other, other_head))
        with Products() as made:
            fused_loss(readouts, half_square, 4).backward()
        assert len(made.shapes) == 3 * products_per_tile
        assert ((V, D) in made.shapes) == head.requires_grad
    assert frozen.grad is None


def test_only_the_first_readout_receives_gradients() -> None:
    hidden, weight, other = example()
    other.requires_grad_()
    readouts = (HiddenStates(hidden, weight.detach()), HiddenStates(other, weight))
    fused_loss(readouts, half_square, 4).backward()
    assert hidden.grad is not None
    assert other.grad is None
    assert weight.grad is None


def test_no_positions_cost_nothing() -> None:
    hidden, weight, other = example()
    readouts = (HiddenStates(hidden[:0], weight), HiddenStates(other[:0], weight))
    found = fused_loss(readouts, half_square, 4)
    assert found.item() == 0.0
    assert torch.equal(gradients(found, weight)[0], torch.zeros(V, D).double())


def test_half_precision_states_are_read_out_and_added_up_in_float32() -> None:
    hidden, weight, other = (x.detach().bfloat16() for x in example())
    hidden.requires_grad_()
    weight.requires_grad_()
    config = DistillConfig(chunk_positions=4)
    found = distillation_loss(
        HiddenStates(hidden, weight), HiddenStates(other, weight), config
    )
    exact, head, exact_other = (x.detach().double() for x in (hidden, weight, other))
    exact.requires_grad_()
    head.requires_grad_()
    wanted = distillation_loss(
        HiddenStates(exact, head), HiddenStates(exact_other, head), config
    )
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-6)
    for grad, wanted_grad in zip(
        gradients(found, hidden, weight), gradients(wanted, exact, head), strict=True
    ):
        assert grad.dtype == torch.bfloat16
        # Rounded once, at the end: within half a unit of the last of 8 digits.
        torch.testing.assert_close(grad.double(), wanted_grad, rtol=2**-8, atol=1e-6)


def test_autocast_around_the_sum_does_not_round_logits() -> None:
    hidden, weight, other = example(torch.float32)
    readouts = (HiddenStates(hidden, weight), HiddenStates(other, weight))
    plain = fused_loss(readouts, half_square, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = fused_loss(readouts, half_square, 4)
    assert torch.equal(inside, plain)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_loss_may_leave_its_gradient_to_autograd(chunk: int) -> None:
    hidden, weight, _ = example()
    targets = torch.arange(N) % V

    def by_autograd(logits: Sequence[Tensor], rows: slice) -> Tensor:
        (tile,) = logits
        with torch.enable_grad():
            leaf = tile.clone().requires_grad_()
            values = functional.cross_entropy(leaf, targets[rows], reduction="none")
            (grad,) = torch.autograd.grad(values.sum(), leaf)
        tile.copy_(grad)
        return values.detach()

    found = fused_loss((HiddenStates(hidden, weight, 2.0),), by_autograd, chunk)
    logits = 2 * torch.tanh(hidden @ weight.T / 2)
    dense = functional.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(found, dense)
    torch.testing.assert_close(
        gradients(found, hidden, weight), gradients(dense, hidden, weight)
    )


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_weights_multiply_the_loss_of_their_positions(
    chunk: int, softcap: float | None
) -> None:
    hidden, weight, _ = example()
    weights = torch.arange(N) - 2.0
    loss = weighted(half_square, weights, N)
    found = fused_loss((HiddenStates(hidden, weight, softcap),), loss, chunk)
    logits = capped(hidden @ weight.T, softcap)
    dense = (weights.double() * logits.square().sum(-1)).sum() / 2
    torch.testing.assert_close(found, dense)
    torch.testing.assert_close(
        gradients(found, hidden, weight), gradients(dense, hidden, weight)
    )


def test_without_weights_a_loss_is_left_as_it_is() -> None:
    assert weighted(half_square, None, N) is half_square


def test_every_position_has_a_weight() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\) but there are 11 positions"):
        weighted(half_square, torch.ones(3), N)


def sum_and_largest(logits: Sequence[Tensor], rows: slice) -> Tensor:
    """Measure the sum and the largest of the last readout's logits."""
    del rows
    found = torch.stack([logits[-1].sum(-1), logits[-1].amax(-1)], dim=-1)
    # A measure may leave anything where the logits were.
    logits[-1].fill_(torch.nan)
    return found


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_measures_are_those_of_all_logits(
    chunk: int, softcap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 2 * V * 8)
    hidden, weight, other = example()
    logits = capped(other @ weight.T, softcap)
    wanted = torch.stack([logits.sum(-1), logits.amax(-1)], dim=-1)
    first, second = HiddenStates(hidden, weight), HiddenStates(other, weight, softcap)
    with Products() as products:
        found = measured((first, second), sum_and_largest, 2, chunk)
        alone = measured((second,), sum_and_largest, 2, chunk)
    assert not found.requires_grad
    torch.testing.assert_close(found, wanted.detach())
    torch.testing.assert_close(alone, wanted.detach())
    assert all(rows <= 2 * chunk for rows, width in products.shapes if width == V)


def test_no_positions_have_no_measures() -> None:
    hidden, weight, _ = example()
    assert measured(
        (HiddenStates(hidden[:0], weight),), sum_and_largest, 2, 4
    ).shape == (
        0,
        2,
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)]
)
def test_a_gpu_gives_what_the_processor_gives(
    dtype: torch.dtype, tolerance: float
) -> None:
    hidden, weight, other = (x.detach().to(dtype) for x in example())
    config = DistillConfig(divergence="jsd", chunk_positions=4)
    grads = []
    for device in ("cpu", "cuda"):
        states = hidden.to(device).requires_grad_()
        head = weight.to(device)
        student, teacher = (
            HiddenStates(states, head),
            HiddenStates(other.to(device), head),
        )
        total = distillation_loss(student, teacher, config)
        grads.append(gradients(total, states)[0].cpu())
    torch.testing.assert_close(grads[1], grads[0], rtol=tolerance, atol=tolerance)


class Products(TorchDispatchMode):
    """Notes the shape of every matrix product that is made inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation and note it."""
        del types
        result = func(*args, **(kwargs or {}))
        aten = torch.ops.aten
        if func.overloadpacket in (aten.mm, aten.addmm, aten.addmm_):
            self.shapes.append(tuple(result.shape))
        return result
