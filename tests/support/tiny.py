"""Tiny models with random weights, built on disk in a moment and without a network.

Each is what a hub download would be: `config.json`, safetensors, tokenizer. The
vocabulary is a byte-level BPE of a few hundred entries. With `chat` the padding token
is the end token, as in SmolLM2; without it there is a first token and no padding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

NUM_LAYERS = 2
WIDTH = 32
NUM_NEURONS = 64

GATED: Mapping[str, type[PreTrainedConfig]] = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "mistral": MistralConfig,
    "gemma3": Gemma3TextConfig,
}
"""Families whose MLPs are gated, by the name that `tiny_model` takes."""

FAMILIES = tuple(GATED)

TIED = {"llama", "qwen2", "gemma3"}
"""Families built with one matrix for embedding and unembedding."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "{{ '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}"
    "{% endif %}"
    "{% endif %}"
)

CORPUS = (
    "Question: Which gas do plants take in from the air?",
    "Answer: carbon dioxide",
    "Question: What is the sum of two and three? Think step by step.",
    "Answer: The answer is 5.",
    "the cat sat on the mat and the dog ran after the other cat",
    "yes no positive negative true false north south east west",
)


def tiny_model(
    folder: Path,
    family: str = "llama",
    seed: int = 0,
    *,
    chat: bool = True,
    **overrides: Any,
) -> Path:
    """Write a model of two layers with random weights; equal seeds, equal bytes.

    Args:
        folder: Where to; made if it is missing.
        family: One of `FAMILIES`, or ``gpt2``, whose MLPs are not gated.
        seed: Of the weights.
        chat: Whether there is a chat template, padding with the end token.
        overrides: Fields of the model's configuration.

    Returns:
        The folder.
    """
    tokenizer = tiny_tokenizer(chat=chat)
    config = tiny_config(family, tokenizer, overrides)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    fill(model, seed)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_config(
    family: str, tokenizer: PreTrainedTokenizerFast, overrides: dict[str, Any]
) -> PreTrainedConfig:
    """Return the configuration of a tiny model of the family."""
    shared: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": family in TIED,
    }
    if family == "gpt2":
        sizes = {"n_embd": WIDTH, "n_layer": NUM_LAYERS, "n_head": 2}
        return GPT2Config(**(shared | sizes | {"n_positions": 1024} | overrides))
    sizes = {
        "hidden_size": WIDTH,
        "intermediate_size": NUM_NEURONS,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": WIDTH // 4,
        "max_position_embeddings": 1024,
    }
    return GATED[family](**(shared | sizes | overrides))


def fill(model: nn.Module, seed: int) -> None:
    """Give every weight a random value, large enough that tokens differ in odds."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator) * 0.15
            if weight.ndim >= 2:
                weight.copy_(noise)
            elif name.endswith("norm.weight"):
                weight.add_(noise)


@cache
def _trained_tokenizer(specials: tuple[str, ...]) -> str:
    """Train the vocabulary once per process and keep it as JSON."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=352,
        special_tokens=list(specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return str(tokenizer.to_str())


def tiny_tokenizer(*, chat: bool = True) -> PreTrainedTokenizerFast:
    """Return a tokenizer that can write every text, with a few hundred entries."""
    if chat:
        specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
        return PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(_trained_tokenizer(specials)),
            bos_token="<|im_start|>",
            eos_token="<|im_end|>",
            pad_token="<|im_end|>",
            chat_template=CHAT_TEMPLATE,
            clean_up_tokenization_spaces=False,
        )
    tokenizer = Tokenizer.from_str(_trained_tokenizer(("<s>", "</s>")))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def pickle_only_model(folder: Path) -> Path:
    """Write a folder whose weights are in pickle form; none may ever be opened."""
    tiny_model(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"not weights, and nobody looks")
    return folder


def read_model_config(folder: Path) -> dict[str, Any]:
    """Return `config.json` of a model folder."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    return config
