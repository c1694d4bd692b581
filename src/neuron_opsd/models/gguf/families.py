"""Supported architectures, and what their keys mean to transformers.

Rotary positions follow llama.cpp, whose keys these are: YaRN after Peng et al. 2023
(arXiv:2309.00071), and per-frequency factors as in Llama 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from transformers import AutoConfig

from neuron_opsd.errors import ModelError
from neuron_opsd.models.gguf.file import GGUFFile, Keys

FACTORS = "rope_freqs.weight"
"""Tensor of divisors per frequency, ``(head width / 2,)``."""

WITH_FACTORS = {"llama"}
"""Architectures whose files may have it."""

COUNTS: Final[Mapping[str, str]] = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
}
"""Keys of every file, with their configuration fields."""

HEAD_WIDTHS: Final = ("attention.value_length", "rope.dimension_count")
"""Keys that must equal ``attention.key_length`` here."""

BASE = 10_000.0
"""llama.cpp's default if a file names no base."""

UNSUPPORTED = "positions cannot be scaled in this way here"

Fields: TypeAlias = dict[str, Any]
"""Fields of a transformers configuration, or of its `rope_parameters`."""

HARMLESS = frozenset({"rope.scaling.finetuned", "tensor_data_layout"})
"""Keys about the numbers' origin, without effect."""

NEUTRAL: Final[Mapping[str, Any]] = {
    "attention.causal": True,
    "attention.clamp_kqv": 0.0,
    "attention.max_alibi_bias": 0.0,
    "attention.scale": 0.0,
    "embedding_scale": 0.0,
    "expert_count": 0,
    "expert_used_count": 0,
    "logit_scale": 0.0,
    "nextn_predict_layers": 0,
    "pooling_type": 0,
    "residual_scale": 0.0,
    "use_parallel_residual": False,
}
"""Keys of other kinds of models, with their neutral values."""


def rope_parameters(gguf: GGUFFile) -> Fields:
    """Return a model's rotary position parameters."""
    keys = gguf.settings
    base = {"rope_theta": float(keys.number("rope.freq_base", BASE))}
    scaling = scaled(keys)
    keys.expect("rope.scaling.yarn_log_multiplier", 0.0, UNSUPPORTED)
    if FACTORS not in gguf.tensors:
        return base | scaling
    if (kind := scaling["rope_type"]) != "default":
        keys.refuse("rope.scaling.type", kind, f"{FACTORS} scales them already")
    # What transformers calls longrope divides by a list of factors, one for each
    # frequency; here by the same one for prompts of every length.
    factors = gguf.array(FACTORS).ravel().tolist()
    return base | {
        "rope_type": "longrope",
        "short_factor": factors,
        "long_factor": factors,
        "attention_factor": 1.0,
        "original_max_position_embeddings": int(keys.number("context_length")),
    }


def scaled(keys: Keys) -> Fields:
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
    # Written for every kind, but read only for YaRN.
    for name in ("original_context_length", "yarn_beta_fast", "yarn_beta_slow"):
        keys.take(f"rope.scaling.{name}")
    if factor == 1.0:
        return {"rope_type": "default"}
    if kind == "none":
        keys.refuse("rope.scaling.factor", factor, "rope.scaling.type is none")
    return {"rope_type": "linear", "factor": factor}


def yarn(keys: Keys, factor: float, attention: float) -> Fields:
    """Return YaRN's scaling; `attention` multiplies its own temperature."""
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


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture of GGUF."""

    model_type: str
    """transformers' name for it."""
    fields: Callable[[GGUFFile, Fields], Fields]
    """Returns its fields beyond the common ones, which it is given."""
    rotated: bool = False
    """Whether query and key rows are stored in pairs, as llama.cpp may want."""
    norm_offset: float = 0.0
    """Offset that the file adds to norm weights."""
    has_windows: bool = False
    """Whether some layers use a sliding window."""

    def turned_heads(self, name: str, config: Any) -> int:
        """Return how many heads' rows a weight stores in pairs; 0 for none."""
        if not self.rotated:
            return 0
        if ".q_proj." in name:
            return int(config.num_attention_heads)
        return int(config.num_key_value_heads) if ".k_proj." in name else 0


def configuration(gguf: GGUFFile, vocab_size: int) -> Any:
    """Return the transformers configuration that a file's keys describe."""
    family, keys = family_of(gguf), gguf.settings
    fields = common_fields(gguf, vocab_size)
    if not family.has_windows:
        window = keys.number("attention.sliding_window", 0)
        if 0 < window < fields["max_position_embeddings"]:
            keys.refuse("attention.sliding_window", window, "attention is full here")
    fields |= family.fields(gguf, fields)
    keys.refuse_left(HARMLESS)
    return AutoConfig.for_model(family.model_type, **fields)


def family_of(gguf: GGUFFile) -> Family:
    """Return a file's architecture."""
    if gguf.family in FAMILIES:
        return FAMILIES[gguf.family]
    raise ModelError(
        f"{gguf.path} holds a model of architecture {gguf.family!r}; as GGUF, "
        f"{', '.join(FAMILIES)} are read: give the model as a folder with safetensors"
    )


def common_fields(gguf: GGUFFile, vocab_size: int) -> Fields:
    """Return the configuration fields common to all families."""
    keys = gguf.settings
    for name, neutral in NEUTRAL.items():
        keys.expect(name, neutral, f"models of family {gguf.family} are read without")
    keys.expect("vocab_size", vocab_size, f"the tokenizer has {vocab_size} tokens")
    fields = {field: int(keys.number(key)) for key, field in COUNTS.items()}
    num_heads = fields["num_attention_heads"]
    usual = fields["hidden_size"] // num_heads
    head_width = int(keys.number("attention.key_length", usual))
    for name in HEAD_WIDTHS:
        keys.expect(name, head_width, f"heads are {head_width} wide")
    return fields | {
        "vocab_size": vocab_size,
        "num_key_value_heads": int(keys.number("attention.head_count_kv", num_heads)),
        "head_dim": head_width,
        "rms_norm_eps": float(keys.number("attention.layer_norm_rms_epsilon")),
        "rope_parameters": rope_parameters(gguf),
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "dtype": "float32",
    }


def plain(**own: Any) -> Callable[[GGUFFile, Fields], Fields]:
    """Return a function that gives these fields for every file."""
    return lambda _gguf, _fields: own


def llama(gguf: GGUFFile, _fields: Fields) -> Fields:
    """Return the extra fields of Llama, Mistral 7B and SmolLM2."""
    return {
        "attention_bias": "blk.0.attn_q.bias" in gguf.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in gguf.tensors,
    }


def gemma2(gguf: GGUFFile, fields: Fields) -> Fields:
    """Return Gemma 2's extra fields: alternating windows, and soft caps."""
    keys = gguf.settings
    return gemma(keys, fields, largest=46, period=2) | {
        "attn_logit_softcapping": float(keys.number("attn_logit_softcapping", 50.0)),
        "final_logit_softcapping": float(keys.number("final_logit_softcapping", 30.0)),
    }


def gemma3(gguf: GGUFFile, fields: Fields) -> Fields:
    """Return Gemma 3's extra fields: separate positions in windowed layers."""
    keys = gguf.settings
    cap = float(keys.number("final_logit_softcapping", 0.0))
    own = {"rope_theta": float(keys.number("rope.freq_base_swa", 10_000.0))}
    return gemma(keys, fields, largest=62, period=6) | {
        "rope_parameters": {
            "full_attention": fields["rope_parameters"],
            "sliding_attention": own | {"rope_type": "default"},
        },
        "final_logit_softcapping": cap or None,
    }


def gemma(keys: Keys, fields: Fields, *, largest: int, period: int) -> Fields:
    """Return what Gemma 2 and 3 share.

    The 27B model, of `largest` layers, scales queries by another width; of each
    `period` layers, all but one have a window.
    """
    num_layers = fields["num_hidden_layers"]
    usual = "only this family's usual one is read"
    keys.expect("attention.sliding_window_pattern", period, usual)
    window = int(keys.number("attention.sliding_window", 4096 if period == 2 else 0))
    full = num_layers == largest
    per_head = fields["hidden_size"] // fields["num_attention_heads"]
    return {
        "sliding_window": window or fields["max_position_embeddings"],
        "query_pre_attn_scalar": per_head if full else fields["head_dim"],
        "layer_types": [
            "full_attention" if (layer + 1) % period == 0 else "sliding_attention"
            for layer in range(num_layers)
        ],
    }


FAMILIES: Final[Mapping[str, Family]] = {
    "llama": Family("llama", llama, rotated=True),
    "qwen2": Family("qwen2", plain(use_sliding_window=False)),
    "qwen3": Family("qwen3", plain(use_sliding_window=False)),
    "smollm3": Family("smollm3", plain(use_sliding_window=False), rotated=True),
    "olmo2": Family("olmo2", plain()),
    "gemma2": Family("gemma2", gemma2, norm_offset=1.0, has_windows=True),
    "gemma3": Family("gemma3_text", gemma3, norm_offset=1.0, has_windows=True),
}
"""By ``general.architecture``; each has gated MLPs and was compared with llama.cpp."""
