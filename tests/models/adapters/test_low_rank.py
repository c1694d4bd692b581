"""Small changes of rounded weights: every pass keeps them, and the tests would notice.

The *kept share* of a change is the projection of the change that a pass makes on the
exact one. Each test of it says what the share is where the change is left out, merged
before rounding, or another's.

Axes: N tokens, K inputs and O outputs of a layer, D residual width.
"""

from __future__ import annotations

import shutil
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
    added,
    carry_changes,
    for_products,
)
from neuron_opsd.models.adapters.matrices import Matrices
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
    return 0.95 < value < 1.05


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


class OneLayer(nn.Module):
    """A network of one linear layer."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        outputs, inputs = matrix.shape
        self.layers = nn.Sequential(nn.Linear(inputs, outputs, bias=False))
        self.layers[0].weight = nn.Parameter(matrix, requires_grad=False)
        carry_changes(self.layers)

    def get_decoder(self) -> nn.Module:
        """Return what holds the layer."""
        return self.layers

    def get_output_embeddings(self) -> nn.Module:
        """Return the layer."""
        return self.layers[0]


def held(matrix: Tensor, *changes: LowRank) -> tuple[Matrices, dict[str, LowRank]]:
    """Return the matrices of one layer, and changes in the type of its products."""
    total: dict[str, LowRank] = {}
    for change in changes:
        total = added(total, for_products({"0": change}, matrix.dtype))
    return Matrices(OneLayer(matrix), matrix.dtype), total


def layer_and_change() -> tuple[Tensor, LowRank, Tensor]:
    """Return a layer's matrix, a small change of it and many inputs."""
    source = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source)

    change = LowRank(normal(4, 48) * 0.14, normal(64, 4) * 2e-4)
    return normal(64, 48).bfloat16(), change, normal(4000, 48).bfloat16()


def run(matrices: Matrices, weights: Mapping[str, Tensor], states: Tensor) -> Tensor:
    decoder = matrices.decoder
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output: Tensor = torch.func.functional_call(decoder, dict(weights), (states,))
    return output


def test_a_widened_matrix_keeps_what_rounding_loses() -> None:
    matrix, change, states = layer_and_change()
    matrices, changes = held(matrix, change)
    plain = run(matrices, {}, states)
    exact = states.float() @ change.product.T
    other = for_products({"0": LowRank(change.down.flip(1), change.up)}, torch.bfloat16)
    merged = {"0.weight": (matrix.float() + change.product).bfloat16()}

    def kept(weights: Mapping[str, Tensor]) -> float:
        return share(run(matrices, weights, states), plain, exact)

    assert keeps(kept(matrices.widened(changes)))
    assert kept({}) == 0.0
    assert kept(merged) < 0.5
    assert kept(matrices.apart(changes)) < 0.9
    assert kept(matrices.widened(other)) < 0.5


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_a_change_that_is_written_over_is_the_new_one(kind: torch.dtype) -> None:
    matrix, change, states = layer_and_change()
    matrix = matrix.to(kind)
    other = LowRank(change.down.flip(1), change.up.flip(0))
    matrices, first = held(matrix.clone(), change)
    fresh, second = held(matrix.clone(), other)
    plain = run(matrices, {}, states)
    before = run(matrices, matrices.widened(first), states)
    after = run(matrices, matrices.widened(second), states)
    assert torch.equal(after, run(fresh, fresh.widened(second), states))
    assert not torch.equal(after, before)
    assert torch.equal(run(matrices, matrices.widened(first), states), before)
    # The model without changes sees none of it, to the last bit.
    assert torch.equal(run(matrices, matrices.apart({}), states), plain)
    assert torch.equal(matrices.decoder.get_parameter("0.weight"), matrix)


@pytest.mark.parametrize("own", [torch.bfloat16, torch.float32])
def test_a_matrix_is_held_once_whoever_asks(own: torch.dtype) -> None:
    matrix, change, _ = layer_and_change()
    matrices = Matrices(OneLayer(matrix.to(own)), torch.bfloat16)
    changes = for_products({"0": change}, torch.bfloat16)
    last = matrix.shape[1]
    for asked in (changes, added(changes, changes), changes):
        whole = matrices.widened(asked)["0.weight"]
        layer = matrices.decoder.get_parameter("0.weight")
        alone = matrices.apart({}).get("0.weight", layer)
        assert alone.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
        assert torch.equal(alone, matrix)
        assert whole.shape[1] == last + len(asked["0"].down)


def test_changes_of_one_adapter_are_widened_with_those_of_another() -> None:
    matrix, change, states = layer_and_change()
    second = LowRank(change.down.flip(1), change.up.flip(0))
    matrices, changes = held(matrix, change, second)
    both = matrices.widened(changes)
    exact = states.float() @ (change.product + second.product).T
    assert keeps(share(run(matrices, both, states), run(matrices, {}, states), exact))


def test_the_factors_get_the_gradients_of_the_formula() -> None:
    matrix, change, states = layer_and_change()
    inputs = states.double()[:50].view(5, 10, 48).requires_grad_()
    factors = [f.double().requires_grad_() for f in (change.down, change.up)]
    matrices = Matrices(OneLayer(matrix.double()), torch.double)
    own = for_products({"0": LowRank(*factors)}, torch.double)
    kept = {"0": LowRank(own["0"].down.detach(), own["0"].up.detach())}
    weights = matrices.learning(kept, own)
    found = torch.func.functional_call(matrices.decoder, weights, (inputs,))
    exact = inputs @ (matrix.double() + factors[1] @ factors[0]).T
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
        merged = {}
        for name, change in full._changes_as("student").items():  # noqa: SLF001
            weight = full.frozen.decoder.get_parameter(f"{name}.weight")
            merged[f"{name}.weight"] = (weight + change.product).bfloat16()
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
    return torch.log_softmax(states @ model.head().weight.detach().float().T, dim=-1)


def divergence(p: Tensor, q: Tensor) -> float:
    return float((p.exp() * (p - q)).sum(dim=-1).mean())


def merged_and_rounded(folder: Path, adapter: Path, made: Path) -> Path:
    """Write a model with an adapter merged and rounded."""
    shutil.copytree(folder, made)
    adapted: Any = PeftModel.from_pretrained(plain_network(folder), adapter)
    adapted.merge_and_unload().bfloat16().save_pretrained(made)
    return made


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
    rounded = loaded(merged_and_rounded(folder, adapter, tmp_path / "merged"), **HALF)
    for wrong in (loaded(folder, **HALF), loaded(folder, other, **HALF)):
        assert divergence(wanted, logprobs(wrong, pairs)) > 1e-4
    assert divergence(wanted, logprobs(rounded, pairs)) > 10 * near


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
