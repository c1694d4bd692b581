"""The published configurations that the page is about.

Sizes are those of each model's `config.json` on the hub: what `plan` needs of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from neuron_opsd.config import ModelConfig
from neuron_opsd.models.config_file import read_outline
from neuron_opsd.models.outline import Outline

SHARED: Final[Mapping[str, Any]] = {"vocab_size": 151_936, "torch_dtype": "bfloat16"}

QWEN3: Final[Mapping[str, Any]] = {
    **SHARED,
    "model_type": "qwen3",
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40_960,
}

CONFIGS: Final[Mapping[str, Mapping[str, Any]]] = {
    "Qwen2.5-0.5B": {
        **SHARED,
        "model_type": "qwen2",
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32_768,
        "tie_word_embeddings": True,
    },
    "Qwen3-1.7B": {
        **QWEN3,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "tie_word_embeddings": True,
    },
    "Qwen3-4B": {
        **QWEN3,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "tie_word_embeddings": True,
    },
    "Qwen3-8B": {
        **QWEN3,
        "hidden_size": 4096,
        "intermediate_size": 12_288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "tie_word_embeddings": False,
    },
}


def outlines() -> dict[str, Outline]:
    """Return the shapes of every model, by its name."""
    found = {}
    with TemporaryDirectory() as folder:
        for name, table in CONFIGS.items():
            path = Path(folder) / "config.json"
            path.write_text(json.dumps(table), encoding="utf-8")
            found[name] = read_outline(ModelConfig(name=str(path)))
    return found
