"""Express a transformers configuration as GGUF keys.

Inverse of `families`, which reads the file back: a configuration that comes back
different is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn, TypeAlias

import numpy as np
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from neuron_opsd.errors import ModelError
from neuron_opsd.models.forward.layers import head_width
from neuron_opsd.models.gguf.families import COUNTS, FAMILIES, HEAD_WIDTHS, WITH_FACTORS
from neuron_opsd.models.gguf.file import Array

KeyValues: TypeAlias = dict[str, Any]
"""Keys without their common prefix."""

ADVICE: Final = (
    "export it with --to merged and convert that folder with llama.cpp's "
    "convert_hf_to_gguf.py"
)

ARCHITECTURES: Final[Mapping[str, str]] = {
    **{family.model_type: name for name, family in FAMILIES.items()},
    "mistral": "llama",
}
"""GGUF's names of the transformers families that can be written."""

PASSED_OVER: Final = frozenset(
    {
        *("architectures", "attention_dropout", "cache_implementation", "dtype"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "initializer_range"),
        *("model_type", "name_or_path", "pretraining_tp", "rope_parameters"),
        *("transformers_version", "use_cache", "max_window_layers", "_name_or_path"),
        *("return_dict", "output_hidden_states", "output_attentions"),
        *("id2label", "label2id", "problem_type", "is_encoder_decoder"),
        *("chunk_size_feed_forward", "tokenizer_class", "task_specific_params"),
        *("no_rope_layer_interval", "sliding_window_pattern", "use_bidirectional"),
    }
)
"""Fields that do not affect a trained model's computation, or are compared elsewhere:
tokens by the tokenizer, positions by their keys, layers by `layer_types` and
`no_rope_layers`."""


def architecture_of(config: Any) -> str:
    """Return GGUF's name of a model's family; refuse one that cannot be written."""
    kind = config.model_type
    if kind in ARCHITECTURES:
        return ARCHITECTURES[kind]
    raise ModelError(
        f"a {kind} model cannot be written as GGUF here, which knows "
        f"{', '.join(ARCHITECTURES)}; {ADVICE}"
    )


def keys_of(config: Any) -> KeyValues:
    """Return the keys below the family's name that describe a configuration."""
    family = architecture_of(config)
    keys: KeyValues = {"vocab_size": config.vocab_size}
    keys |= {key: getattr(config, field) for key, field in COUNTS.items()}
    keys["attention.head_count_kv"] = config.num_key_value_heads
    keys |= dict.fromkeys(["attention.key_length", *HEAD_WIDTHS], head_width(config))
    keys["attention.layer_norm_rms_epsilon"] = float(config.rms_norm_eps)
    if family.startswith("gemma"):
        keys |= gemma_keys(config, family)
    return keys | rope_keys(config)


def gemma_keys(config: Any, family: str) -> KeyValues:
    """Return the extra keys of Gemma 2 and 3."""
    keys: KeyValues = {"attention.sliding_window": config.sliding_window}
    if config.final_logit_softcapping is not None:
        keys["final_logit_softcapping"] = float(config.final_logit_softcapping)
    if family == "gemma2":
        keys["attn_logit_softcapping"] = float(config.attn_logit_softcapping)
    else:
        sliding = config.rope_parameters["sliding_attention"]
        keys["rope.freq_base_swa"] = float(sliding["rope_theta"])
        if sliding["rope_type"] != "default":
            refuse_rope(sliding)
    return keys


def rope_of(config: Any) -> Mapping[str, Any]:
    """Return the rotary parameters, of full-attention layers if kinds differ."""
    found: Mapping[str, Any] = config.rope_parameters
    return dict(found.get("full_attention", found))


def rope_keys(config: Any) -> KeyValues:
    """Return the keys of rotary positions."""
    rope = rope_of(config)
    keys: KeyValues = {"rope.freq_base": float(rope["rope_theta"])}
    match rope.get("rope_type", "default"):
        case "default":
            return keys
        case "linear":
            scaled = {"type": "linear", "factor": float(rope["factor"])}
        case "yarn":
            scaled = yarn_keys(rope, config.max_position_embeddings)
        case "llama3" | "longrope" if architecture_of(config) in WITH_FACTORS:
            return keys  # given by the tensor of factors
        case _:
            refuse_rope(rope)
    return keys | {f"rope.scaling.{name}": value for name, value in scaled.items()}


def yarn_keys(rope: Mapping[str, Any], length: int) -> KeyValues:
    """Return YaRN's keys, without llama.cpp's attention factor."""
    known = {
        *("rope_type", "rope_theta", "factor", "original_max_position_embeddings"),
        *("attention_factor", "beta_fast", "beta_slow", "partial_rotary_factor"),
    }
    if any(rope[name] for name in rope if name not in known):
        refuse_rope(rope)
    factor = float(rope["factor"])
    usual = 1.0 + 0.1 * math.log(factor)
    return {
        "type": "yarn",
        "factor": factor,
        "original_context_length": int(
            rope.get("original_max_position_embeddings") or length
        ),
        "attn_factor": float(rope.get("attention_factor") or usual) / usual,
        "yarn_beta_fast": float(rope.get("beta_fast") or 32.0),
        "yarn_beta_slow": float(rope.get("beta_slow") or 1.0),
    }


def refuse_rope(rope: Mapping[str, Any]) -> NoReturn:
    """Refuse positions that GGUF cannot express."""
    raise ModelError(
        f"the model turns positions by {dict(rope)}, which cannot be written as GGUF "
        f"here; {ADVICE}"
    )


def factors_of(config: Any) -> Array | None:
    """Return the divisors per frequency, ``(head width / 2,)``, if any."""
    rope = rope_of(config)
    kind = rope.get("rope_type", "default")
    if kind == "longrope":  # as set when reading a file
        short, long = rope["short_factor"], rope["long_factor"]
        if short != long or rope.get("attention_factor") != 1.0:
            refuse_rope(rope)
        return np.array(short, np.float32)
    if kind != "llama3":
        return None
    scaled, _ = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    width = head_width(config)
    base = float(rope["rope_theta"]) ** -(np.arange(0, width, 2) / width)
    return np.asarray(base / scaled.double().numpy(), np.float32)


def differences(written: Any, read: Any) -> Iterator[str]:
    """Yield how a configuration differs after reading its file."""
    left, right = written.to_dict(), read.to_dict()
    for name in sorted(left.keys() & right.keys() - PASSED_OVER):
        if not same(left[name], right[name], name, written):
            yield f"{name} = {left[name]!r} (would be read as {right[name]!r})"
    window = left.get("sliding_window") if "sliding_window" not in right else None
    if window and window < written.max_position_embeddings:
        yield f"sliding_window = {window}"


def same(left: Any, right: Any, name: str, written: Any) -> bool:
    """Say whether two values of a field mean the same."""
    if name == "head_dim":
        return head_width(written) == int(right)
    kinds = getattr(written, "layer_types", None)
    everywhere = kinds is not None and "sliding_attention" not in kinds
    if name == "sliding_window" and everywhere:
        return True
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-6)
    return bool(left == right)
