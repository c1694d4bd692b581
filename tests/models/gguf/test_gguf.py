"""What a GGUF file becomes."""

from __future__ import annotations

import errno
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from neuron_opsd.config import ModelConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.models.gguf import convert_gguf, is_gguf
from neuron_opsd.models.load import load_model

WIDTH, NUM_NEURONS, NUM_LAYERS, NUM_HEADS, NUM_KV_HEADS = 16, 24, 2, 4, 2
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abcdefgh", "Ġ", "ab", "Ġa"]
MERGES = ["a b", "Ġ a"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>"
    "{% endfor %}"
)

Weights = dict[str, NDArray[np.float32]]


def weights() -> Weights:
    """Return the tensors of a tiny llama under their names in GGUF."""
    rng = np.random.default_rng(0)

    def matrix(*shape: int) -> NDArray[np.float32]:
        return rng.normal(size=shape).astype(np.float32)

    tensors = {
        "token_embd.weight": matrix(len(TOKENS), WIDTH),
        "output_norm.weight": np.ones(WIDTH, np.float32),
    }
    key_width = WIDTH // NUM_HEADS * NUM_KV_HEADS
    for layer in range(NUM_LAYERS):
        block = f"blk.{layer}"
        tensors |= {
            f"{block}.attn_norm.weight": np.ones(WIDTH, np.float32),
            f"{block}.ffn_norm.weight": np.ones(WIDTH, np.float32),
            f"{block}.attn_q.weight": matrix(WIDTH, WIDTH),
            f"{block}.attn_k.weight": matrix(key_width, WIDTH),
            f"{block}.attn_v.weight": matrix(key_width, WIDTH),
            f"{block}.attn_output.weight": matrix(WIDTH, WIDTH),
            f"{block}.ffn_gate.weight": matrix(NUM_NEURONS, WIDTH),
            f"{block}.ffn_up.weight": matrix(NUM_NEURONS, WIDTH),
            f"{block}.ffn_down.weight": matrix(WIDTH, NUM_NEURONS),
        }
    return tensors


def write_gguf(path: Path, tensors: Weights, family: str = "llama") -> Path:
    """Write a GGUF file as llama.cpp's converter does."""
    writer = GGUFWriter(path, family)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(NUM_LAYERS)
    writer.add_feed_forward_length(NUM_NEURONS)
    writer.add_head_count(NUM_HEADS)
    writer.add_head_count_kv(NUM_KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // NUM_HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3] + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that a tiny GGUF file became."""
    place = tmp_path_factory.mktemp("gguf")
    gguf = write_gguf(place / "tiny.gguf", weights())
    folder = place / "model"
    folder.mkdir()
    convert_gguf(gguf, folder)
    return folder


def test_a_gguf_file_is_known_by_how_it_begins(tmp_path: Path) -> None:
    real = tmp_path / "model.bin"
    real.write_bytes(b"GGUF\x03\x00\x00\x00")
    other = tmp_path / "model.gguf"
    other.write_bytes(b"GGML")

    assert is_gguf(real)
    assert not is_gguf(other)
    assert not is_gguf(tmp_path)
    assert not is_gguf(tmp_path / "missing.gguf")


def test_the_folder_loads_as_an_ordinary_float32_model(converted: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(converted, local_files_only=True)

    assert model.dtype == torch.float32
    assert model.config.model_type == "llama"
    assert "quantization_config" not in vars(model.config)
    assert all(type(p) is torch.nn.Parameter for p in model.parameters())


def test_a_gguf_file_is_loaded_like_a_folder(tmp_path: Path, converted: Path) -> None:
    gguf = write_gguf(tmp_path / "tiny.gguf", weights())
    from_file = load_model(ModelConfig(name=str(gguf), compute="float32"))
    from_folder = load_model(ModelConfig(name=str(converted), compute="float32"))
    pairs, columns = [((1, 2), (3,))], [[(0, 1), (2,)]]
    assert from_file.facts.num_layers == from_folder.facts.num_layers
    for one, other in zip(
        from_file.logits_at(pairs, columns)[0],
        from_folder.logits_at(pairs, columns)[0],
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_the_weights_are_those_of_the_file(converted: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(converted, local_files_only=True)
    expected = weights()

    layer = model.model.layers[1]
    for ours, theirs in [
        (model.model.embed_tokens, "token_embd.weight"),
        (layer.mlp.gate_proj, "blk.1.ffn_gate.weight"),
        (layer.mlp.up_proj, "blk.1.ffn_up.weight"),
        (layer.mlp.down_proj, "blk.1.ffn_down.weight"),
        (layer.self_attn.v_proj, "blk.1.attn_v.weight"),
    ]:
        assert np.array_equal(ours.weight.detach().numpy(), expected[theirs])
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_the_model_can_learn(converted: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(converted, local_files_only=True)
    ids = torch.tensor([[3, 4, 5, 2]])

    model(input_ids=ids, labels=ids).loss.backward()

    assert float(model.model.layers[0].mlp.down_proj.weight.grad.abs().sum()) > 0


def test_the_tokenizer_comes_along_with_its_chat_template(converted: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(converted, local_files_only=True)

    assert tokenizer("ab a")["input_ids"] == [TOKENS.index("ab"), TOKENS.index("Ġa")]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 2)
    turns = [{"role": "user", "content": "ab"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert text == "<|im_start|>ab<|im_end|>"


def test_whoever_may_read_the_configuration_may_read_the_weights(
    converted: Path,
) -> None:
    modes = {path.stat().st_mode for path in converted.iterdir()}

    assert len(modes) == 1


def test_a_conversion_says_nothing_and_leaves_the_settings_as_they_were(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gguf = write_gguf(tmp_path / "tiny.gguf", weights())
    folder = tmp_path / "model"
    folder.mkdir()
    before = logging.is_progress_bar_enabled(), logging.get_verbosity()
    capfd.readouterr()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert_gguf(gguf, folder)

    assert capfd.readouterr() == ("", "")
    assert (logging.is_progress_bar_enabled(), logging.get_verbosity()) == before


def test_another_kind_of_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"PK\x03\x04")

    with pytest.raises(ModelError, match=r"weights\.bin is not a GGUF file"):
        convert_gguf(path, tmp_path)


def test_a_cut_file_is_refused_by_name(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "whole.gguf", weights())
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[:2000])

    with pytest.raises(ModelError, match=r"cannot read .*cut\.gguf"):
        convert_gguf(cut, tmp_path)


def test_an_unknown_architecture_is_refused_by_name(tmp_path: Path) -> None:
    gguf = write_gguf(tmp_path / "odd.gguf", weights(), family="no-such-family")

    with pytest.raises(ModelError, match=r"odd\.gguf.*no-such-family"):
        convert_gguf(gguf, tmp_path)


def test_a_full_disk_is_reported_as_the_system_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    gguf = write_gguf(tmp_path / "tiny.gguf", weights())
    monkeypatch.setattr("neuron_opsd.models.gguf.convert.save_file", fail)

    with pytest.raises(OSError, match="No space left") as caught:
        convert_gguf(gguf, tmp_path)
    assert caught.value.errno == errno.ENOSPC
