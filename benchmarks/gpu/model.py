"""A model of a published configuration with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer

from benchmarks.scale.models import CONFIGS

TINY: Final[Mapping[str, Any]] = {
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 49_152,
}
"""Sizes at which a processor takes seconds; head and vocabulary are those that vLLM
and the demo's tokenizer need."""


def random_model(name: str, tokenizer: Path, folder: Path, *, tiny: bool) -> Path:
    """Write a model with random weights in bfloat16; return its folder.

    Args:
        name: Of the configuration, one of `CONFIGS`.
        tokenizer: Folder of a model whose tokenizer it gets.
        folder: Where to; what is there already is used again.
        tiny: Whether to write two small layers of the same family instead.
    """
    place = folder / f"{name}{'-tiny' if tiny else ''}"
    if (place / "tokenizer_config.json").exists():
        return place
    table = {**CONFIGS[name], **(TINY if tiny else {}), "bos_token_id": 0}
    kind = CONFIG_MAPPING[table["model_type"]]
    settings = kind.from_dict({**table, "eos_token_id": 0, "pad_token_id": 0})
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    with torch.device(device):
        network = AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)
    network.save_pretrained(place)
    # Written last: a folder that has it is whole.
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(place)
    return place
