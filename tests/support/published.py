"""The configuration of a published model, as a file without weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NUM_PARAMETERS = 4_022_468_096

QWEN: Mapping[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
"""Sizes of Qwen3-4B."""


def written(folder: Path, **changes: Any) -> Path:
    """Write it as `config.json`; `None` leaves a field out."""
    table = {**QWEN, **changes}
    kept = {name: value for name, value in table.items() if value is not None}
    path = folder / "config.json"
    path.write_text(json.dumps(kept), encoding="utf-8")
    return path
