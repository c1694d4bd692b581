"""Divergences by hand, against dense formulas, and their sum over chunks.

Axes: N completion tokens, D residual width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from neuron_opsd.method.divergence import (
    DIVERGENCES,
    capped,
    chunked_loss,
    cross_entropy,
    forward_kl,
    jensen_shannon,
    reverse_kl,
)

N, D, V = 11, 6, 17

CASES = [
    pytest.param("reverse-kl", 0.5, id="reverse-kl"),
    pytest.param("forward-kl", 0.5, id="forward-kl"),
    *(pytest.param("jsd", beta, id=f"jsd-{beta}") for beta in (0, 0.1, 0.5, 0.9, 1)),
]
CHUNKS = [1, 2, 3, 4, N - 1, N, N + 1, 1000]

seeds = st.integers(0, 2**16)


def random_logits(seed: int) -> tuple[Tensor, Tensor]:
    """Return student and teacher logits of shape ``(4, 7)``."""
    gen = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 4, 7, generator=gen, dtype=torch.float64)
    return student, teacher


def coin(heads: float) -> Tensor:
    """Return the logits of a coin that falls on heads with this probability."""
    return torch.tensor([[heads, 1 - heads]], dtype=torch.float64).log()


# --- worked by hand ---


def test_reverse_kl_of_two_coins_by_hand() -> None:
    # fair student, teacher at 3/4: 1/2 ln(2/3) + 1/2 ln 2 = 1/2 ln(4/3) nats
    found = reverse_kl(coin(1 / 2), coin(3 / 4)).item()
    assert found == pytest.approx(0.5 * math.log(4 / 3))


def test_forward_kl_of_two_coins_by_hand() -> None:
    # the same coins the other way: 3/4 ln(3/2) + 1/4 ln(1/2) nats
    found = forward_kl(coin(1 / 2), coin(3 / 4)).item()
    assert found == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_jensen_shannon_of_two_coins_by_hand() -> None:
    # mixture at 5/8; 1/2 KL(3/4 || 5/8) + 1/2 KL(1/2 || 5/8)
    to_teacher = 0.75 * math.log(6 / 5) + 0.25 * math.log(2 / 3)
    to_student = 0.5 * math.log(4 / 5) + 0.5 * math.log(4 / 3)
    found = jensen_shannon(coin(1 / 2), coin(3 / 4), 0.5).item()
    assert found == pytest.approx(0.5 * to_teacher + 0.5 * to_student)


def test_beta_is_the_weight_of_the_teacher_in_the_mixture() -> None:
    # beta 1/4: mixture at 3/4 * 1/2 + 1/4 * 3/4 = 9/16
    to_teacher = 0.75 * math.log(12 / 9) + 0.25 * math.log(4 / 7)
    to_student = 0.5 * math.log(8 / 9) + 0.5 * math.log(8 / 7)
    found = jensen_shannon(coin(1 / 2), coin(3 / 4), 0.25).item()
    assert found == pytest.approx(0.25 * to_teacher + 0.75 * to_student)


def test_cross_entropy_of_a_coin_by_hand() -> None:
    assert cross_entropy(coin(1 / 4), torch.tensor([0])).item() == pytest.approx(
        math.log(4)
    )


# --- properties ---


@pytest.mark.parametrize(("name", "beta"), CASES)
@given(seed=seeds)
def test_divergences_are_positive_and_zero_against_themselves(
    name: str, beta: float, seed: int
) -> None:
    student, teacher = random_logits(seed)
    assert (DIVERGENCES[name](student, teacher, beta) > 0).all()
    nothing = DIVERGENCES[name](student, student, beta)
    torch.testing.assert_close(nothing, torch.zeros(4).double())


@pytest.mark.parametrize(("name", "beta"), CASES)
@given(seed=seeds)
def test_divergences_ignore_a_constant_added_to_logits(
    name: str, beta: float, seed: int
) -> None:
    student, teacher = random_logits(seed)
    torch.testing.assert_close(
        DIVERGENCES[name](student + 3, teacher - 5, beta),
        DIVERGENCES[name](student, teacher, beta),
    )


@given(seeds)
def test_jensen_shannon_at_one_half_is_symmetric_and_at_most_ln_2(seed: int) -> None:
    student, teacher = (20 * logits for logits in random_logits(seed))
    there = jensen_shannon(student, teacher, 0.5)
    torch.testing.assert_close(there, jensen_shannon(teacher, student, 0.5))
    assert (there <= math.log(2) + 1e-12).all()


@given(seeds)
def test_jensen_shannon_tends_to_both_kls_per_unit_of_beta(seed: int) -> None:
    student, teacher = random_logits(seed)
    little = 1e-6
    near_0 = jensen_shannon(student, teacher, little) / little
    near_1 = jensen_shannon(student, teacher, 1 - little) / little
    torch.testing.assert_close(near_0, forward_kl(student, teacher), rtol=0, atol=1e-4)
    torch.testing.assert_close(near_1, reverse_kl(student, teacher), rtol=0, atol=1e-4)
    at_0, at_1 = (jensen_shannon(student, teacher, beta) for beta in (0, 1))
    assert torch.equal(at_0, forward_kl(student, teacher))
    assert torch.equal(at_1, reverse_kl(student, teacher))


@pytest.mark.parametrize(("name", "beta"), CASES)
def test_no_divergence_overflows_where_the_two_are_far_apart(
    name: str, beta: float
) -> None:
    student = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[-200.0, 200.0, 0.0]])
    value = DIVERGENCES[name](student, teacher, beta)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_half_precision_logits_are_compared_in_float32(name: str) -> None:
    student, teacher = (logits.bfloat16() for logits in random_logits(0))
    value = DIVERGENCES[name](student, teacher, 0.5)
    assert value.dtype == torch.float32
    exact = DIVERGENCES[name](student.double(), teacher.double(), 0.5)
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_teacher_receives_no_gradient(name: str) -> None:
    student, teacher = (x.requires_grad_() for x in random_logits(0))
    DIVERGENCES[name](student, teacher, 0.5).sum().backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
        reverse_kl(torch.zeros(2, 3), torch.zeros(2, 4))


# --- the sum over chunks, against the dense formula written as the papers do ---


def dense(name: str, student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """Return the divergence at each position from probabilities and logarithms."""
    p, q = student.softmax(-1), teacher.softmax(-1)
    if name == "reverse-kl" or (name == "jsd" and beta == 1):
        return (p * (p / q).log()).sum(-1)
    if name == "forward-kl" or (name == "jsd" and beta == 0):
        return (q * (q / p).log()).sum(-1)
    m = (1 - beta) * p + beta * q
    return (beta * q * (q / m).log() + (1 - beta) * p * (p / m).log()).sum(-1)


def example(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``(N, D)`` states and ``(V, D)`` head that learn, and teacher logits."""
    gen = torch.Generator().manual_seed(0)
    hidden, weight, teacher = (
        torch.randn(shape, generator=gen, dtype=torch.float64).to(dtype)
        for shape in ((N, D), (V, D), (N, V))
    )
    return hidden.requires_grad_(), weight.requires_grad_(), teacher


def against(
    name: str, teacher: Tensor, beta: float, softcap: float | None = None
) -> Callable[[Tensor, slice], Tensor]:
    """Return a loss that compares a chunk's logits with the teacher's."""

    def loss(logits: Tensor, rows: slice) -> Tensor:
        return DIVERGENCES[name](logits, capped(teacher[rows], softcap), beta)

    return loss


def gradients(value: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(value, inputs))


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(("name", "beta"), CASES)
@pytest.mark.parametrize(
    ("dtype", "value_tolerance", "grad_tolerance"),
    [(torch.float64, 1e-9, 1e-9), (torch.float32, 1e-6, 1e-5)],
    ids=["float64", "float32"],
)
def test_the_chunked_sum_and_its_gradients_equal_the_dense_formula(
    name: str,
    beta: float,
    chunk: int,
    dtype: torch.dtype,
    value_tolerance: float,
    grad_tolerance: float,
) -> None:
    hidden, weight, teacher = example(dtype)
    found = chunked_loss(hidden, weight, against(name, teacher, beta), chunk=chunk)
    exact_hidden, exact_weight, exact_teacher = example(torch.float64)
    exact = dense(name, exact_hidden @ exact_weight.T, exact_teacher, beta).sum()
    assert found.dtype == dtype
    torch.testing.assert_close(
        found.double(), exact, rtol=value_tolerance, atol=value_tolerance
    )
    for grad, wanted in zip(
        gradients(found, hidden, weight),
        gradients(exact, exact_hidden, exact_weight),
        strict=True,
    ):
        assert grad.dtype == dtype
        torch.testing.assert_close(
            grad.double(), wanted, rtol=grad_tolerance, atol=grad_tolerance
        )


@pytest.mark.parametrize("chunk", [1, 4, N + 1])
def test_a_softcap_is_part_of_the_loss_and_of_its_gradient(chunk: int) -> None:
    hidden, weight, teacher = example(torch.float64)
    found = chunked_loss(
        hidden, weight, against("reverse-kl", teacher, 0, 2.0), chunk=chunk, softcap=2.0
    )
    logits = 2 * torch.tanh(hidden @ weight.T / 2)
    exact = dense("reverse-kl", logits, 2 * torch.tanh(teacher / 2), 0).sum()
    torch.testing.assert_close(found, exact)
    torch.testing.assert_close(
        gradients(found, hidden, weight), gradients(exact, hidden, weight)
    )


@pytest.mark.parametrize("chunk", [1, 4, N + 1])
def test_chunked_cross_entropy_equals_torch(chunk: int) -> None:
    hidden, weight, _ = example(torch.float64)
    targets = torch.arange(N) % V
    found = chunked_loss(
        hidden,
        weight,
        lambda logits, rows: cross_entropy(logits, targets[rows]),
        chunk=chunk,
    )
    exact = torch.nn.functional.cross_entropy(
        hidden @ weight.T, targets, reduction="sum"
    )
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        gradients(found, hidden, weight),
        gradients(exact, hidden, weight),
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_factor_after_the_sum_scales_the_gradients() -> None:
    hidden, weight, teacher = example(torch.float64)
    loss = against("reverse-kl", teacher, 0)
    once = gradients(chunked_loss(hidden, weight, loss, chunk=3), hidden, weight)
    sum_of = chunked_loss(hidden, weight, loss, chunk=3)
    third = gradients(sum_of / 3, hidden, weight)
    torch.testing.assert_close([3 * grad for grad in third], once)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_never_more_than_a_chunk_of_logits_is_made(chunk: int) -> None:
    hidden, weight, teacher = example(torch.float32)
    seen: list[tuple[int, slice]] = []

    def loss(logits: Tensor, rows: slice) -> Tensor:
        assert logits.shape[1] == V
        assert logits.requires_grad
        seen.append((len(logits), rows))
        return reverse_kl(logits, teacher[rows])

    with Products() as products:
        chunked_loss(hidden, weight, loss, chunk=chunk).backward()
    assert max(count for count, _ in seen) <= chunk
    places = [i for _, rows in seen for i in range(N)[rows]]
    assert places == list(range(N))
    assert all(shape[0] <= chunk for shape in products.shapes if shape[-1] == V)


def test_a_frozen_head_costs_no_product_for_its_gradient() -> None:
    hidden, weight, teacher = example(torch.float32)
    loss = against("reverse-kl", teacher, 0)
    with Products() as both:
        chunked_loss(hidden, weight, loss, chunk=4).backward()
    frozen = weight.detach()
    with Products() as one:
        chunked_loss(hidden, frozen, loss, chunk=4).backward()
    # 3 chunks: logits and states' gradient each, the weight's where it learns.
    assert len(both.shapes) == 9
    assert len(one.shapes) == 6
    assert (V, D) not in one.shapes
    assert frozen.grad is None


def test_a_teacher_made_from_live_tensors_receives_no_gradient() -> None:
    hidden, weight, teacher = example(torch.float32)
    teacher.requires_grad_()
    chunked_loss(hidden, weight, against("jsd", teacher, 0.5), chunk=4).backward()
    assert hidden.grad is not None
    assert teacher.grad is None


def test_no_positions_cost_nothing() -> None:
    hidden, weight, teacher = example(torch.float32)
    found = chunked_loss(hidden[:0], weight, against("jsd", teacher, 0.5), chunk=4)
    assert found.item() == 0.0
    assert torch.equal(gradients(found, weight)[0], torch.zeros(V, D))


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
        if func.overloadpacket is torch.ops.aten.mm:
            self.shapes.append(tuple(result.shape))
        return result
