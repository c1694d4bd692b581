"""Weights held in the precision of their file: the same numbers, and no second copy."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, Qwen3MoeConfig

from benchmarks.training_memory import held_by, storages
from loaded import (
    learning,
    loaded,
    logits_of,
    model_config,
    plain_logits,
    random_pairs,
)
from neuron_opsd.config import DistillConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.method.losses import distillation_loss
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.load import learner_of, load_model
from neuron_opsd.models.weights import refusals
from neuron_opsd.models.weights.precision import held_type
from neuron_opsd.models.weights.refusals import check_training_room
from neuron_opsd.records import Pair
from tiny import GATED, fill, tiny_model, tiny_tokenizer

HALF: dict[str, Any] = {"compute": "bfloat16"}


def written_as(folder: Path, made: Path, kind: torch.dtype) -> Path:
    """Write a model's weights, rounded to bfloat16, in a type."""
    shutil.copytree(folder, made)
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    network.to(kind).save_pretrained(made)
    return made


@pytest.fixture(scope="module", params=sorted(GATED))
def both(request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[Path, Path]:
    """Give the same weights as a bfloat16 file and as a float32 one."""
    home = tmp_path_factory.mktemp("both")
    made = tiny_model(home / "made", request.param)
    kinds = torch.bfloat16, torch.float32
    half, whole = (written_as(made, home / str(kind), kind) for kind in kinds)
    return half, whole


@pytest.fixture
def half(tiny_llama: Path, tmp_path: Path) -> Path:
    """Give a bfloat16 file."""
    return written_as(tiny_llama, tmp_path / "half", torch.bfloat16)


def pairs_for(model: HFModel) -> list[Pair]:
    return random_pairs([(5, 4), (20, 9), (5, 12), (7, 3)], model.facts.vocab_size)


def shifted(learner: HFLearner) -> HFLearner:
    """Give student and teacher changes of their own."""
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in learner.weights.items():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=source) * 0.01)
                learner.teacher_weights[name].copy_(weight.flip(0))
    learner.moved()
    return learner


def numbers_of(folder: Path, *, captures: bool = True) -> Iterator[Tensor]:
    """Yield whatever a model and its learner compute."""
    learner = shifted(learning(folder, on=HALF))
    model, pairs = learner.frozen, pairs_for(learner)
    assert isinstance(model, HFModel)
    with torch.no_grad():
        yield model.states(pairs)
        yield model.next_logits(model.states(pairs))
        yield learner.states(pairs)
    columns = [[(1, 2, 3)] * (len(pair[1]) + 1) for pair in pairs]
    for rows in model.logits_at(pairs, columns):
        yield torch.tensor([row.tolist() for row in rows])
    scores: list[Tensor] = []
    if captures:
        model.capture(pairs, "gated", lambda _, found: scores.append(found))
    yield from scores
    elsewhere = [(prompt[1:], completion) for prompt, completion in pairs]
    yield torch.tensor(model.divergences(pairs, elsewhere))
    teacher, student = learner.teacher(pairs), learner.student(pairs)
    yield from (teacher.hidden, student.hidden)
    loss = distillation_loss(student, teacher, DistillConfig())
    loss.backward()
    yield loss.detach()
    for weight in learner.weights.values():
        assert weight.grad is not None
        yield weight.grad


def test_a_half_file_gives_the_bits_of_the_same_weights_in_float32(
    both: tuple[Path, Path],
) -> None:
    found, wanted = (list(numbers_of(folder)) for folder in both)
    assert len(found) > 20
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("family", ["llama", "qwen3"])  # tied and not
def test_of_a_float16_file_products_alone_are_rounded(
    family: str, tmp_path: Path
) -> None:
    exact = tiny_model(tmp_path / "made", family)
    shutil.copytree(exact, tmp_path / "half")
    network: Any = AutoModelForCausalLM.from_pretrained(exact, dtype=torch.float16)
    network.save_pretrained(tmp_path / "half")
    network.float().save_pretrained(exact)
    found, wanted = (
        list(numbers_of(folder, captures=False))
        for folder in (tmp_path / "half", exact)
    )
    assert loaded(tmp_path / "half", **HALF).head().weight.dtype == torch.float16
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)


def test_experts_are_no_further_from_float32_than_in_transformers(
    tmp_path: Path,
) -> None:
    tokenizer = tiny_tokenizer(chat=True)
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    shape: dict[str, Any] = {"vocab_size": len(tokenizer), **sizes, **heads, **experts}
    made = Qwen3MoeConfig(**shape)
    network: Any = AutoModelForCausalLM.from_config(made)
    fill(network, 0)
    network.to(torch.bfloat16).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = loaded(tmp_path, **HALF)
    kinds = {w.dtype for n, w in model.network.named_parameters() if ".experts." in n}
    assert kinds == {torch.bfloat16}
    pair = tuple(range(5, 30)), tuple(range(40, 60))
    ids = torch.tensor([pair[0] + pair[1]])
    with torch.no_grad():
        ours = model.states([pair])
        theirs, exact = (
            AutoModelForCausalLM.from_pretrained(tmp_path, dtype=kind)
            .get_decoder()(input_ids=ids)
            .last_hidden_state[0, 24:-1]
            for kind in (torch.bfloat16, torch.float32)
        )
    gap = (ours - exact).abs().mean()
    assert 0 < gap < (theirs - exact).abs().mean()


def test_only_what_is_no_product_is_widened(both: tuple[Path, Path]) -> None:
    held = loaded(both[0], **HALF).network
    exact = loaded(both[1], **HALF).network
    for name, weight in held.named_parameters():
        assert weight.dtype == (torch.bfloat16 if weight.ndim > 1 else torch.float32)
        assert torch.equal(weight.float(), exact.get_parameter(name))
    for name, buffer in held.named_buffers():
        assert buffer.dtype == torch.float32
        assert torch.equal(buffer, exact.get_buffer(name))


def test_float32_products_of_a_half_file_are_exact(both: tuple[Path, Path]) -> None:
    ids = (5, 6, 7, 8, 9, 10, 11, 12)
    model = loaded(both[0])
    assert {w.dtype for w in model.network.parameters()} == {torch.float32}
    network = AutoModelForCausalLM.from_pretrained(both[1], dtype=torch.float32)
    exact = plain_logits(network, ids)
    torch.testing.assert_close(logits_of(model, ids), exact, rtol=1e-5, atol=1e-5)
    rounding = (logits_of(loaded(both[0], **HALF), ids) - exact).abs().max()
    assert rounding > 1e-3
    # The same of weights that stay in bfloat16, each widened for one product.
    held = loaded(both[0], **HALF).in_float32()
    torch.testing.assert_close(logits_of(held, ids), exact, rtol=1e-5, atol=1e-5)
    assert held.network.get_input_embeddings().weight.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("kinds", "compute", "kind"),
    [
        ({"BF16"}, "bfloat16", torch.bfloat16),
        ({"F16"}, "bfloat16", torch.float16),
        ({"F32"}, "bfloat16", torch.float32),
        ({"BF16", "F32"}, "bfloat16", torch.float32),
        ({"BF16"}, "float32", torch.float32),
    ],
)
def test_weights_are_held_in_half_only_where_nothing_is_lost(
    kinds: set[str], compute: str, kind: torch.dtype
) -> None:
    assert held_type(kinds, compute) == kind


def test_one_float32_tensor_keeps_a_file_in_float32(half: Path) -> None:
    path = half / "model.safetensors"
    tensors = load_file(path)
    name = "model.norm.weight"
    tensors[name] = tensors[name].float() + 1e-5
    save_file(tensors, path, {"format": "pt"})
    network = loaded(half, **HALF).network
    assert {w.dtype for w in network.parameters()} == {torch.float32}
    assert torch.equal(network.get_parameter(name), tensors[name])


# --- how much is held ---


def file_bytes(folder: Path) -> int:
    return sum(t.nbytes for t in load_file(folder / "model.safetensors").values())


@pytest.mark.newest
def test_a_learner_adds_columns_and_an_adapter_alone(half: Path) -> None:
    def train() -> HFLearner:
        learner = shifted(learning(half, on=HALF))
        pairs = pairs_for(learner)
        learner.teacher(pairs)
        learner.student(pairs).hidden.sum().backward()
        learner.drop_gradients()
        with torch.no_grad():
            learner.states(pairs)
            learner.frozen.states(pairs)
        return learner

    learner, held = held_by(train)
    layers = [m for m in learner.frozen.network.modules() if hasattr(m, "down")]
    columns = sum(2 * 16 * layer.out_features for layer in layers)
    # Student and teacher: in float32, and padded in bfloat16 as products take them.
    adapters = 2 * learner.num_bytes + 2 * columns
    adapters += sum(2 * 2 * 16 * layer.in_features for layer in layers)
    norms = 2 * sum(w.numel() for w in learner.network.parameters() if w.ndim == 1)
    most = file_bytes(half) + norms + columns + adapters
    assert file_bytes(half) < held <= most + 4096
    smallest = min(layer.weight.numel() * 2 for layer in layers)
    assert held > most - smallest  # one more matrix would be noticed


def test_a_float32_file_is_rounded_once_for_all(tiny_llama: Path) -> None:
    learner = shifted(learning(tiny_llama, on=HALF))
    pairs = pairs_for(learner)
    teacher = learner.teacher(pairs).hidden
    weights = [learner.product_weights(), learner.frozen.product_weights()]
    names = [name for name in weights[0].decoder if name.endswith(".weight")]
    assert len(names) == 14
    for name in names:
        places = {w.decoder[name].untyped_storage().data_ptr() for w in weights}
        assert len(places) == 1
    assert torch.equal(learner.teacher(pairs).hidden, teacher)


@pytest.mark.newest
def test_the_model_that_is_tested_shares_the_bases_weights(
    half: Path, tmp_path: Path
) -> None:
    learner = shifted(learning(half, on=HALF))
    learner.save_adapter(tmp_path / "adapter")
    base = learner.frozen
    config = DistillConfig(lora_rank=4, lora_alpha=8)
    settings = model_config(half, **HALF)
    shared, added = held_by(
        lambda: load_model(settings, tmp_path / "adapter", base=base)
    )
    assert 0 < added <= learner.num_bytes
    fresh = load_model(settings, tmp_path / "adapter")
    pairs = pairs_for(learner)
    with torch.no_grad():
        before = base.states(pairs)
        assert torch.equal(shared.states(pairs), fresh.states(pairs))
        assert not torch.equal(shared.states(pairs), before)
        # Another learner on the same weights leaves all of them as they are.
        other = shifted(learner_of(base, config, seed=3))
        other.states(pairs)
        assert torch.equal(base.states(pairs), before)
        assert torch.equal(shared.states(pairs), fresh.states(pairs))
        assert torch.equal(other.states(pairs), other.states(pairs))


def test_layers_that_run_again_find_the_students_changes(half: Path) -> None:
    def gradients(*, asks: bool) -> list[Tensor]:
        learner = learning(half, on=HALF, gradient_checkpointing="on")
        shifted(learner)
        pairs = pairs_for(learner)
        loss = learner.student(pairs).hidden.square().sum()
        if asks:  # the teacher's columns take the place of the student's
            learner.teacher(pairs)
        loss.backward()
        return [w.grad for w in learner.weights.values() if w.grad is not None]

    for found, wanted in zip(gradients(asks=True), gradients(asks=False), strict=True):
        assert torch.equal(found, wanted)


# --- all weights ---


@pytest.mark.newest
@pytest.mark.parametrize(("teacher", "bytes_each"), [("ema", 20), ("live", 16)])
def test_full_tuning_holds_no_more_than_it_says(
    half: Path, teacher: str, bytes_each: int
) -> None:
    def train() -> HFLearner:
        learner = learning(half, on=HALF, tuning="full", teacher=teacher)
        pairs = pairs_for(learner)
        learner.teacher(pairs)
        for _ in range(2):
            hidden = learner.student(pairs)
            distillation_loss(hidden, hidden, DistillConfig()).backward()
            if _ == 0:
                learner.step(1e-4)
        gc.collect()
        return learner

    learner, held = held_by(train)
    count = learner.facts.num_parameters
    assert bytes_each == refusals.full_bytes(teacher)
    assert bytes_each * count <= held < (bytes_each + 1) * count


def test_the_base_is_read_again_where_full_tuning_asks_for_it(half: Path) -> None:
    learner = learning(half, on=HALF, tuning="full", teacher="frozen")
    pairs = pairs_for(learner)
    start = learner.student(pairs).hidden.detach()
    with torch.no_grad():
        for weight in learner.weights.values():
            weight.mul_(1.1)
    # A frozen teacher is the base, in the precision of what is trained.
    torch.testing.assert_close(learner.teacher(pairs).hidden, start)
    assert (learner.student(pairs).hidden - start).abs().max() > 1e-3
    assert not learner.teacher_weights
    again = learning(half, on=HALF, tuning="full", teacher="frozen")
    again.load_state(learner.state())
    assert torch.equal(again.student(pairs).hidden, learner.student(pairs).hidden)


def test_files_that_changed_are_not_read_again(half: Path) -> None:
    learner = learning(half, on=HALF, tuning="full")
    tensors = load_file(half / "model.safetensors")
    save_file(
        {name: tensor * 2 for name, tensor in tensors.items()},
        half / "model.safetensors",
        {"format": "pt", "made": "later"},
    )
    with pytest.raises(ModelError, match="were changed while it was in use"):
        learner.reference(pairs_for(learner))


def test_full_tuning_without_room_is_refused_with_what_to_take(
    half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = loaded(half, **HALF).facts
    full = DistillConfig(tuning="full")
    free = 18 * facts.num_parameters
    monkeypatch.setattr(refusals, "free_memory", lambda _device: free)
    with pytest.raises(ModelError, match=r"20 bytes a parameter.*teacher=live") as told:
        check_training_room(facts, full)
    assert "not split over GPUs (FSDP); take distill.tuning=lora" in str(told.value)
    check_training_room(facts, DistillConfig(tuning="full", teacher="live"))
    check_training_room(facts, DistillConfig())
    monkeypatch.setattr(refusals, "free_memory", lambda _device: 0)
    with pytest.raises(ModelError) as told:
        learning(half, on=HALF, tuning="full", teacher="live")
    assert "teacher=live," not in str(told.value)


def test_memory_is_counted_once_for_each_storage() -> None:
    whole = torch.zeros(10)
    assert sum(storages([whole, whole[:3], whole[5:]]).values()) == 40
