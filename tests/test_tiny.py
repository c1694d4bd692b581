"""The tiny models are what the other tests take them for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny import FAMILIES, TIED, read_model_config, tiny_model, tiny_tokenizer


@pytest.mark.parametrize("family", [*FAMILIES, "gpt2"])
def test_every_family_loads_and_answers(family: str, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", family)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("Which way is north?", return_tensors="pt").input_ids
    with torch.no_grad():
        logits = model(ids).logits
    assert logits.shape == (1, ids.shape[1], len(tokenizer))
    assert torch.isfinite(logits).all()
    assert logits.std(dim=-1).min() > 0.01
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert tied == (family in TIED)


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path: Path) -> None:
    first, same, other = (
        (tiny_model(tmp_path / name, seed=seed) / "model.safetensors").read_bytes()
        for name, seed in (("first", 3), ("same", 3), ("other", 4))
    )
    assert first == same
    assert first != other


@pytest.mark.parametrize("chat", [True, False])
def test_the_tokenizer_on_disk_is_the_one_that_was_built(
    tmp_path: Path,
    chat: bool,
) -> None:
    folder = tiny_model(tmp_path / "model", chat=chat)
    read, built = AutoTokenizer.from_pretrained(folder), tiny_tokenizer(chat=chat)
    for text in ("Answer: carbon dioxide\n", "naïve — 漢字\t<|im_end|>", ""):
        assert read(text).input_ids == built(text).input_ids
    assert read.decode(read("a  b ,c\n", add_special_tokens=False).input_ids) == (
        "a  b ,c\n"
    )


def test_the_chat_variant_pads_with_its_end_token_as_smollm2_does() -> None:
    tokenizer = tiny_tokenizer(chat=True)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert tokenizer.eos_token == "<|im_end|>"
    turns = [{"role": "user", "content": "Hi"}]
    text = tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    quiet = tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert quiet == text + "<think>\n\n</think>\n\n"


def test_the_plain_variant_has_a_first_token_and_no_padding_token() -> None:
    tokenizer = tiny_tokenizer(chat=False)
    assert tokenizer("yes").input_ids[0] == tokenizer.bos_token_id
    assert tokenizer.pad_token is None
    assert tokenizer.chat_template is None


def test_the_pickle_folder_has_no_other_weights(pickle_model: Path) -> None:
    names = {path.name for path in pickle_model.iterdir()}
    assert "pytorch_model.bin" in names
    assert not any(name.endswith(".safetensors") for name in names)
    assert read_model_config(pickle_model)["model_type"] == "llama"
