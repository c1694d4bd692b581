"""Matrices in four bits: what is computed is what a file of the rounded ones gives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from loaded import learning, loaded, model_config, random_pairs
from neuron_opsd.config import Config, DistillConfig, ModelConfig
from neuron_opsd.errors import ConfigError, ModelError
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.load import check_quantization, load_model
from neuron_opsd.models.weights import four_bit
from neuron_opsd.models.weights.four_bit import PackedLinear
from tiny import tiny_model

PACKED: dict[str, Any] = {"compute": "bfloat16", "quantization": "nf4"}


def needs_bitsandbytes() -> None:
    pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")


@pytest.fixture(params=["qwen2", "qwen3"])
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """Give a model, with biases or without, and one of the matrices as packed."""
    needs_bitsandbytes()
    made = tiny_model(tmp_path / "made", request.param)
    network = AutoModelForCausalLM.from_pretrained(made, dtype=torch.bfloat16)
    network.save_pretrained(made)
    rounded = tmp_path / "rounded"
    shutil.copytree(made, rounded)
    layers = dict(loaded(made, **PACKED).network.named_modules())
    count = 0
    for name, module in network.named_modules():
        layer = layers.get(name)
        if isinstance(layer, PackedLinear):
            assert not torch.equal(module.weight, layer.matrix())
            module.weight.data = layer.matrix()
            count += 1
    assert count == 14
    network.save_pretrained(rounded)
    return made, rounded


def shifted(learner: HFLearner) -> HFLearner:
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in learner.weights.items():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=source) * 1e-3)
                learner.teacher_weights[name].copy_(weight.flip(0))
    learner.moved()
    return learner


def numbers_of(learner: HFLearner) -> list[Tensor]:
    model = learner.frozen
    assert isinstance(model, HFModel)
    pairs = random_pairs([(5, 4), (20, 9), (5, 12)], model.facts.vocab_size)
    found: list[Tensor] = []
    with torch.no_grad():
        found += [model.states(pairs), learner.states(pairs)]
    model.capture(pairs, "gated", lambda _, scores: found.append(scores))
    found.append(learner.teacher(pairs).hidden)
    student = learner.student(pairs).hidden
    student.square().sum().backward()
    found.append(student.detach())
    found += [w.grad for w in learner.weights.values() if w.grad is not None]
    return found


@pytest.mark.parametrize("checkpointing", ["off", "on"])
def test_a_packed_model_is_one_of_the_rounded_matrices(
    packed: tuple[Path, Path], checkpointing: str
) -> None:
    both = zip(packed, (PACKED, {"compute": "bfloat16"}), strict=True)
    found, wanted = (
        numbers_of(
            shifted(learning(folder, on=on, gradient_checkpointing=checkpointing))
        )
        for folder, on in both
    )
    assert len(found) > 28
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)


def test_an_adapter_of_a_packed_model_is_saved_and_tested(
    packed: tuple[Path, Path], tmp_path: Path
) -> None:
    learner = shifted(learning(packed[0], on=PACKED))
    learner.save_adapter(tmp_path / "adapter")
    config = model_config(packed[0], **PACKED)
    shared = load_model(config, tmp_path / "adapter", base=learner.frozen)
    fresh = load_model(config, tmp_path / "adapter")
    pairs = random_pairs([(5, 4), (20, 9)], shared.facts.vocab_size)
    with torch.no_grad():
        assert torch.equal(shared.states(pairs), fresh.states(pairs))
        plain = loaded(packed[0], **PACKED).states(pairs)
        assert not torch.equal(fresh.states(pairs), plain)


def test_a_graph_keeps_no_unpacked_matrix(packed: tuple[Path, Path]) -> None:
    learner = shifted(learning(packed[0], on=PACKED))
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    pairs = random_pairs([(5, 4)], learner.facts.vocab_size)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        learner.student(pairs)
    sizes = {
        (layer.out_features, layer.in_features)
        for layer in learner.frozen.network.modules()
        if isinstance(layer, PackedLinear)
    }
    assert kept
    assert not any(
        tensor.ndim == 2 and (outputs, inputs) == (len(tensor), tensor.shape[1] - 16)
        for tensor in kept
        for outputs, inputs in sizes
    )


# --- what is refused ---


def test_what_cannot_be_packed_is_refused(tmp_path: Path) -> None:
    name = str(tmp_path / "model.gguf")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    full = Config(
        model=ModelConfig(name="m", quantization="nf4"),
        distill=DistillConfig(tuning="full"),
    )
    with pytest.raises(
        ConfigError, match=r"cannot be trained; set distill\.tuning=lora"
    ):
        check_quantization(full)
    gguf = Config(model=ModelConfig(name=name, quantization="nf4"))
    with pytest.raises(ModelError, match="a second time"):
        check_quantization(gguf)


def test_a_missing_library_is_refused_with_its_extra(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(four_bit, "find_spec", lambda _name: None)
    asked = Config(model=ModelConfig(name="m", quantization="nf4"))
    for refused in (
        lambda: check_quantization(asked),
        lambda: loaded(tiny_llama, **PACKED),
    ):
        with pytest.raises(ModelError, match=r"pip install 'neuron-opsd\[qlora\]'"):
            refused()


def test_all_weights_of_a_packed_model_are_not_trained(
    packed: tuple[Path, Path],
) -> None:
    with pytest.raises(ConfigError, match="cannot be trained"):
        learning(packed[0], on=PACKED, tuning="full")
