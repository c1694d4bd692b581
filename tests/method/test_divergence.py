"""Divergences by hand, against dense formulas, and their sum over tiles.

Axes: N completion tokens, D residual width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neuron_opsd.config import DistillConfig
from neuron_opsd.method.divergence import DIVERGENCES
from neuron_opsd.method.fused_loss import HiddenStates
from neuron_opsd.method.losses import (
    capped,
    distillation_loss,
    divergences_of,
    imitation_loss,
)

N, D, V = 11, 6, 17

SETTINGS: list[dict[str, Any]] = [
    {"divergence": "reverse-kl"},
    {"divergence": "forward-kl"},
    *({"divergence": "jsd", "beta": beta} for beta in (0, 0.1, 0.5, 0.9, 1)),
]
VARIANTS: list[dict[str, Any]] = [
    {},
    {"top_k": 3},
    {"top_k": 3, "top_k_of": "student"},
    {"entry_clip": 0.05},
    {"top_k": 2, "entry_clip": 0.05},
]


def words(fields: dict[str, Any]) -> str:
    return "-".join(map(str, fields.values())) or "whole"


every_setting = pytest.mark.parametrize("setting", SETTINGS, ids=words)
every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=words)
seeds = st.integers(0, 2**16)


def settings_of(*parts: dict[str, Any], **fields: Any) -> DistillConfig:
    merged: dict[str, Any] = {}
    for part in (*parts, fields):
        merged |= part
    return DistillConfig.model_validate(merged)


def random_logits(seed: int) -> tuple[Tensor, Tensor]:
    """Return student and teacher logits of shape ``(4, 7)``."""
    gen = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 4, 7, generator=gen, dtype=torch.float64)
    return student, teacher


def logits_of(*probabilities: float) -> Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


def found(
    student: Tensor, teacher: Tensor, *parts: dict[str, Any], **fields: Any
) -> tuple[Tensor, Tensor]:
    """Return divergences and gradient, and leave both arguments as they are."""
    grad = student.detach().clone()
    values = divergences_of(
        grad, teacher.detach().clone(), settings_of(*parts, **fields)
    )
    return values, grad


def value(student: Tensor, teacher: Tensor, **fields: Any) -> float:
    return found(student, teacher, **fields)[0].item()


# --- worked by hand ---

FAIR, BENT = logits_of(1 / 2, 1 / 2), logits_of(3 / 4, 1 / 4)


def test_reverse_kl_of_two_coins_by_hand() -> None:
    # fair student, teacher at 3/4: 1/2 ln(2/3) + 1/2 ln 2 = 1/2 ln(4/3) nats
    values, grad = found(FAIR, BENT, divergence="reverse-kl")
    assert values.item() == pytest.approx(0.5 * math.log(4 / 3))
    # p (ln(p / q) - KL): 1/2 (ln(2/3) - 1/2 ln(4/3)) = -1/4 ln 3
    assert grad[0].tolist() == pytest.approx([-math.log(3) / 4, math.log(3) / 4])


def test_forward_kl_of_two_coins_by_hand() -> None:
    # the same coins the other way: 3/4 ln(3/2) + 1/4 ln(1/2) nats
    values, grad = found(FAIR, BENT, divergence="forward-kl")
    assert values.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    # p - q
    assert grad[0].tolist() == pytest.approx([-1 / 4, 1 / 4])


def test_jensen_shannon_of_two_coins_by_hand() -> None:
    # mixture at 5/8; 1/2 KL(3/4 || 5/8) + 1/2 KL(1/2 || 5/8)
    to_teacher = 0.75 * math.log(6 / 5) + 0.25 * math.log(2 / 3)
    to_student = 0.5 * math.log(4 / 5) + 0.5 * math.log(4 / 3)
    values, grad = found(FAIR, BENT, divergence="jsd", beta=0.5)
    assert values.item() == pytest.approx(0.5 * to_teacher + 0.5 * to_student)
    # 1/2 p (ln(p / m) - KL(p || m))
    first = 0.25 * (math.log(4 / 5) - to_student)
    assert grad[0].tolist() == pytest.approx([first, -first])


def test_beta_is_the_weight_of_the_teacher_in_the_mixture() -> None:
    # beta 1/4: mixture at 3/4 * 1/2 + 1/4 * 3/4 = 9/16
    to_teacher = 0.75 * math.log(12 / 9) + 0.25 * math.log(4 / 7)
    to_student = 0.5 * math.log(8 / 9) + 0.5 * math.log(8 / 7)
    assert value(FAIR, BENT, divergence="jsd", beta=0.25) == pytest.approx(
        0.25 * to_teacher + 0.75 * to_student
    )


def test_all_but_the_top_tokens_are_compared_as_one() -> None:
    student, teacher = logits_of(1 / 2, 1 / 4, 1 / 4), logits_of(1 / 4, 1 / 2, 1 / 4)
    # the teacher's top token is the second: (1/4, 3/4) against (1/2, 1/2)
    assert value(student, teacher, top_k=1) == pytest.approx(
        0.25 * math.log(1 / 2) + 0.75 * math.log(3 / 2)
    )
    # the student's is the first: (1/2, 1/2) against (1/4, 3/4)
    assert value(student, teacher, top_k=1, top_k_of="student") == pytest.approx(
        0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    )


def test_tokens_of_the_tail_share_its_gradient_by_their_mass() -> None:
    student, teacher = logits_of(1 / 2, 3 / 8, 1 / 8), logits_of(3 / 4, 1 / 8, 1 / 8)
    # buckets are two coins as above; forward KL: p - q = (-1/4, 1/4)
    _, grad = found(student, teacher, divergence="forward-kl", top_k=1)
    assert grad[0].tolist() == pytest.approx([-1 / 4, 3 / 16, 1 / 16])


def test_no_entry_adds_more_than_the_clip() -> None:
    # 1/2 ln(2/3) and 1/2 ln 2; the second is cut, so the sum falls below zero
    values, grad = found(FAIR, BENT, divergence="reverse-kl", entry_clip=0.1)
    assert values.item() == pytest.approx(0.5 * math.log(2 / 3) + 0.1)
    # what is left grows with ln p by 1/2 ln(2/3) + 1/2, and p moves by p (1 - p)
    slope = 0.5 * math.log(2 / 3) + 0.5
    assert grad[0].tolist() == pytest.approx([slope / 2, -slope / 2])


def test_cross_entropy_of_a_coin_by_hand() -> None:
    states, head = logits_of(1 / 4, 3 / 4).requires_grad_(), torch.eye(2).double()
    total = imitation_loss(HiddenStates(states, head), torch.tensor([0]), 1)
    assert total.item() == pytest.approx(math.log(4))
    # p - 1 for the target, p for the other
    (grad,) = torch.autograd.grad(total, states)
    assert grad[0].tolist() == pytest.approx([-3 / 4, 3 / 4])


# --- properties ---


def test_every_name_of_the_settings_has_a_formula() -> None:
    text = DistillConfig.model_fields["divergence"].description or ""
    for name, divergence in DIVERGENCES.items():
        assert DistillConfig(divergence=name).divergence == name
        assert f"`{name}`: {divergence.help}" in text
    assert {setting["divergence"] for setting in SETTINGS} == set(DIVERGENCES)


@every_setting
@given(seed=seeds)
def test_divergences_are_positive_and_zero_against_themselves(
    setting: dict[str, Any], seed: int
) -> None:
    student, teacher = random_logits(seed)
    for top_k in (0, 2):
        values, _ = found(student, teacher, setting, top_k=top_k)
        assert (values > 0).all()
        nothing, grad = found(student, student, setting, top_k=top_k)
        torch.testing.assert_close(nothing, torch.zeros(4).double())
        torch.testing.assert_close(grad, torch.zeros(4, 7).double())


@every_setting
@every_variant
@given(seed=seeds)
def test_divergences_ignore_a_constant_added_to_logits(
    setting: dict[str, Any], variant: dict[str, Any], seed: int
) -> None:
    student, teacher = random_logits(seed)
    values, grad = found(student, teacher, setting, variant)
    moved = found(student + 3, teacher - 5, setting, variant)
    torch.testing.assert_close(moved, (values, grad))
    # So the gradient has no part along that direction either.
    torch.testing.assert_close(grad.sum(dim=-1), torch.zeros(4).double())


@given(seeds)
def test_jensen_shannon_at_one_half_is_symmetric_and_at_most_ln_2(seed: int) -> None:
    student, teacher = (20 * logits for logits in random_logits(seed))
    half: dict[str, Any] = {"divergence": "jsd", "beta": 0.5}
    there, _ = found(student, teacher, half)
    back, _ = found(teacher, student, half)
    torch.testing.assert_close(there, back)
    assert (there <= math.log(2) + 1e-12).all()


@given(seeds)
def test_jensen_shannon_tends_to_both_kls_per_unit_of_beta(seed: int) -> None:
    student, teacher = random_logits(seed)
    little = 1e-6
    for name, near, limit in (
        ("forward-kl", little, 0.0),
        ("reverse-kl", 1 - little, 1.0),
    ):
        wanted = found(student, teacher, divergence=name)
        values, grad = found(student, teacher, divergence="jsd", beta=near)
        close = (values / little, grad / little)
        torch.testing.assert_close(close, wanted, rtol=0, atol=1e-4)
        exact = found(student, teacher, divergence="jsd", beta=limit)
        assert all(map(torch.equal, exact, wanted))


@given(seed=seeds, top_k=st.integers(1, 6))
def test_coarser_buckets_never_tell_more_apart(seed: int, top_k: int) -> None:
    student, teacher = random_logits(seed)
    for name in DIVERGENCES:
        less, more, all_of_it = (
            found(student, teacher, divergence=name, top_k=k)[0]
            for k in (top_k, top_k + 1, 0)
        )
        assert (less <= more + 1e-12).all()
        assert (more <= all_of_it + 1e-12).all()


@every_setting
def test_a_top_that_is_everything_changes_nothing(setting: dict[str, Any]) -> None:
    student, teacher = random_logits(0)
    wanted = found(student, teacher, setting)
    for top_k in (7, 8, 1000):
        torch.testing.assert_close(
            found(student, teacher, setting, top_k=top_k), wanted
        )


@every_setting
def test_a_clip_that_nothing_reaches_changes_nothing(setting: dict[str, Any]) -> None:
    student, teacher = random_logits(0)
    torch.testing.assert_close(
        found(student, teacher, setting, entry_clip=1e6),
        found(student, teacher, setting),
    )


@every_setting
@every_variant
def test_no_divergence_overflows_where_the_two_are_far_apart(
    setting: dict[str, Any], variant: dict[str, Any]
) -> None:
    student = torch.tensor([[200.0, -200.0, 0.0, -100.0]])
    teacher = torch.tensor([[-200.0, 200.0, 0.0, 100.0]])
    values, grad = found(student, teacher, setting, variant)
    assert torch.isfinite(values).all()
    assert torch.isfinite(grad).all()


@every_variant
def test_a_logit_that_is_no_number_is_not_hidden(variant: dict[str, Any]) -> None:
    student, teacher = random_logits(0)
    student[1, 2] = math.nan
    for setting in SETTINGS:
        values, grad = found(student, teacher, setting, variant)
        assert values.isnan().tolist() == [False, True, False, False]
        assert grad[1].isnan().all()


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
        divergences_of(torch.zeros(2, 3), torch.zeros(2, 4), DistillConfig())
    student, teacher = (
        HiddenStates(torch.zeros(n, D), torch.zeros(V, D)) for n in (2, 3)
    )
    with pytest.raises(ValueError, match=r"student has 2 .* teacher has 3"):
        distillation_loss(student, teacher, DistillConfig())
    # One weight would fit any number of positions if it were only multiplied with.
    one, targets = torch.ones(1), torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"shape \(1,\) but there are 2 positions"):
        imitation_loss(student, targets, 4, one)
    with pytest.raises(ValueError, match=r"shape \(1,\) but there are 2 positions"):
        distillation_loss(student, student, DistillConfig(), one)


# --- against the dense formula, written as the papers do, with autograd ---


def dense(student: Tensor, teacher: Tensor, config: DistillConfig) -> Tensor:
    """Return the divergence at each position from probabilities and logarithms."""
    p, q = student.softmax(-1), teacher.softmax(-1)
    if config.top_k:
        chooser = q if config.top_k_of == "teacher" else p
        top = chooser.topk(config.top_k, dim=-1).indices
        p, q = (
            torch.cat([kept, 1 - kept.sum(-1, keepdim=True)], dim=-1)
            for kept in (p.gather(-1, top), q.gather(-1, top))
        )
    terms = dense_terms(config, p, q)
    if config.entry_clip:
        terms = terms.clamp(max=config.entry_clip)
    return terms.sum(-1)


def dense_terms(config: DistillConfig, p: Tensor, q: Tensor) -> Tensor:
    name, beta = config.divergence, config.beta
    if name == "jsd" and beta in (0, 1):
        name = "reverse-kl" if beta else "forward-kl"
    if name == "reverse-kl":
        return p * (p / q).log()
    if name == "forward-kl":
        return q * (q / p).log()
    m = (1 - beta) * p + beta * q
    return beta * q * (q / m).log() + (1 - beta) * p * (p / m).log()


@every_setting
@every_variant
@given(seed=seeds)
def test_formula_and_autograd_agree(
    setting: dict[str, Any], variant: dict[str, Any], seed: int
) -> None:
    student, teacher = random_logits(seed)
    leaf = student.clone().requires_grad_()
    values = dense(leaf, teacher, settings_of(setting, variant))
    (grad,) = torch.autograd.grad(values.sum(), leaf)
    torch.testing.assert_close(
        found(student, teacher, setting, variant), (values.detach(), grad)
    )


def example(dtype: torch.dtype) -> tuple[HiddenStates, HiddenStates]:
    """Return a student that learns and a teacher with a head of its own."""
    gen = torch.Generator().manual_seed(0)
    hidden, weight, other_hidden, other_weight = (
        torch.randn(shape, generator=gen, dtype=torch.float64).to(dtype)
        for shape in ((N, D), (V, D), (N, D), (V, D))
    )
    student = HiddenStates(hidden.requires_grad_(), weight.requires_grad_())
    return student, HiddenStates(other_hidden, other_weight)


def gradients(total: Tensor, student: HiddenStates) -> list[Tensor]:
    return list(torch.autograd.grad(total, [student.hidden, student.weight]))


@pytest.mark.parametrize("chunk", [1, 4, 1000])
@every_setting
@every_variant
@pytest.mark.parametrize(
    ("dtype", "value_tolerance", "grad_tolerance"),
    [(torch.float64, 1e-9, 1e-9), (torch.float32, 1e-6, 1e-5)],
    ids=["float64", "float32"],
)
def test_the_sum_and_its_gradients_equal_the_dense_formula(
    setting: dict[str, Any],
    variant: dict[str, Any],
    chunk: int,
    dtype: torch.dtype,
    value_tolerance: float,
    grad_tolerance: float,
) -> None:
    config = settings_of(setting, variant, chunk_positions=chunk)
    student, teacher = example(dtype)
    total = distillation_loss(student, teacher, config)
    exact, other = example(torch.float64)
    logits = exact.hidden @ exact.weight.T
    wanted = dense(logits, other.hidden @ other.weight.T, config).sum()
    assert total.dtype == dtype
    torch.testing.assert_close(
        total.double(), wanted, rtol=value_tolerance, atol=value_tolerance
    )
    for grad, wanted_grad in zip(
        gradients(total, student), gradients(wanted, exact), strict=True
    ):
        assert grad.dtype == dtype
        torch.testing.assert_close(
            grad.double(), wanted_grad, rtol=grad_tolerance, atol=grad_tolerance
        )


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_large_vocabulary_costs_no_precision(name: str) -> None:
    gen = torch.Generator().manual_seed(0)
    weight = torch.randn(49_152, 16, generator=gen) / 2
    hidden = torch.randn(6, 16, generator=gen)
    other = hidden + 0.2 * torch.randn(6, 16, generator=gen)
    config = settings_of(divergence=name)
    states = hidden.clone().requires_grad_()
    total = distillation_loss(
        HiddenStates(states, weight), HiddenStates(other, weight), config
    )
    exact = hidden.double().requires_grad_()
    head = weight.double().T
    wanted = dense(exact @ head, other.double() @ head, config).sum()
    torch.testing.assert_close(total.double(), wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        torch.autograd.grad(total, states)[0].double(),
        torch.autograd.grad(wanted, exact)[0],
        rtol=1e-5,
        atol=1e-5,
    )


def test_the_same_call_gives_the_same_bytes() -> None:
    for variant in VARIANTS:
        config = settings_of(variant, divergence="jsd", chunk_positions=4)
        first, second = (
            [total, *gradients(total, student)]
            for student, teacher in (example(torch.float32) for _ in range(2))
            for total in [distillation_loss(student, teacher, config)]
        )
        assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("chunk", [1, 4, N + 1])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("weighing", [False, True])
def test_imitation_equals_torch(
    chunk: int, softcap: float | None, weighing: bool
) -> None:
    student, _ = example(torch.float64)
    targets = torch.arange(N) % V
    weights = torch.arange(N, dtype=torch.float64) / 2
    entropies = torch.nn.functional.cross_entropy(
        capped(student.hidden @ student.weight.T, softcap), targets, reduction="none"
    )
    wanted = (weights * entropies if weighing else entropies).sum()
    readout = HiddenStates(student.hidden, student.weight, softcap)
    found = imitation_loss(readout, targets, chunk, weights if weighing else None)
    torch.testing.assert_close(
        (found, *gradients(found, student)),
        (wanted, *gradients(wanted, student)),
        rtol=1e-12,
        atol=1e-12,
    )


# --- weights ---

HOW_OFTEN = torch.tensor([1, 2, 0, 3, 1, 1, 2, 1, 4, 1, 1])


def repeated(readout: HiddenStates) -> HiddenStates:
    """Return a readout with each state as often as it counts."""
    return HiddenStates(readout.hidden.repeat_interleave(HOW_OFTEN, 0), readout.weight)


@pytest.mark.parametrize("chunk", [1, 4, 1000])
@every_setting
@every_variant
def test_a_position_that_counts_twice_is_two_positions(
    setting: dict[str, Any], variant: dict[str, Any], chunk: int
) -> None:
    config = settings_of(setting, variant, chunk_positions=chunk)
    student, teacher = example(torch.float64)
    # Weights may be of another type than states.
    found = distillation_loss(student, teacher, config, HOW_OFTEN.float())
    wanted = distillation_loss(repeated(student), repeated(teacher), config)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradients(found, student), gradients(wanted, student))


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_a_target_that_counts_twice_is_two_targets(chunk: int) -> None:
    student, _ = example(torch.float64)
    targets = torch.arange(N) % V
    found = imitation_loss(student, targets, chunk, HOW_OFTEN)
    wanted = imitation_loss(
        repeated(student), targets.repeat_interleave(HOW_OFTEN), chunk
    )
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradients(found, student), gradients(wanted, student))


def test_weights_of_one_change_no_bit() -> None:
    student, teacher = example(torch.float32)
    config = settings_of(divergence="jsd", chunk_positions=4)
    plain, weighted = (
        distillation_loss(student, teacher, config, weights)
        for weights in (None, torch.ones(N))
    )
    assert torch.equal(plain, weighted)
    assert all(
        map(torch.equal, gradients(plain, student), gradients(weighted, student))
    )
