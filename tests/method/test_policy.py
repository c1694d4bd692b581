"""The policy loss by hand, against loops with autograd, and against TRL's.

Axes: N completion tokens, D residual width, V vocabulary.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any, Final

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import places
from benchmarks.policy_agreement import Case, clipped, ours
from neuron_opsd.method import fused_loss as module
from neuron_opsd.method.fused_loss import HiddenStates
from neuron_opsd.method.losses import capped
from neuron_opsd.method.policy import (
    Limits,
    PolicyTokens,
    certainty,
    clipped_loss,
    low_variance_kl,
    policy_loss,
)
from neuron_opsd.method.rewards import LEAST_DEVIATION, advantages
from neuron_opsd.records import TokenIds

N, D, V = 11, 6, 17

ALLOWED: Final[dict[str, list[TokenIds]]] = {
    "free": [()] * N,
    "choices": [(3, 9), (5,), (4, 0, 16), (2,), *[(1, 8)] * 6, (7,)],
    "mixed": [(), (5,), (4, 0, 16), (), (2,), *[(8, 1)] * 4, (), (7,)],
}

CHUNKS = [1, 4, N, 1000]

FREELY = Limits(0.2, 0.2)
HELD = Limits(0.2, 0.28, 0.5)

RECORD: Final = json.loads(
    (places.CASES / "trl_policy.json").read_text(encoding="utf-8")
)
"""What TRL gave; `benchmarks.policy_agreement --record` writes it."""

every_chunk = pytest.mark.parametrize("chunk", CHUNKS)
every_allowed = pytest.mark.parametrize("allowed", ALLOWED.values(), ids=ALLOWED)


def example(
    dtype: torch.dtype = torch.float64, softcap: float | None = None
) -> tuple[HiddenStates, HiddenStates]:
    """Return a student that learns and a reference with the same head."""
    gen = torch.Generator().manual_seed(0)
    hidden, weight, other = (
        torch.randn(shape, generator=gen, dtype=torch.float64).to(dtype)
        for shape in ((N, D), (V, D), (N, D))
    )
    weight.requires_grad_()
    student = HiddenStates(hidden.requires_grad_(), weight, softcap)
    return student, HiddenStates(other, weight, softcap)


def drawn(
    allowed: list[TokenIds] = ALLOWED["free"], *, old: bool = True, **fields: Any
) -> PolicyTokens:
    """Return tokens with gains of both signs, and old values of either side."""
    gen = torch.Generator().manual_seed(1)
    gains, weights, noise = torch.randn(3, N, generator=gen, dtype=torch.float64)
    targets = [ids[n % len(ids)] if ids else n for n, ids in enumerate(allowed)]
    tokens = PolicyTokens(
        targets=torch.tensor(targets),
        advantages=gains,
        weights=weights.abs(),
        allowed=allowed,
        temperature=1.0,
        old_logprobs=noise - 1.5 if old else None,
    )
    return replace(tokens, **fields)


def gradients(total: Tensor, student: HiddenStates) -> list[Tensor]:
    return list(torch.autograd.grad(total, [student.hidden, student.weight]))


# --- worked by hand ---


def test_clipped_loss_by_hand() -> None:
    ratios = torch.tensor([1.5, 0.5, 1.5, 0.5, 1.1, 1.5])
    gains = torch.tensor([1.0, 1.0, -1.0, -1.0, 2.0, 0.0])
    leaf = ratios.log().requires_grad_()
    found = clipped_loss(leaf, torch.zeros(6), gains, 0.2, 0.3)
    # What gains by going on is held; what loses is not.
    wanted = torch.tensor([-1.3, -0.5, 1.5, 0.8, -2.2, 0.0])
    torch.testing.assert_close(found, wanted)
    (slopes,) = torch.autograd.grad(found.sum(), leaf)
    torch.testing.assert_close(slopes, torch.tensor([0, -0.5, 1.5, 0, -2.2, 0]))


def test_low_variance_kl_by_hand() -> None:
    leaf = torch.tensor([1 / 2], dtype=torch.float64).log().requires_grad_()
    found = low_variance_kl(leaf, torch.tensor([1 / 4], dtype=torch.float64).log())
    # d = ln(1/2): 1/2 + ln 2 - 1, which grows by 1 - exp(d)
    assert found.item() == pytest.approx(math.log(2) - 1 / 2)
    assert torch.autograd.grad(found, leaf)[0].item() == pytest.approx(1 / 2)


def coin(
    head: float, allowed: TokenIds = (), temperature: float = 1.0
) -> tuple[HiddenStates, PolicyTokens]:
    """Return who throws a coin that may land on its edge, and a head with a reward."""
    rest = (1 - head) / 2
    logits = torch.tensor([[head, rest, rest]], dtype=torch.float64).log()
    tokens = PolicyTokens(
        targets=torch.tensor([0]),
        advantages=torch.tensor([2.0]),
        weights=torch.tensor([3.0]),
        allowed=[allowed],
        temperature=temperature,
    )
    return HiddenStates(logits.requires_grad_(), torch.eye(3).double()), tokens


def value_and_grad(
    student: HiddenStates, tokens: PolicyTokens, reference: HiddenStates | None = None
) -> tuple[float, list[float]]:
    """Return the loss and its gradient by the first state; a KL weighs 1/2."""
    limits = FREELY if reference is None else HELD
    loss = policy_loss(student, reference, tokens, limits, 4)
    (grad,) = torch.autograd.grad(loss, student.hidden)
    return loss.item(), grad[0].tolist()


def test_loss_of_a_coin_by_hand() -> None:
    # Fresh rollouts have ratio 1, so the loss is -A and grows with log p by -A.
    loss, grad = value_and_grad(*coin(1 / 2))
    assert loss == pytest.approx(3 * -2)
    # A times weight, times p - onehot
    assert grad == pytest.approx([6 * -1 / 2, 6 / 4, 6 / 4])


def test_temperature_is_that_of_the_draw() -> None:
    # sqrt(4/6) : sqrt(1/6) : sqrt(1/6) is 2 : 1 : 1, and logits move p half as much
    _, grad = value_and_grad(*coin(4 / 6, temperature=2.0))
    assert grad == pytest.approx([3 * -1 / 2, 3 / 4, 3 / 4])


def test_what_was_not_allowed_has_no_probability() -> None:
    # 1/2 : 1/4 is 2/3 : 1/3
    _, grad = value_and_grad(*coin(1 / 2, allowed=(2, 0)))
    assert grad == pytest.approx([6 * -1 / 3, 0, 6 * 1 / 3])


def test_the_reference_pulls_by_hand() -> None:
    student, tokens = coin(1 / 2)
    reference, _ = coin(1 / 4)
    loss, grad = value_and_grad(student, tokens, reference)
    # as above: ln 2 - 1/2, which grows with log p by 1/2; half of that, thrice
    assert loss == pytest.approx(3 * (-2 + (math.log(2) - 1 / 2) / 2))
    slope = 3 * (-2 + 1 / 4)
    assert grad == pytest.approx([slope / 2, -slope / 4, -slope / 4])


def test_an_old_probability_clips_by_hand() -> None:
    student, tokens = coin(1 / 2)
    # The ratio is 2, above 1.2, and the token gains: -1.2 A, and no gradient.
    clipped_tokens = replace(tokens, old_logprobs=torch.tensor([1 / 4]).log())
    loss, grad = value_and_grad(student, clipped_tokens)
    assert loss == pytest.approx(3 * -1.2 * 2)
    assert grad == [0, 0, 0]


# --- against loops in float64, with autograd ---


def dense(
    student: HiddenStates, reference: HiddenStates, tokens: PolicyTokens, limits: Limits
) -> Tensor:
    """Return the loss from probabilities, position by position."""
    total = torch.zeros((), dtype=torch.float64)
    for n, allowed in enumerate(tokens.allowed):
        if len(allowed) == 1:
            continue
        p, p_ref = (
            probability(readout, tokens, n, allowed or tuple(range(V)))
            for readout in (student, reference)
        )
        old = p.detach()
        if tokens.old_logprobs is not None:
            old = tokens.old_logprobs[n].exp()
        gain, ratio = tokens.advantages[n], p / old
        held = ratio.clamp(1 - limits.clip_low, 1 + limits.clip_high)
        value = -torch.stack([ratio * gain, held * gain]).min()
        quotient = p_ref.detach() / p
        value = value + limits.kl_weight * (quotient - quotient.log() - 1)
        total = total + tokens.weights[n] * value
    return total


def probability(
    readout: HiddenStates, tokens: PolicyTokens, n: int, allowed: TokenIds
) -> Tensor:
    """Return how probable a token was among those allowed, in float64."""
    state, head = readout.hidden[n].double(), readout.weight[list(allowed)].double()
    logits = capped(head @ state, readout.softcap) / tokens.temperature
    return logits.softmax(-1)[allowed.index(int(tokens.targets[n]))]


@every_chunk
@every_allowed
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("limits", [FREELY, HELD], ids=["free", "held"])
def test_loss_and_gradients_equal_those_of_loops(
    chunk: int,
    allowed: list[TokenIds],
    softcap: float | None,
    temperature: float,
    old: bool,
    limits: Limits,
) -> None:
    student, reference = example(softcap=softcap)
    tokens = drawn(allowed, old=old, temperature=temperature)
    found = policy_loss(student, reference, tokens, limits, chunk)
    wanted = dense(student, reference, tokens, limits)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradients(found, student), gradients(wanted, student))


@every_chunk
@every_allowed
def test_blocks_of_a_tile_and_heads_of_their_own_change_nothing(
    chunk: int, allowed: list[TokenIds], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 2 * V * 8)
    student, reference = example(softcap=2.0)
    reference = HiddenStates(reference.hidden, 0.5 * reference.weight.detach())
    tokens = drawn(allowed)
    found = policy_loss(student, reference, tokens, HELD, chunk)
    wanted = dense(student, reference, tokens, HELD)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradients(found, student), gradients(wanted, student))


def in_float64(readout: HiddenStates) -> HiddenStates:
    """Return a readout of the same values that learns."""
    hidden, weight = (
        x.detach().double().requires_grad_() for x in (readout.hidden, readout.weight)
    )
    return HiddenStates(hidden, weight, readout.softcap)


@every_allowed
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # Gradients in bfloat16 are rounded once, at the end, to 8 digits.
    [(torch.float32, 1e-6), (torch.bfloat16, 2**-8)],
    ids=str,
)
def test_products_of_less_precise_states_are_added_up_in_float32(
    allowed: list[TokenIds], dtype: torch.dtype, tolerance: float
) -> None:
    student, reference = example(dtype)
    tokens = drawn(allowed)
    found = policy_loss(student, reference, tokens, HELD, 4)
    assert found.dtype == torch.float32
    exact, other = (in_float64(readout) for readout in (student, reference))
    wanted = dense(exact, other, tokens, HELD)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    for grad, wanted_grad in zip(
        gradients(found, student), gradients(wanted, exact), strict=True
    ):
        assert grad.dtype == dtype
        largest = wanted_grad.abs().max().item()
        torch.testing.assert_close(
            grad.double(), wanted_grad, rtol=tolerance, atol=1e-6 * largest
        )


@every_allowed
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_a_small_step_changes_the_loss_as_its_gradient_says(
    allowed: list[TokenIds], softcap: float | None
) -> None:
    student, reference = example(softcap=softcap)
    tokens = drawn(allowed, temperature=0.7)
    (grad,) = torch.autograd.grad(
        policy_loss(student, reference, tokens, HELD, 4), student.hidden
    )
    gen = torch.Generator().manual_seed(2)
    for _ in range(4):
        step = 1e-5 * torch.randn(N, D, generator=gen, dtype=torch.float64)
        ahead, behind = (
            policy_loss(
                replace(student, hidden=student.hidden.detach() + sign * step),
                reference,
                tokens,
                HELD,
                4,
            ).item()
            for sign in (1, -1)
        )
        change = (grad * step).sum().item()
        assert (ahead - behind) / 2 == pytest.approx(change, rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@every_allowed
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)], ids=str
)
def test_a_gpu_gives_what_the_processor_gives(
    allowed: list[TokenIds], dtype: torch.dtype, tolerance: float
) -> None:
    grads = []
    for device in ("cpu", "cuda"):
        student, reference = (
            HiddenStates(x.hidden.detach().to(device), x.weight.detach().to(device))
            for x in example(dtype)
        )
        student.hidden.requires_grad_()
        tokens = drawn(allowed)
        there = replace(
            tokens,
            targets=tokens.targets.to(device),
            advantages=tokens.advantages.to(device),
            weights=tokens.weights.to(device),
        )
        # Without old probabilities no token is near a clip.
        fresh = replace(there, old_logprobs=None)
        loss = policy_loss(student, reference, fresh, HELD, 4)
        grads.append(torch.autograd.grad(loss, student.hidden)[0].cpu())
    largest = grads[0].abs().max().item()
    torch.testing.assert_close(
        grads[1], grads[0], rtol=tolerance, atol=tolerance * largest
    )


# --- what holds for every batch ---


@every_allowed
def test_parts_of_a_batch_add_up(allowed: list[TokenIds]) -> None:
    student, reference = example()
    tokens = drawn(allowed)
    whole = policy_loss(student, reference, tokens, HELD, 4)
    parts = [
        policy_loss(
            replace(student, hidden=student.hidden[part]),
            replace(reference, hidden=reference.hidden[part]),
            tokens.at(part),
            HELD,
            4,
        )
        for part in (slice(0, 1), slice(1, 5), slice(5, 11))
    ]
    total = torch.stack(parts).sum()
    torch.testing.assert_close(total, whole)
    torch.testing.assert_close(gradients(total, student), gradients(whole, student))


@every_allowed
def test_a_token_that_counts_twice_is_two_tokens(allowed: list[TokenIds]) -> None:
    student, reference = example()
    counts = torch.arange(N) % 4
    tokens = drawn(allowed, weights=counts)
    found = policy_loss(student, reference, tokens, HELD, 4)
    places = torch.arange(N).repeat_interleave(counts)
    repeated = replace(tokens.at(places), weights=torch.ones(len(places)))
    wanted = policy_loss(
        replace(student, hidden=student.hidden[places]),
        replace(reference, hidden=reference.hidden[places]),
        repeated,
        HELD,
        4,
    )
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradients(found, student), gradients(wanted, student))


@every_allowed
def test_a_reward_like_the_groups_teaches_nothing(allowed: list[TokenIds]) -> None:
    student, _ = example()
    tokens = drawn(allowed, advantages=torch.zeros(N))
    found = policy_loss(student, None, tokens, FREELY, 4)
    assert found.item() == 0.0
    assert not any(grad.any() for grad in gradients(found, student))


@every_allowed
def test_a_student_that_is_the_reference_is_not_pulled(
    allowed: list[TokenIds],
) -> None:
    student, _ = example()
    tokens = drawn(allowed)
    same = HiddenStates(student.hidden.detach(), student.weight)
    alone = policy_loss(student, None, tokens, FREELY, 4)
    found = policy_loss(student, same, tokens, Limits(0.2, 0.2, 9.0), 4)
    torch.testing.assert_close(found, alone)
    torch.testing.assert_close(gradients(found, student), gradients(alone, student))


def test_only_the_student_receives_gradients() -> None:
    student, reference = example()
    reference.hidden.requires_grad_()
    head = reference.weight.detach().clone().requires_grad_()
    other = HiddenStates(reference.hidden, head)
    tokens = drawn(ALLOWED["mixed"])
    tokens.advantages.requires_grad_()
    policy_loss(student, other, tokens, HELD, 4).backward()
    assert student.hidden.grad is not None
    assert student.weight.grad is not None
    for constant in (reference.hidden, head, tokens.advantages):
        assert constant.grad is None


@every_allowed
def test_nothing_that_was_lent_is_changed(allowed: list[TokenIds]) -> None:
    student, reference = example()
    tokens, copy = drawn(allowed), drawn(allowed)
    fresh, other = example()
    policy_loss(student, reference, tokens, HELD, 4).backward()
    assert torch.equal(student.hidden, fresh.hidden)
    assert torch.equal(student.weight, fresh.weight)
    assert torch.equal(reference.hidden, other.hidden)
    assert torch.equal(tokens.targets, copy.targets)
    assert torch.equal(tokens.advantages, copy.advantages)
    assert torch.equal(tokens.weights, copy.weights)


# --- what is not looked at ---


def test_positions_where_one_token_is_allowed_are_not_looked_at() -> None:
    student, reference = example()
    tokens = drawn(ALLOWED["mixed"])
    certain = [n for n, allowed in enumerate(tokens.allowed) if len(allowed) == 1]
    wanted = policy_loss(student, reference, tokens, HELD, 4)
    hidden = student.hidden.detach().clone()
    hidden[certain] = torch.nan
    masked = replace(student, hidden=hidden.requires_grad_())
    found = policy_loss(masked, reference, tokens, HELD, 4)
    torch.testing.assert_close(found, wanted)
    grad, _ = gradients(found, masked)
    assert not grad[certain].any()
    assert torch.isfinite(grad).all()


def test_tokens_that_are_allowed_nowhere_are_not_looked_at() -> None:
    student, reference = example()
    tokens = drawn(ALLOWED["choices"])
    wanted = policy_loss(student, reference, tokens, HELD, 4)
    used = sorted({t for ids in tokens.allowed if len(ids) > 1 for t in ids})
    weight = torch.full((V, D), torch.nan, dtype=torch.float64)
    weight[used] = student.weight.detach()[used]
    weight.requires_grad_()
    masked = replace(student, weight=weight)
    found = policy_loss(masked, replace(reference, weight=weight), tokens, HELD, 4)
    torch.testing.assert_close(found, wanted)
    for grad, wanted_grad in zip(
        gradients(found, masked), gradients(wanted, student), strict=True
    ):
        torch.testing.assert_close(grad, wanted_grad)


@pytest.mark.parametrize("limits", [FREELY, HELD], ids=["free", "held"])
def test_where_nothing_was_drawn_there_is_nothing_to_learn(limits: Limits) -> None:
    student, reference = example()
    tokens = drawn([(n,) for n in range(N)])
    found = policy_loss(student, reference, tokens, limits, 4)
    assert found.item() == 0.0
    found.backward()
    for leaf in (student.hidden, student.weight):
        assert leaf.grad is not None
        assert torch.equal(leaf.grad, torch.zeros_like(leaf))


def test_no_tokens_are_no_loss() -> None:
    student, _ = example()
    empty = drawn(old=False).at(slice(0, 0))
    found = policy_loss(
        replace(student, hidden=student.hidden[:0]), None, empty, FREELY, 4
    )
    assert found.item() == 0.0


def test_a_reference_without_weight_is_not_looked_at() -> None:
    student, reference = example()
    wanted = policy_loss(student, None, drawn(), FREELY, 4)
    unknown = replace(reference, hidden=torch.full_like(reference.hidden, torch.nan))
    assert torch.equal(policy_loss(student, unknown, drawn(), FREELY, 4), wanted)


def test_a_state_that_is_no_number_is_not_hidden() -> None:
    student, _ = example()
    hidden = student.hidden.detach().clone()
    hidden[0, 0] = torch.nan
    for allowed in ALLOWED.values():
        broken = replace(student, hidden=hidden)
        assert policy_loss(broken, None, drawn(allowed), FREELY, 4).isnan()


# --- what is refused ---


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weights": torch.ones(1)}, "11 targets but 1 weights"),
        ({"advantages": torch.ones(3)}, "11 targets but 3 advantages"),
        ({"allowed": [()] * 12}, "11 targets but 12 sets of allowed tokens"),
        ({"old_logprobs": torch.ones(2)}, "11 targets but 2 old log-probabilities"),
        ({"targets": torch.arange(10)}, "10 targets but 11 states"),
        ({"temperature": 0.0}, r"temperature 0\.0 have no gradient"),
        ({"temperature": math.nan}, "temperature nan have no gradient"),
        ({"allowed": [(3, 4)] * N}, r"token 0 was drawn where only \(3, 4\)"),
        ({"allowed": [(3,)] * N}, r"token 0 was drawn where only \(3,\)"),
    ],
)
def test_tokens_that_cannot_be_are_refused(
    fields: dict[str, Any], message: str
) -> None:
    student, _ = example()
    with pytest.raises(ValueError, match=message):
        policy_loss(student, None, replace(drawn(), **fields), FREELY, 4)


def test_a_reference_must_be_there_and_as_long() -> None:
    student, reference = example()
    with pytest.raises(ValueError, match=r"weight 0\.5 but there is no reference"):
        policy_loss(student, None, drawn(), HELD, 4)
    shorter = replace(reference, hidden=reference.hidden[1:])
    with pytest.raises(ValueError, match="11 targets but 10 states"):
        policy_loss(student, shorter, drawn(), HELD, 4)


# --- the divergence from the reference ---


@given(st.integers(0, 2**16))
def test_low_variance_kl_is_the_kl_on_average_and_never_negative(seed: int) -> None:
    gen = torch.Generator().manual_seed(seed)
    log_p, log_q = torch.randn(2, 9, generator=gen, dtype=torch.float64).log_softmax(-1)
    values = low_variance_kl(log_p, log_q)
    assert (values >= 0).all()
    p = log_p.exp()
    torch.testing.assert_close((p * values).sum(), (p * (log_p - log_q)).sum())


def test_small_differences_from_the_reference_keep_their_digits() -> None:
    difference = torch.tensor([1e-3, -1e-4], dtype=torch.float32)
    found = low_variance_kl(torch.zeros(2), difference)
    # d^2 / 2 + d^3 / 6
    wanted = [x * x / 2 + x**3 / 6 for x in difference.tolist()]
    assert found.tolist() == pytest.approx(wanted, rel=1e-3)


# --- TRL ---


@pytest.mark.parametrize("case", RECORD["cases"], ids=lambda c: c["settings"]["name"])
def test_loss_and_gradient_are_those_of_trl(case: dict[str, Any]) -> None:
    loss, gradient = ours(RECORD["inputs"], Case(**case["settings"]))
    assert loss == pytest.approx(case["loss"], abs=1e-12)
    for row, wanted in zip(gradient, case["gradient"], strict=True):
        assert row == pytest.approx(wanted, abs=1e-12)


def test_tokens_are_clipped_on_both_sides_in_what_trl_gave() -> None:
    cases = [Case(**case["settings"]) for case in RECORD["cases"]]
    assert {case.kl_weight for case in cases} == {0.0, 0.04}
    for case in cases:
        below, above = clipped(RECORD["inputs"], case)
        assert (below > 0) == (above > 0) == case.old


@pytest.mark.parametrize("group", RECORD["advantages"], ids=lambda g: str(g["rewards"]))
def test_advantages_are_those_of_trl_but_for_what_is_added_to_the_deviation(
    group: dict[str, Any],
) -> None:
    rewards = torch.tensor(group["rewards"], dtype=torch.float64)
    deviation = rewards.std().item()
    rescaled = [
        gain * (deviation + LEAST_DEVIATION) / (deviation + 1e-4)
        for gain in advantages(group["rewards"])
    ]
    # TRL takes G / (G - 1) in float32.
    assert rescaled == pytest.approx(group["found"], rel=1e-6)


# --- certainty ---


def test_certainty_of_coins_by_hand() -> None:
    probabilities = torch.tensor([[1 / 4, 3 / 4], [1 / 2, 1 / 2]])
    sure, entropy = certainty(HiddenStates(probabilities.log(), torch.eye(2)), 4)
    # 1/2 ln((1/2) / (1/4)) + 1/2 ln((1/2) / (3/4)) = 1/2 ln(4/3)
    assert sure.tolist() == pytest.approx([math.log(4 / 3) / 2, 0], abs=1e-6)
    bent = math.log(4) / 4 + 3 / 4 * math.log(4 / 3)
    assert entropy.tolist() == pytest.approx([bent, math.log(2)])


@every_chunk
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_certainty_is_that_of_all_logits(
    chunk: int, softcap: float | None, dtype: torch.dtype
) -> None:
    student, _ = example(dtype, softcap)
    sure, entropy = certainty(student, chunk)
    exact = student.hidden.detach().double() @ student.weight.detach().double().T
    p = capped(exact, softcap).softmax(-1)
    uniform = torch.full_like(p, 1 / V)
    wanted_sure = (uniform * (uniform / p).log()).sum(-1)
    wanted_entropy = -(p * p.log()).sum(-1)
    assert sure.shape == entropy.shape == (N,)
    assert not sure.requires_grad
    assert not entropy.requires_grad
    exactly = 1e-12 if dtype == torch.float64 else 1e-5
    for found, wanted in ((sure, wanted_sure), (entropy, wanted_entropy)):
        assert found.dtype == torch.promote_types(dtype, torch.float32)
        torch.testing.assert_close(found.double(), wanted, rtol=exactly, atol=exactly)


def test_certainty_of_a_large_vocabulary_costs_no_precision() -> None:
    gen = torch.Generator().manual_seed(0)
    weight, hidden = (torch.randn(n, 16, generator=gen) for n in (49_152, 5))
    sure, entropy = certainty(HiddenStates(hidden, weight), 2)
    log_p = (hidden.double() @ weight.double().T).log_softmax(-1)
    wanted_sure = -log_p.mean(-1) - math.log(49_152)
    wanted_entropy = -(log_p.exp() * log_p).sum(-1)
    torch.testing.assert_close(sure.double(), wanted_sure, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy.double(), wanted_entropy, rtol=1e-5, atol=1e-5)


def test_no_states_are_sure_of_nothing() -> None:
    student, _ = example()
    sure, entropy = certainty(replace(student, hidden=student.hidden[:0]), 4)
    assert sure.shape == entropy.shape == (0,)
