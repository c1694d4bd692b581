"""Tokens and log-probabilities of converted GGUF files against llama.cpp's."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from benchmarks.llama_cpp import LlamaCpp
from neuron_opsd.config import ModelConfig
from neuron_opsd.models.gguf import convert_gguf
from neuron_opsd.models.gguf.pre_tokenizers import PRE_TOKENIZERS
from neuron_opsd.models.network import load_network
from tiny_gguf import CORPUS, HEAD_WIDTH, PROBES, TinyGGUF, byte_vocabulary

pytest.importorskip(
    "xllamacpp", reason="xllamacpp is missing; requirements/dev.txt names it"
)

TOKENS, _ = byte_vocabulary()

PROMPT = (5, 80, 300, 41, 7, 122, 260, 9, 33, 99, 150, 200, 17)

YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 64,
}
FACTORS = np.linspace(1.0, 8.0, HEAD_WIDTH // 2, dtype=np.float32)

MODELS: dict[str, TinyGGUF] = {
    **{
        family: TinyGGUF(family)
        for family in ("llama", "qwen2", "qwen3", "smollm3", "gemma2")
    },
    "olmo2": TinyGGUF("olmo2", tied=False),
    "head of its own": TinyGGUF(tied=False),
    "gemma3": TinyGGUF("gemma3", num_layers=7),
    "gemma3 scaled": TinyGGUF(
        "gemma3",
        num_layers=7,
        keys={
            "rope.freq_base": 50_000.0,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
    ),
    "smollm3 with a layer without positions": TinyGGUF("smollm3", num_layers=4),
    "base": TinyGGUF(keys={"rope.freq_base": 500.0}),
    "linear": TinyGGUF(
        keys={"rope.scaling.type": "linear", "rope.scaling.factor": 3.0}
    ),
    "factor alone": TinyGGUF("qwen2", keys={"rope.scaling.factor": 3.0}),
    "yarn": TinyGGUF("qwen3", keys=YARN),
    "yarn with attention": TinyGGUF(
        "llama", keys=YARN | {"rope.scaling.attn_factor": 1.5}
    ),
    "by frequency": TinyGGUF(tensors={"rope_freqs.weight": FACTORS}),
    "norm": TinyGGUF(keys={"attention.layer_norm_rms_epsilon": 0.1}),
}
"""Files that differ in what transformers' own reader passes over."""


def converted(gguf: Path, folder: Path) -> tuple[Any, Any]:
    """Return network and tokenizer of a file."""
    folder.mkdir()
    convert_gguf(gguf, folder)
    network: Any = load_network(ModelConfig(name=str(folder)), "float32")
    return network, AutoTokenizer.from_pretrained(folder, local_files_only=True)


TABLED = {"gemma2", "gemma3", "gemma3 scaled"}
"""Models whose activation llama.cpp looks up in a table of half precision."""


@pytest.mark.parametrize("name", MODELS)
def test_log_probabilities_are_those_of_llama_cpp(name: str, tmp_path: Path) -> None:
    gguf = MODELS[name].write(tmp_path / "tiny.gguf")
    network, _ = converted(gguf, tmp_path / "model")
    peer = LlamaCpp(gguf)
    with torch.inference_mode():
        logits = network(input_ids=torch.tensor([PROMPT])).logits[0]
        ours = logits.double().log_softmax(-1).numpy()
    for length in (1, 2, 7, len(PROMPT)):
        theirs = peer.next_log_probs(PROMPT[:length], network.config.vocab_size)
        apart = np.abs(ours[length - 1] - theirs).max()
        assert apart < (5e-3 if name in TABLED else 5e-5)


WAYS = (
    *("default", "llama-bpe", "dbrx", "qwen2", "qwen35", "gpt-2", "smollm", "falcon"),
    *("tekken", "gpt-4o", "deepseek-coder", "deepseek-v3"),
)
"""One name of each way to cut text."""

VOCABULARIES: dict[str, TinyGGUF] = {
    **{name: TinyGGUF(pre=name) for name in WAYS},
    "none named": TinyGGUF(pre=None),
    "pieces": TinyGGUF(pieces=True),
    "pieces without a space before": TinyGGUF(
        pieces=True, tokenizer={"add_space_prefix": False}
    ),
    "first token": TinyGGUF(tokenizer={"add_bos_token": True}),
    "no first token": TinyGGUF(pre="llama-bpe", tokenizer={"add_bos_token": False}),
    "last token": TinyGGUF(tokenizer={"add_eos_token": True}),
    "user-defined": TinyGGUF(
        tokenizer={
            "tokens": [*TOKENS, "<tag>", "quick   brown"],
            "token_type": [3, 3, 3] + [1] * (len(TOKENS) - 3) + [4, 4],
        }
    ),
    "unknown": TinyGGUF(tokenizer={"token_type": [2, 3, 3] + [1] * (len(TOKENS) - 3)}),
}
"""Files that cut text in every way that is known, or put something around it."""

OWN_EXPRESSION = {"gpt-4o", "tekken"}
"""Ways for which llama.cpp writes the models' own expression in simpler terms, which
leave combining marks alone; ours is the models' own."""


@pytest.mark.parametrize("name", VOCABULARIES)
def test_tokens_are_those_of_llama_cpp(name: str, tmp_path: Path) -> None:
    gguf = VOCABULARIES[name].write(tmp_path / "tiny.gguf")
    _, tokenizer = converted(gguf, tmp_path / "model")
    peer = LlamaCpp(gguf)
    for text in PROBES:
        if name in OWN_EXPRESSION and any(unicodedata.combining(c) for c in text):
            continue
        assert tokenizer(text).input_ids == peer.tokens(text), text
        data = tokenizer(text, split_special_tokens=True).input_ids
        assert data == peer.tokens(text, control=False), text


def test_every_name_of_a_pre_tokenizer_is_one_of_llama_cpp(tmp_path: Path) -> None:
    apart = []
    for name in PRE_TOKENIZERS:
        gguf = TinyGGUF(pre=name).write(tmp_path / f"{name}.gguf")
        _, tokenizer = converted(gguf, tmp_path / name)
        peer = LlamaCpp(gguf)
        apart += [
            (name, text)
            for text in ("Hello it's 12345", *CORPUS[:4])
            if tokenizer(text).input_ids != peer.tokens(text)
        ]
    assert apart == []
