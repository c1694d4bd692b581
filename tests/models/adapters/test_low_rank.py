"""Small changes of rounded weights: every pass keeps them, and the tests would notice.

The *kept share* of a change is the projection of the change that a pass makes on the
exact one. Each test of it says what the share is where the change is left out, merged
before rounding, or another's.

Axes: N tokens, K inputs and O outputs of a layer, D residual width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from loaded import learning, loaded, model_config, plain_network, random_pairs
from neuron_opsd.config import DistillConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.method import fused_loss
from neuron_opsd.method.fused_loss import HiddenStates
from neuron_opsd.method.losses import distillation_loss
from neuron_opsd.models.adapters.low_rank import (
    LowRank,
    apart,
    carry_changes,
    rewrite,
    widened,
)
from neuron_opsd.models.adapters.low_rank import learning as through
from neuron_opsd.models.hf import HFModel, ProductWeights
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.load import learner_of, load_model
from neuron_opsd.models.roles import Sampling
from neuron_opsd.records import Pair
from tiny import tiny_model

HALF: Final[Mapping[str, Any]] = {"compute": "bfloat16"}
SMALL: Final = 8e-4
"""Size of an adapter's second factor whose change is mostly below half a step."""

plain_peft = pytest.mark.filterwarnings("ignore:.is_gradient_checkp:FutureWarning")


def share(found: Tensor, plain: Tensor, exact: Tensor) -> float:
    """Return how much of an exact change is in what was found above `plain`."""
    change = (found.double() - plain.double()).flatten()
    wanted = exact.double().flatten()
    return float(change @ wanted / wanted.square().sum())


def keeps(value: float) -> bool:
    """Whether a share is that of a pass that keeps a change."""
    return 0.97 < value < 1.03


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Path:
    """Give models whose weights are rounded to bfloat16, as published ones are."""
    made = tiny_model(tmp_path_factory.mktemp("rounded") / "m", request.param)
    network = plain_network(made)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(weight.bfloat16())
    network.save_pretrained(made)
    return made


def changed(learner: HFLearner, size: float = SMALL, seed: int = 0) -> HFLearner:
    """Give an adapter a random second factor, and the teacher one of its own."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in learner.weights.items():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=source) * size)
                learner.teacher_weights[name].copy_(weight.flip(0))
    learner.update_teacher(1e-9)  # what was held of the old weights is dropped
    return learner


def many_pairs(model: HFModel) -> list[Pair]:
    return random_pairs([(6, 20)] * 150, model.facts.vocab_size)


# --- one layer ---


def layer_and_change() -> tuple[nn.Module, Tensor, LowRank, Tensor]:
    """Return a layer with its matrix, a small change of it and many inputs."""
    source = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source)

    layer = nn.Sequential(nn.Linear(48, 64, bias=False))
    carry_changes(layer)
    change = LowRank(normal(4, 48) * 0.14, normal(64, 4) * 2e-4)
    return layer, normal(64, 48).bfloat16(), change, normal(4000, 48).bfloat16()


def run(layer: nn.Module, weights: Mapping[str, Tensor], states: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output: Tensor = torch.func.functional_call(layer, dict(weights), (states,))
    return output


def test_a_widened_matrix_keeps_what_rounding_loses() -> None:
    layer, matrix, change, states = layer_and_change()
    base = {"0.weight": matrix}
    plain = run(layer, base, states)
    exact = states.float() @ change.product.T
    other = LowRank(change.down.flip(1), change.up)
    merged = {"0.weight": (matrix.float() + change.product).bfloat16()}

    def kept(weights: Mapping[str, Tensor]) -> float:
        return share(run(layer, weights, states), plain, exact)

    assert keeps(kept(widened(base, {"0": change})))
    assert kept(base) == 0.0
    assert kept(merged) < 0.5
    assert kept(apart(base, {"0": change})) < 0.9
    assert kept(widened(base, {"0": other})) < 0.5


def test_a_change_that_is_written_over_is_the_new_one() -> None:
    layer, matrix, change, states = layer_and_change()
    base = {"0.weight": matrix}
    other = LowRank(change.down.flip(1), change.up.flip(0))
    weights = widened(base, {"0": change})
    rewrite(weights, {"0": other})
    fresh = widened(base, {"0": other})
    assert torch.equal(run(layer, weights, states), run(layer, fresh, states))
    assert weights.keys() == base.keys() | {"0.down"}
    assert base["0.weight"] is matrix


def test_changes_that_stood_apart_are_widened_with_the_others() -> None:
    layer, matrix, change, states = layer_and_change()
    base = {"0.weight": matrix}
    second = LowRank(change.down.flip(1), change.up.flip(0))
    both = widened(apart(base, {"0": change}), {"0": second})
    exact = states.float() @ (change.product + second.product).T
    assert keeps(share(run(layer, both, states), run(layer, base, states), exact))


def test_the_factors_get_the_gradients_of_the_formula() -> None:
    layer, matrix, change, states = layer_and_change()
    inputs = states.double()[:50].view(5, 10, 48).requires_grad_()
    factors = [f.double().requires_grad_() for f in (change.down, change.up)]
    weight = matrix.double()
    with torch.no_grad():
        held = widened({"0.weight": weight}, {"0": LowRank(*factors)})
    weights = through(held, {"0": LowRank(*factors)})
    found = torch.func.functional_call(layer, weights, (inputs,))
    exact = inputs @ (weight + factors[1] @ factors[0]).T
    wanted = [inputs, *factors]
    torch.testing.assert_close(found, exact)
    torch.testing.assert_close(
        torch.autograd.grad(found.square().sum(), wanted),
        torch.autograd.grad(exact.square().sum(), wanted),
    )


# --- a model that learns ---


def student(learner: HFLearner, pairs: list[Pair]) -> Tensor:
    with torch.no_grad():
        return learner.states(pairs)


def student_with_gradient(learner: HFLearner, pairs: list[Pair]) -> Tensor:
    return learner.student(pairs).hidden.detach()


def teacher(learner: HFLearner, pairs: list[Pair]) -> Tensor:
    return learner.teacher(pairs).hidden


PASSES: Final = (student, student_with_gradient, teacher)


@pytest.mark.parametrize("run_pass", PASSES)
def test_every_pass_keeps_a_small_change(
    folder: Path, run_pass: Callable[[HFLearner, list[Pair]], Tensor]
) -> None:
    full, half = changed(learning(folder)), changed(learning(folder, on=HALF))
    pairs = many_pairs(full)
    with torch.no_grad():
        exact = run_pass(full, pairs) - full.frozen.states(pairs)
        plain = half.frozen.states(pairs)
    for earlier in PASSES:  # each takes the place of the one before
        earlier(half, pairs[:1])
    found = run_pass(half, pairs)
    assert keeps(share(found, plain, exact))
    other = run_pass(changed(learning(folder, on=HALF), seed=1), pairs)
    assert share(other, plain, exact) < 0.5


def test_merging_before_rounding_would_be_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, half = changed(learning(folder)), changed(learning(folder, on=HALF))
    pairs = many_pairs(full)
    with torch.no_grad():
        exact = full.states(pairs) - full.frozen.states(pairs)
        plain = half.frozen.states(pairs)
        merged = {
            name: weight.bfloat16()
            for name, weight in full.product_weights().decoder.items()
        }
        head = half.frozen.product_weights().head
        weights = ProductWeights(merged, head)
        monkeypatch.setattr(half, "product_weights", lambda: weights)
        found = half.states(pairs)
    assert share(found, plain, exact) < 0.9


def test_a_second_adapter_is_kept_beside_the_first(
    folder: Path, tmp_path: Path
) -> None:
    changed(learning(folder), size=3e-2).save_adapter(tmp_path / "first")
    full, half = (
        changed(
            learner_of(
                load_model(model_config(folder, **on), tmp_path / "first"),
                DistillConfig(lora_rank=4, lora_alpha=8),
                1,
            ),
        )
        for on in ({}, HALF)
    )
    pairs = many_pairs(full)
    with torch.no_grad():
        below, plain = (
            loaded(folder).states(pairs),
            loaded(folder, **HALF).states(pairs),
        )
        exact, found = full.states(pairs), half.states(pairs)
        assert keeps(share(found, plain, exact - below))
        # What the second adds, beside what the first alone gives without rounding.
        first = full.frozen.states(pairs)
    assert (exact - first).abs().max() > 0
    assert half.frozen.changes.keys() == full.frozen.changes.keys()
    assert half.frozen.changes


def test_tokens_do_not_hang_on_what_else_is_written(folder: Path) -> None:
    learner = changed(learning(folder, on=HALF), size=3e-2)
    prompts = [prompt for prompt, _ in many_pairs(learner)[:40]]
    seeds = [[i, i + 100] for i in range(len(prompts))]
    sampling = Sampling(1.0, max_new_tokens=6)
    together = learner.sample(prompts, seeds, sampling)
    for i in (0, 7):
        alone = learner.sample(prompts[i : i + 1], seeds[i : i + 1], sampling)
        assert [c.token_ids for c in alone[0]] == [c.token_ids for c in together[i]]


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_all_weights_are_trained_and_tested_in_float32(
    folder: Path, tmp_path: Path, compute: str
) -> None:
    learner = learning(folder, tuning="full", on={"compute": compute})
    assert learner.facts.compute == "float32"
    with torch.no_grad():
        for weight in learner.weights.values():
            weight.mul_(1.0 + 1e-4)
    pairs = many_pairs(learner)[:5]
    found = student_with_gradient(learner, pairs)
    assert (found - loaded(folder).states(pairs)).abs().max() > 1e-5
    torch.testing.assert_close(student(learner, pairs), found)
    learner.save_adapter(tmp_path / "whole")
    tested = loaded(folder, tmp_path / "whole", compute=compute)
    with torch.no_grad():
        torch.testing.assert_close(tested.states(pairs), found)


# --- the model that is tested ---


def peft_logprobs(network: Any, pairs: list[Pair]) -> Tensor:
    """Return ``(N, V)`` log-probabilities of PEFT's own layers under autocast."""
    found = []
    for prompt, completion in pairs:
        ids = torch.tensor([prompt + completion])
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            states = network.get_base_model().get_decoder()(input_ids=ids)
        found.append(states.last_hidden_state[0, len(prompt) - 1 : -1])
    head = network.get_output_embeddings().weight.detach()
    return torch.log_softmax(torch.cat(found).float() @ head.T, dim=-1)


def logprobs(model: HFModel, pairs: list[Pair]) -> Tensor:
    with torch.no_grad():
        states = model.states(pairs).float()
    return torch.log_softmax(states @ model.head().weight.detach().T, dim=-1)


def divergence(p: Tensor, q: Tensor) -> float:
    return float((p.exp() * (p - q)).sum(dim=-1).mean())


@plain_peft
def test_the_tested_model_is_the_saved_adapter_in_peft(
    folder: Path, tmp_path: Path
) -> None:
    adapter, other = tmp_path / "adapter", tmp_path / "other"
    changed(learning(folder), size=1e-2).save_adapter(adapter)
    changed(learning(folder), size=1e-2, seed=1).save_adapter(other)
    theirs = PeftModel.from_pretrained(plain_network(folder), adapter).eval()
    tested = loaded(folder, adapter, **HALF)
    pairs = many_pairs(tested)
    wanted = peft_logprobs(theirs, pairs)
    near = divergence(wanted, logprobs(tested, pairs))
    assert near < 1e-5
    for wrong in (loaded(folder, **HALF), loaded(folder, other, **HALF)):
        assert divergence(wanted, logprobs(wrong, pairs)) > 1e-4
    tested.changes = {}  # as if the merged matrices were rounded
    tested.release()
    assert divergence(wanted, logprobs(tested, pairs)) > 10 * near


@plain_peft
def test_an_adapter_that_rounding_would_spoil_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    settings = LoraConfig(r=2, use_dora=True, target_modules=["q_proj"])
    get_peft_model(plain_network(folder), settings).save_pretrained(
        str(tmp_path / "dora")
    )
    assert loaded(folder, tmp_path / "dora").facts.compute == "float32"
    with pytest.raises(ModelError, match=r"lora_magnitude_vector.*compute to float32"):
        loaded(folder, tmp_path / "dora", **HALF)


# --- logits that are sampled from ---


def test_sampled_logits_are_not_rounded(folder: Path) -> None:
    model = loaded(folder, **HALF)
    states = torch.randn(64, model.facts.width, generator=torch.Generator())
    logits = model.next_logits(states)
    head = model.head().weight.detach()
    exact = states.bfloat16().double() @ head.bfloat16().double().T
    assert logits.dtype == torch.float32
    near = (logits - exact).abs().max() / exact.abs().max()
    assert near < 2**-16
    assert (exact.bfloat16() - exact).abs().max() / exact.abs().max() > 2**-11


def readouts_of(
    learner: HFLearner, pairs: list[Pair]
) -> tuple[HiddenStates, HiddenStates]:
    hidden, head = learner.student(pairs).hidden, learner.head()
    return (
        HiddenStates(hidden, head.weight),
        learner.reference(pairs),
    )


def gradients_of(learner: HFLearner) -> Tensor:
    grads = [weight.grad for weight in learner.weights.values()]
    return torch.cat([grad.flatten() for grad in grads if grad is not None]).clone()


def test_the_loss_multiplies_halves_as_on_an_accelerator(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = changed(learning(folder, on=HALF), size=3e-2)
    pairs, config = many_pairs(learner)[:20], DistillConfig()
    student, reference = readouts_of(learner, pairs)
    exact = distillation_loss(student, reference, config)
    exact.backward()
    wanted = gradients_of(learner)
    learner.optimizer.zero_grad()
    seen: set[torch.dtype] = set()
    rightly = fused_loss.multiply

    def multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
        seen.update((right.dtype, out.dtype))
        rightly(left, right, out)

    monkeypatch.setattr(fused_loss, "multiply", multiply)
    monkeypatch.setattr(fused_loss, "factor_type", lambda hidden: hidden.dtype)
    monkeypatch.setattr(HFModel, "readout_type", torch.bfloat16)
    student, reference = readouts_of(learner, pairs)
    assert student.hidden.dtype == reference.hidden.dtype == torch.bfloat16
    found = distillation_loss(student, reference, config)
    found.backward()
    assert seen == {torch.bfloat16, torch.float32}
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=0.02)
    near = torch.cosine_similarity(gradients_of(learner), wanted, dim=0)
    assert near > 0.99
