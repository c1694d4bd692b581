"""A model's shapes from its configuration: counted as its network counts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from loaded import learning
from neuron_opsd.config import ModelConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.models.config_file import read_outline, read_tokenizer
from neuron_opsd.models.outline import Outline
from published import NUM_PARAMETERS, written
from tiny import FAMILIES, WIDTH, tiny_model, tiny_tokenizer


def outline(place: Path | str) -> Outline:
    return read_outline(ModelConfig(name=str(place)))


def test_a_published_model_has_the_parameters_that_its_page_names(
    tmp_path: Path,
) -> None:
    found = outline(written(tmp_path))
    assert found.num_parameters == NUM_PARAMETERS
    assert (found.file_bytes, found.width, found.vocab_size) == (2, 2560, 151936)
    assert sum(layer.kept for layer in found.layers) * 2 == 144 * 1024
    untied = outline(written(tmp_path, tie_word_embeddings=False))
    assert untied.num_parameters == found.num_parameters + 151936 * 2560


@pytest.mark.parametrize("family", [*FAMILIES, "gpt2"])
def test_what_is_counted_is_what_transformers_loads(
    tmp_path: Path, family: str
) -> None:
    folder = tiny_model(tmp_path, family)
    network = AutoModelForCausalLM.from_pretrained(folder)
    found = outline(folder / "config.json")
    assert found.num_parameters == sum(w.numel() for w in network.parameters())
    assert len(found.layers) == network.config.num_hidden_layers


@pytest.mark.parametrize("family", [*FAMILIES, "gpt2"])
def test_an_adapter_has_as_many_numbers_as_one_that_trains(
    tmp_path: Path, family: str
) -> None:
    learner = learning(tiny_model(tmp_path, family), lora_rank=4)
    counted = sum(weight.numel() for weight in learner.weights.values())
    assert outline(tmp_path).num_adapter_parameters(4) == counted


def test_layers_say_how_far_back_they_see(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "full_attention"]
    tiny_model(tmp_path, "gemma3", layer_types=kinds, sliding_window=16)
    assert [layer.window for layer in outline(tmp_path).layers] == [16, None]
    tiny_model(tmp_path, "mistral", sliding_window=32)
    assert [layer.window for layer in outline(tmp_path).layers] == [32, 32]


def test_heads_that_share_keys_keep_fewer(tmp_path: Path) -> None:
    tiny_model(tmp_path, "llama", num_key_value_heads=1)
    assert [layer.kept for layer in outline(tmp_path).layers] == [2 * WIDTH // 4] * 2
    tiny_model(tmp_path, "gpt2")
    assert [layer.kept for layer in outline(tmp_path).layers] == [2 * WIDTH] * 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "nonesuch"}, "names the model_type 'nonesuch', but it must be"),
        ({"model_type": None}, "names no model_type, but it must be"),
        ({"model_type": "t5"}, "does not load as a causal language model"),
        ({"hidden_size": None}, "does not say hidden_size, so the model's size"),
        ({"num_hidden_layers": None, "vocab_size": None}, "num_hidden_layers, vocab_"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers to 1000000000, but 4096"),
        ({"hidden_size": "wide"}, "cannot be loaded"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "asks to run its own code"),
        ({"quantization_config": {"quant_method": "gptq"}}, "a quantised checkpoint"),
    ],
)
def test_a_configuration_that_cannot_be_told_is_one_line(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        outline(written(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_what_is_no_configuration_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="give a folder that holds one"):
        outline(tmp_path)
    with pytest.raises(ModelError, match="is not a file; give a"):
        outline(tmp_path / "config.json")
    for text in ("", "{", "[1]", "null"):
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
        with pytest.raises(ModelError) as caught:
            outline(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_nested_configuration_needs_its_own_sizes(tmp_path: Path) -> None:
    inner = {"hidden_size": 32, "model_type": "gemma3_text"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "gemma3", "text_config": inner}))
    with pytest.raises(ModelError, match="does not say num_hidden_layers"):
        outline(path)


def test_a_tokenizer_is_read_where_no_weights_are(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(ModelError, match="holds neither of"):
        read_tokenizer(ModelConfig(name=str(tmp_path / "config.json")))
    tiny_tokenizer().save_pretrained(tmp_path)
    found = read_tokenizer(ModelConfig(name=str(tmp_path / "config.json")))
    assert found.facts.num_parameters == NUM_PARAMETERS


def test_what_is_named_for_a_file_holds_for_its_folder(tmp_path: Path) -> None:
    tiny_model(tmp_path)
    of_file, of_folder = outline(tmp_path / "config.json"), outline(tmp_path)
    assert of_file.layers == of_folder.layers
