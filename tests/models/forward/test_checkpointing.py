"""Layers that run again give the gradients of those that do not, and keep less."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoModelForCausalLM, OPTConfig

from neuron_opsd.config import DistillConfig, ModelConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.method.settings import LONG_ROW
from neuron_opsd.models.forward import checkpointing
from neuron_opsd.models.forward.checkpointing import runs_again
from neuron_opsd.models.learner import HFLearner
from neuron_opsd.models.load import learner_of, load_model
from neuron_opsd.records import Pair
from tiny import FAMILIES, fill, tiny_model, tiny_tokenizer

PROMPTS = tuple(tuple(range(5, 5 + n)) for n in (9, 30, 17))
PAIRS: list[Pair] = [
    (PROMPTS[0], tuple(range(60, 80))),
    (PROMPTS[1], tuple(range(40, 90))),
    (PROMPTS[0], (50, 51, 52)),
    (PROMPTS[2], tuple(range(100, 108))),
]


def learner(
    folder: Path, setting: str, *, tuning: str = "lora", compute: str = "float32"
) -> HFLearner:
    """Return a student some way from its base."""
    on: dict[str, Any] = {"device": "cpu", "compute": compute}
    how: dict[str, Any] = {"gradient_checkpointing": setting, "tuning": tuning}
    model = load_model(ModelConfig(name=str(folder), **on))
    settings = DistillConfig(lora_rank=4, **how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        made = learner_of(model, settings, 0)
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in made.weights.values():
            weight.add_(torch.randn(weight.shape, generator=draws) * 0.05)
    return made


def gradients(one: HFLearner) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the states of a pass, and what comes back of every trained weight."""
    states = one.student(PAIRS).hidden
    scale = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
    (states * scale).sum().backward()
    found = {n: w.grad for n, w in one.weights.items() if w.grad is not None}
    return states.detach(), found


def assert_same(folder: Path, **options: Any) -> None:
    (plain, wanted), (states, found) = (
        gradients(learner(folder, setting, **options)) for setting in ("off", "on")
    )
    assert torch.equal(states, plain)
    assert found.keys() == wanted.keys()
    assert sum(float(grad.abs().sum()) for grad in wanted.values()) > 0.0
    for name, grad in wanted.items():
        assert torch.equal(found[name], grad), name


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", [*FAMILIES, "gpt2"])
def test_gradients_of_an_adapter_are_the_same_bit_for_bit(
    tmp_path: Path, family: str, compute: str
) -> None:
    assert_same(tiny_model(tmp_path, family), compute=compute)


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_gradients_through_halves_are_the_same_bit_for_bit(
    tmp_path: Path, compute: str
) -> None:
    """Weights of a file in half precision may be widened by the pass alone."""
    folder = tiny_model(tmp_path, "qwen3")
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    network.save_pretrained(folder)
    assert_same(folder, compute=compute)


def test_gradients_of_all_weights_are_the_same_bit_for_bit(tmp_path: Path) -> None:
    assert_same(tiny_model(tmp_path, "qwen3"), tuning="full")


def test_gradients_behind_a_window_are_the_same_bit_for_bit(tmp_path: Path) -> None:
    assert_same(tiny_model(tmp_path, "mistral", sliding_window=12))


def num_saved(work: Callable[[], object]) -> int:
    """Return the bytes of all tensors that graphs keep, each counted once."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        held = work()
    del held
    return sum(kept.values())


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_a_graph_keeps_only_what_goes_into_each_layer(
    tmp_path: Path, compute: str
) -> None:
    layers = 6
    folder = tiny_model(tmp_path, num_hidden_layers=layers, intermediate_size=256)
    pairs: list[Pair] = [(tuple(range(5, 105)), tuple(range(5, 205)))]
    bytes_of = {}
    for setting in ("off", "on"):
        one = learner(folder, setting, compute=compute)
        bytes_of[setting] = num_saved(partial(one.student, pairs))
    inputs = layers * 300 * 32 * 4
    weights = sum(w.nbytes for w in learner(folder, "on").network.parameters())
    assert inputs <= bytes_of["on"] < inputs * 1.6 + weights
    assert bytes_of["off"] > 5 * bytes_of["on"]


class OwnWeights(checkpointing.AsItRan):
    """Puts no weights back."""

    def __call__(self, *args: Any) -> Any:
        """Run the layer with its own."""
        return self.module(*args)


def own_attention(*_: object) -> AbstractContextManager[None]:
    """Leave the network its own attention."""
    return nullcontext()


@pytest.mark.parametrize(
    ("name", "without"), [("AsItRan", OwnWeights), ("replacing", own_attention)]
)
def test_without_weights_or_attention_of_its_pass_a_layer_would_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, without: Any
) -> None:
    folder = tiny_model(tmp_path, "qwen3")
    _, wanted = gradients(learner(folder, "off", compute="bfloat16"))
    monkeypatch.setattr(checkpointing, name, without)
    try:
        _, found = gradients(learner(folder, "on", compute="bfloat16"))
    except RuntimeError:  # other tensors than before
        return
    assert any(not torch.equal(found[name], grad) for name, grad in wanted.items())


def test_no_layer_draws_anything(tmp_path: Path) -> None:
    """OPT's layers have dropout of their own, which training mode would turn on."""
    tokenizer = tiny_tokenizer(chat=True)
    config = OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        dropout=0.5,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = AutoModelForCausalLM.from_config(config)
    fill(model, 0)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert_same(tmp_path)
    one = learner(tmp_path, "on")
    gradients(one)
    layers = checkpointing.outermost(one.network)
    assert len(layers) == 2
    assert not any(layer.training for layer in layers)


def test_passes_without_gradient_run_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = learner(tiny_model(tmp_path), "on")
    with torch.no_grad():
        wanted = one.student(PAIRS).hidden

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(checkpointing, "run_again", never)
    with torch.no_grad():
        assert torch.equal(one.student(PAIRS).hidden, wanted)
    one.teacher(PAIRS)
    one.reference(PAIRS)
    with pytest.raises(AssertionError):
        one.student(PAIRS)


def test_auto_goes_by_the_longest_row() -> None:
    short: Pair = ((1,) * 100, (2,) * (LONG_ROW - 100))
    longer: Pair = (short[0], (*short[1], 2))
    assert not runs_again("auto", [short] * 100)
    assert runs_again("auto", [short, longer])
    assert runs_again("on", [short])
    assert not runs_again("off", [longer])


def test_layers_that_cannot_run_again_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model(tmp_path)
    monkeypatch.setattr(checkpointing, "GradientCheckpointingLayer", Tensor)
    learner(folder, "auto")
    with pytest.raises(ModelError, match=r"leave .*gradient_checkpointing at auto"):
        learner(folder, "on")
