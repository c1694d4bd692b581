"""Adapters as other trainers make them: like PEFT unmerged, or refused in one line."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    IA3Config,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from loaded import logits_of
from neuron_opsd.config import ModelConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.models.load import load_model

IDS = (5, 9, 40, 77, 8)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def trained_elsewhere(model: Path, folder: Path, settings: Any) -> Path:
    """Write an adapter as PEFT's users do, all its weights away from their start."""
    network = get_peft_model(base_of(model), settings)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    network.save_pretrained(str(folder))
    return folder


def base_of(model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(model, local_files_only=True)


def lora(**settings: Any) -> LoraConfig:
    usual: dict[str, Any] = {"target_modules": ["q_proj", "down_proj"], "r": 4}
    return LoraConfig(task_type="CAUSAL_LM", **(usual | settings))


def logits(network: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = network(input_ids=torch.tensor([IDS])).logits
    return found


FAITHFUL = {
    "plain": lora(),
    "all linear": lora(target_modules="all-linear"),
    "by expression": lora(target_modules=r".*layers\.1\.mlp\.(up|gate)_proj"),
    "without task": LoraConfig(target_modules=["v_proj"]),
    "rank-stabilised": lora(use_rslora=True, lora_alpha=3),
    "DoRA": lora(use_dora=True),
    "ranks by layer": lora(
        rank_pattern={"layers.0.self_attn.q_proj": 2},
        alpha_pattern={"layers.1.mlp.down_proj": 13},
    ),
    "one layer": lora(layers_to_transform=[1], layers_pattern="layers"),
    "all but one": lora(target_modules="all-linear", exclude_modules=["o_proj"]),
    "gaussian": lora(init_lora_weights="gaussian"),
    "biases": lora(bias="lora_only"),
    "all biases": lora(bias="all"),
    "a norm kept whole": lora(modules_to_save=["input_layernorm"]),
    "head": lora(target_modules=["q_proj", "lm_head"]),
    "embedding": lora(target_modules=["embed_tokens", "k_proj"]),
    "head kept whole": lora(modules_to_save=["lm_head"]),
    "embedding and head kept whole": lora(modules_to_save=["embed_tokens", "lm_head"]),
}


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a model with biases and a head of its own."""
    from tiny import tiny_model

    folder = tmp_path_factory.mktemp("untied")
    return tiny_model(folder, "qwen2", tie_word_embeddings=False)


@pytest.mark.parametrize("name", FAITHFUL)
def test_an_adapter_does_what_it_does_in_peft(
    name: str, untied: Path, tmp_path: Path
) -> None:
    adapter = trained_elsewhere(untied, tmp_path / "adapter", FAITHFUL[name])
    ours = load_model(ModelConfig(name=str(untied), compute="float32"), adapter)
    theirs = PeftModel.from_pretrained(base_of(untied), str(adapter)).eval()
    wanted = logits(theirs)
    assert (wanted - logits(base_of(untied))).abs().max() > 0.05
    found = logits_of(ours, IDS)[None]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


OTHERS = {
    "IA3": (
        IA3Config(
            task_type="CAUSAL_LM",
            target_modules=["k_proj", "down_proj"],
            feedforward_modules=["down_proj"],
        ),
        'peft_type = "IA3": only LORA',
    ),
    "prompt": (
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
        'peft_type = "PROMPT_TUNING"',
    ),
    "prefix": (
        PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2),
        'peft_type = "PREFIX_TUNING"',
    ),
    "activated": (lora(alora_invocation_tokens=[5]), "alora_invocation_tokens = [5]"),
    "tokens": (lora(trainable_token_indices=[3]), "trainable_token_indices = [3]"),
    "lora biases": (lora(lora_bias=True), "lora_bias = true"),
    "PiSSA": (lora(init_lora_weights="pissa"), 'init_lora_weights = "pissa"'),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_cannot_be_added_to_the_base_is_refused(
    name: str, untied: Path, tmp_path: Path
) -> None:
    settings, said = OTHERS[name]
    adapter = trained_elsewhere(untied, tmp_path / "adapter", settings)
    assert said in refusal(untied, adapter)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target_modules": ["q_proj", "lm_head"]}, "changes the head"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "changes the embedding"),
        ({"modules_to_save": ["lm_head"]}, "changes the head"),
        ({"modules_to_save": ["embed_tokens"]}, "changes the embedding"),
        (
            {
                "target_modules": ["embed_tokens", "lm_head"],
                "ensure_weight_tying": True,
            },
            "changes the embedding",
        ),
    ],
)
def test_a_change_of_tied_embeddings_is_refused(
    settings: dict[str, Any], said: str, tiny_llama: Path, tmp_path: Path
) -> None:
    adapter = trained_elsewhere(tiny_llama, tmp_path / "adapter", lora(**settings))
    assert said in refusal(tiny_llama, adapter)


def test_an_adapter_without_one_of_its_weights_is_refused(
    tiny_llama: Path, tmp_path: Path
) -> None:
    adapter = trained_elsewhere(tiny_llama, tmp_path / "adapter", lora())
    path = adapter / "adapter_model.safetensors"
    weights = load_file(path)
    gone = sorted(name for name in weights if "lora_B" in name)[0]
    del weights[gone]
    save_file(weights, path)
    assert f"is incomplete: it lacks {gone}" in refusal(tiny_llama, adapter)


def test_an_adapter_with_a_weight_of_another_kind_is_refused(
    tiny_llama: Path, tmp_path: Path
) -> None:
    adapter = trained_elsewhere(tiny_llama, tmp_path / "adapter", lora())
    path = adapter / "adapter_model.safetensors"
    save_file(load_file(path) | {"value_head.weight": torch.ones(1)}, path)
    assert "has no place for value_head.weight" in refusal(tiny_llama, adapter)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "adapter_config.json cannot be read: "),
        ("[]", "adapter_config.json holds list, not an object"),
        ('{"peft_type": "LORA", "task_type": "SEQ_CLS"}', 'task_type = "SEQ_CLS"'),
        ("{}", "peft_type = null: only LORA"),
    ],
)
def test_settings_that_are_none_are_refused(
    text: str, said: str, tiny_llama: Path, tmp_path: Path
) -> None:
    adapter = trained_elsewhere(tiny_llama, tmp_path / "adapter", lora())
    (adapter / "adapter_config.json").write_text(text)
    assert said in refusal(tiny_llama, adapter)


def refusal(model: Path, adapter: Path) -> str:
    """Return the one line with which an adapter is refused."""
    config = ModelConfig(name=str(model), compute="float32")
    with warnings.catch_warnings(), pytest.raises(ModelError) as caught:
        load_model(config, adapter)
    assert "\n" not in str(caught.value)
    assert json.dumps(str(adapter))[1:-1] in str(caught.value)
    return str(caught.value)
