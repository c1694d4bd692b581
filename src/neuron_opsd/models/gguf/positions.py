"""Rotary positions: what the keys of a GGUF file say, as transformers takes them.

Frequencies and scalings follow llama.cpp, whose keys these are: YaRN after Peng et al.
2023 (arXiv:2309.00071), and factors by frequency as Llama 3.1 has them.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

from neuron_opsd.models.gguf.file import GGUFFile, Keys

FACTORS = "rope_freqs.weight"
"""Tensor of what each frequency is divided by, ``(head width / 2,)``."""

BASE = 10_000.0
"""What llama.cpp takes where a file names no base."""

Positions: TypeAlias = dict[str, Any]
"""``rope_parameters`` of a transformers configuration."""

UNSUPPORTED = "positions cannot be scaled in this way here"


def rope_parameters(gguf: GGUFFile) -> Positions:
    """Return how a model turns its positions.

    Raises:
        ModelError: If it does so in a way that is not supported.
    """
    keys = gguf.settings
    base = {"rope_theta": float(keys.number("rope.freq_base", BASE))}
    scaling = scaled(keys)
    keys.expect("rope.scaling.yarn_log_multiplier", 0.0, UNSUPPORTED)
    if FACTORS not in gguf.tensors:
        return base | scaling
    if scaling["rope_type"] != "default":
        kind = scaling["rope_type"]
        keys.refuse("rope.scaling.type", kind, f"{FACTORS} scales them already")
    return base | by_frequency(gguf)


def scaled(keys: Keys) -> Positions:
    """Return the scaling that the keys ask for."""
    kind = keys.take("rope.scaling.type", "linear")
    factor = float(keys.number("rope.scaling.factor", 0.0) or 0.0)
    factor = factor or float(keys.number("rope.scale_linear", 0.0)) or 1.0
    attention = float(keys.number("rope.scaling.attn_factor", 1.0))
    for name in ("yarn_ext_factor", "yarn_attn_factor"):
        keys.expect(f"rope.scaling.{name}", 1.0, UNSUPPORTED)
    if kind == "yarn":
        return yarn(keys, factor, attention)
    if kind not in {"none", "linear"}:
        keys.refuse("rope.scaling.type", kind, UNSUPPORTED)
    if attention != 1.0:
        keys.refuse("rope.scaling.attn_factor", attention, UNSUPPORTED)
    # Written with every kind, and read for YaRN alone.
    for name in ("original_context_length", "yarn_beta_fast", "yarn_beta_slow"):
        keys.take(f"rope.scaling.{name}")
    if factor == 1.0:
        return {"rope_type": "default"}
    if kind == "none":
        keys.refuse("rope.scaling.factor", factor, "rope.scaling.type is none")
    return {"rope_type": "linear", "factor": factor}


def yarn(keys: Keys, factor: float, attention: float) -> Positions:
    """Return YaRN's scaling; attention is multiplied on its own temperature."""
    length = keys.number("context_length")
    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": int(
            keys.number("rope.scaling.original_context_length", length)
        ),
        "attention_factor": attention * (1.0 + 0.1 * math.log(factor)),
        "beta_fast": float(keys.number("rope.scaling.yarn_beta_fast", 32.0)),
        "beta_slow": float(keys.number("rope.scaling.yarn_beta_slow", 1.0)),
    }


def by_frequency(gguf: GGUFFile) -> Positions:
    """Return the factors of a file, one for each frequency.

    The kind that transformers calls longrope divides by a list of factors, here by the
    same one for prompts of every length.
    """
    factors = gguf.array(FACTORS).ravel().tolist()
    return {
        "rope_type": "longrope",
        "short_factor": factors,
        "long_factor": factors,
        "attention_factor": 1.0,
        "original_max_position_embeddings": int(gguf.settings.number("context_length")),
    }
