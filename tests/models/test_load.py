"""Loading: what can be read is, and what cannot is refused with its reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, BloomConfig, GraniteConfig

from loaded import learning, loaded, logits_of, model_config
from neuron_opsd.config import ModelConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.models.load import load_model
from neuron_opsd.models.weights import precision
from neuron_opsd.models.weights.precision import compute_of, device_of, halves_serve
from tiny import tiny_model, tiny_tokenizer

WEIGHTS = "model.safetensors"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def copy(tiny_llama: Path, tmp_path: Path) -> Path:
    """Give a model folder that a test may spoil."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "copy"))


@pytest.fixture(scope="session")
def adapter(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an adapter of the tiny Llama that changes its logits."""
    return adapter_of(tiny_llama, tmp_path_factory.mktemp("trained") / "adapter")


def adapter_of(folder: Path, out: Path) -> Path:
    """Write an adapter that changes what a model says."""
    learner = learning(folder)
    with torch.no_grad():
        for weight in learner.weights.values():
            weight.add_(0.05)
    learner.save_adapter(out)
    return out


def refusal(folder: Path | str, adapter: Path | None = None, **settings: Any) -> str:
    """Return why a model is not loaded."""
    with pytest.raises(ModelError) as error:
        load_model(
            model_config(Path(folder), **settings), *([adapter] if adapter else [])
        )
    return str(error.value)


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    settings = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(settings | fields), "utf-8")


def change_weights(path: Path, changed: dict[str, Tensor], *dropped: str) -> None:
    weights = load_file(path)
    kept = {name: w for name, w in weights.items() if name not in dropped}
    save_file(kept | changed, path, metadata={"format": "pt"})


# --- what is no model ---


def test_a_model_must_be_named() -> None:
    with pytest.raises(ModelError, match="no model is named; give a folder"):
        load_model(ModelConfig())


@pytest.mark.parametrize("name", ["{tmp}/none", "./none", "../none", "a/b/none"])
def test_a_missing_folder_is_named(name: str, tmp_path: Path) -> None:
    name = name.format(tmp=tmp_path)
    with pytest.raises(ModelError) as error:
        load_model(ModelConfig(name=name))
    assert str(error.value) == f"model folder {Path(name)} does not exist"


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.txt"
    path.write_text("no model", "utf-8")
    assert refusal(path) == (
        f"{path} is a file; a model is a folder with config.json and safetensors, a "
        "GGUF file or a hub id"
    )


def test_a_folder_without_configuration_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        f"{tmp_path} has no config.json; a model folder holds config.json, tokenizer "
        "files and *.safetensors"
    )


def test_pickled_weights_are_named_and_never_opened(
    pickle_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("pickled weights were opened")

    monkeypatch.setattr(torch, "load", refuse)
    assert refusal(pickle_model) == (
        f"{pickle_model} must hold weights as *.safetensors but has only "
        "pytorch_model.bin; pickled weights can run code when they are loaded, so "
        "convert them with save_pretrained in a place you trust"
    )


def test_a_folder_without_weights_is_refused(copy: Path) -> None:
    (copy / WEIGHTS).unlink()
    assert "*.safetensors but has none;" in refusal(copy)


@pytest.mark.parametrize("family", ["llama", "a-family-of-its-own"])
def test_a_model_that_brings_code_is_refused(copy: Path, family: str) -> None:
    classes = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    change_config(copy, auto_map=classes, model_type=family)
    (copy / "code.py").write_text("raise SystemExit('this was run')", "utf-8")
    assert refusal(copy) == (
        f"{copy} asks to run its own code (auto_map in config.json), which is never "
        "done here; use a model of a family that transformers knows"
    )


def test_an_unknown_family_is_named(copy: Path) -> None:
    change_config(copy, model_type="unheard-of")
    assert f"model {copy} cannot be loaded: " in refusal(copy)
    assert "unheard-of" in refusal(copy)


def test_a_hub_id_that_is_not_there_is_not_downloaded() -> None:
    message = refusal("nobody/no-such-model")
    assert message.startswith("model nobody/no-such-model cannot be loaded: ")
    assert message.endswith(
        "; it is not a local folder, and nothing is downloaded without --set "
        "model.allow_download=true"
    )
    assert "without" not in refusal("nobody/no-such-model", allow_download=True)


def test_a_model_that_does_not_say_how_long_it_may_be_is_refused(
    tmp_path: Path,
) -> None:
    tokenizer = tiny_tokenizer()
    config = BloomConfig(vocab_size=len(tokenizer), hidden_size=16, n_layer=1, n_head=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert refusal(tmp_path).startswith(
        "the configuration of this bloom model does not"
    )


def test_a_model_that_scales_its_logits_is_refused_by_name(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    config = GraniteConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        logits_scaling=8.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert refusal(tmp_path) == (
        "a granite model changes its logits after the unembedding, which cannot be "
        "followed here; use a model of another family"
    )


# --- what is spoilt ---


def test_a_missing_tensor_is_named_and_never_made_up(copy: Path) -> None:
    missing = "model.layers.1.mlp.gate_proj.weight"
    change_weights(copy / WEIGHTS, {}, missing)
    assert refusal(copy) == (
        f"model {copy} has no weights for 1 of its tensors, first {missing}; get its "
        "*.safetensors files again"
    )


def test_weights_cut_short_are_refused(copy: Path) -> None:
    path = copy / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    assert f"model {copy} cannot be loaded: " in refusal(copy)


def test_weights_of_another_shape_are_refused(copy: Path) -> None:
    change_weights(copy / WEIGHTS, {"model.norm.weight": torch.ones(5)})
    assert f"model {copy} cannot be loaded: " in refusal(copy)


def test_a_configuration_that_is_no_json_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text("{", "utf-8")
    assert f"model {copy} cannot be loaded: " in refusal(copy)


@pytest.mark.parametrize("spoil", ["missing", "no json"])
def test_a_tokenizer_that_cannot_be_read_is_refused(copy: Path, spoil: str) -> None:
    if spoil == "missing":
        for path in copy.glob("tokenizer*"):
            path.unlink()
    else:
        (copy / "tokenizer.json").write_text("{", "utf-8")
    assert f"the tokenizer of {copy} cannot be loaded: " in refusal(copy)


def test_a_tokenizer_without_end_token_is_refused(copy: Path) -> None:
    for name in ("tokenizer_config.json", "config.json", "generation_config.json"):
        settings = json.loads((copy / name).read_text("utf-8"))
        kept = {k: v for k, v in settings.items() if not k.startswith(("eos", "pad"))}
        kept["eos_token"] = None
        (copy / name).write_text(json.dumps(kept), "utf-8")
    (copy / "chat_template.jinja").unlink()
    assert refusal(copy) == f"the tokenizer of {copy} names no end token"


def test_every_end_token_of_the_generation_settings_ends(copy: Path) -> None:
    path = copy / "generation_config.json"
    settings = json.loads(path.read_text("utf-8")) | {"eos_token_id": [0, 2]}
    path.write_text(json.dumps(settings), "utf-8")
    assert loaded(copy).tokens.end_ids == {0, 2}


# --- adapters ---


def test_an_adapter_stands_beside_the_weights(tiny_llama: Path, adapter: Path) -> None:
    base, adapted = loaded(tiny_llama), loaded(tiny_llama, adapter)
    ids = (5, 6, 7)
    moved = logits_of(adapted, ids) - logits_of(base, ids)
    assert moved.abs().max() > 0.01
    assert adapted.facts == base.facts
    for name, weight in adapted.network.named_parameters():
        assert torch.equal(weight, base.network.get_parameter(name))


def test_a_missing_adapter_is_no_hub_id(tiny_llama: Path) -> None:
    assert refusal(tiny_llama, Path("some/adapter")) == (
        "adapter folder some/adapter does not exist"
    )


def test_an_adapter_of_another_width_is_refused(tmp_path: Path, adapter: Path) -> None:
    wide = tiny_model(tmp_path / "wide", hidden_size=48)
    assert f"adapter {adapter} does not fit this model: " in refusal(wide, adapter)


def test_an_adapter_of_a_deeper_model_is_refused(
    tiny_llama: Path, tmp_path: Path
) -> None:
    deep = tiny_model(tmp_path / "deep", num_hidden_layers=3)
    adapter = adapter_of(deep, tmp_path / "adapter")
    assert refusal(tiny_llama, adapter) == (
        f"adapter {adapter} does not fit this model, which has no place for "
        "base_model.model.model.layers.2.mlp.down_proj.lora_A.weight"
    )


@pytest.mark.parametrize(
    ("pickled", "has"), [(True, "adapter_model.bin"), (False, "none")]
)
def test_an_adapter_must_be_in_safetensors(
    tiny_llama: Path, adapter: Path, tmp_path: Path, pickled: bool, has: str
) -> None:
    spoilt = Path(shutil.copytree(adapter, tmp_path / "spoilt"))
    (spoilt / ADAPTER_WEIGHTS).unlink()
    if pickled:
        (spoilt / "adapter_model.bin").write_bytes(b"nobody looks")
    assert refusal(tiny_llama, spoilt) == (
        f"{spoilt} must hold {ADAPTER_WEIGHTS} but has {has}; pickled weights are "
        "never loaded"
    )


def test_an_adapter_cut_short_is_refused(
    tiny_llama: Path, adapter: Path, tmp_path: Path
) -> None:
    spoilt = Path(shutil.copytree(adapter, tmp_path / "spoilt"))
    path = spoilt / ADAPTER_WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    assert f"adapter {spoilt} cannot be loaded: " in refusal(tiny_llama, spoilt)


# --- where and how it is computed ---


def test_a_device_that_is_not_there_is_named(tiny_llama: Path) -> None:
    message = refusal(tiny_llama, device="abacus")
    assert message.startswith("the model cannot be put on device abacus: ")
    assert message.endswith("; set model.device to auto or cpu")


@pytest.mark.parametrize(
    ("cuda", "device"), [(True, "cuda"), (False, "cpu")], ids=["cuda", "no-cuda"]
)
def test_auto_takes_an_accelerator_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert device_of(ModelConfig()) == device
    assert device_of(ModelConfig(device="cuda:1")) == "cuda:1"


@pytest.mark.parametrize(
    ("capabilities", "compute"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({}, "float32"),
    ],
)
def test_auto_computes_in_half_precision_where_the_hardware_can(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], compute: str
) -> None:
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: capabilities, raising=False
    )
    monkeypatch.setattr(precision, "halves_serve", lambda _device: True)
    assert compute_of(ModelConfig(), "cpu") == compute
    assert compute_of(ModelConfig(compute="float32"), "cpu") == "float32"
    assert compute_of(ModelConfig(compute="bfloat16"), "cpu") == "bfloat16"


@pytest.mark.parametrize(
    ("hardware", "compute"), [(True, "bfloat16"), (False, "float32")]
)
def test_auto_asks_an_accelerator_whether_it_has_half_precision_itself(
    monkeypatch: pytest.MonkeyPatch, hardware: bool, compute: str
) -> None:
    def supported(*, including_emulation: bool) -> bool:
        return including_emulation or hardware

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert compute_of(ModelConfig(), "cuda") == compute


def test_auto_steps_back_to_float32_where_half_precision_does_not_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False
    )
    monkeypatch.setattr(precision, "halves_serve", lambda _device: False)
    assert compute_of(ModelConfig(), "cpu") == "float32"
    assert compute_of(ModelConfig(compute="bfloat16"), "cpu") == "bfloat16"


@pytest.mark.parametrize(
    ("half", "whole", "serves"),
    [(1.0, 2.0, True), (2.0, 2.0, True), (4.0, 2.0, False)],
    ids=["faster", "as fast", "slower"],
)
def test_half_precision_serves_where_it_is_not_slower(
    monkeypatch: pytest.MonkeyPatch, half: float, whole: float, serves: bool
) -> None:
    seconds = {torch.bfloat16: half, torch.float32: whole}
    monkeypatch.setattr(precision, "least_time", lambda matrix: seconds[matrix.dtype])
    halves_serve.cache_clear()
    assert halves_serve("cpu") == serves
    # The machine gets busy; what a process has found out stays.
    seconds |= {torch.bfloat16: 2.0, torch.float32: 1.0 if serves else 2.0}
    assert halves_serve("cpu") == serves
    halves_serve.cache_clear()


def test_half_precision_that_is_wrong_does_not_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precision, "least_time", lambda _matrix: 1.0)
    monkeypatch.setattr(precision, "HALF_ERROR", 0.0)
    halves_serve.cache_clear()
    assert not halves_serve("cpu")
    halves_serve.cache_clear()


def test_weights_stay_in_float32_whatever_the_products(tiny_llama: Path) -> None:
    model = loaded(tiny_llama, compute="bfloat16")
    assert {w.dtype for w in model.network.parameters()} == {torch.float32}
    assert not model.network.training


@pytest.mark.gpu
def test_a_model_goes_to_the_accelerator(tiny_llama: Path) -> None:
    model = load_model(ModelConfig(name=str(tiny_llama)))
    assert model.facts.device == "cuda"
    assert {w.device.type for w in model.network.parameters()} == {"cuda"}
