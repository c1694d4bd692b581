"""What is refused of a checkpoint: its own code, quantised or other weights than named.

Settings are asked before any weights are read, and the report of reading them after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from neuron_opsd.errors import ModelError

QUANTISED: Final = ("quantization_config", "compression_config")
"""Names under which `config.json` says how weights were quantised."""


def refuse_own_code(source: str, settings: Mapping[str, Any]) -> None:
    """Refuse a model that brings code to be run."""
    if settings.get("auto_map"):
        raise ModelError(
            f"{source} asks to run code of its own (auto_map in config.json), which is "
            "never done here; use a model of a family that transformers knows"
        )


def refuse_own_kernels(source: str, settings: Mapping[str, Any]) -> None:
    """Refuse a model that names code on the hub to compute its layers with."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            refuse_own_kernels(source, value)
        if "implementation" in key and isinstance(value, str) and "/" in value:
            raise ModelError(
                f"config.json of {source} asks to run code from the hub ({key} = "
                f"{value!r}), which is never done here; remove that line"
            )


def refuse_quantised(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse weights that are stored in fewer bits, whatever libraries are installed.

    Matrices of packed numbers can neither be read by neuron nor be trained in full, and
    an adapter over them would be tested on other weights than it was trained on.
    """
    inner = settings.get("text_config")
    for place in (settings, inner if isinstance(inner, Mapping) else {}):
        for field in QUANTISED:
            if place.get(field):
                raise ModelError(
                    f"model {name} is a quantised checkpoint "
                    f"({storage(place[field])}), which can neither be read by neuron "
                    "nor trained here; give the unquantised checkpoint that it was "
                    "made from, or a GGUF file, which is unpacked"
                )


def storage(described: object) -> str:
    """Say how a checkpoint's weights were quantised, as far as it does."""
    if not isinstance(described, Mapping):
        return "in a way that config.json does not name"
    method = str(described.get("quant_method") or "of no named method")
    bits = described.get("bits") or next(
        (n for n in (4, 8) if described.get(f"load_in_{n}bit")), None
    )
    return f"{method}, {bits} bits" if bits else method


def refuse_other_kinds(name: str, settings: Any) -> None:
    """Refuse what is no causal language model.

    Args:
        name: Of the model.
        settings: Its configuration, as transformers read it.
    """
    if settings.is_encoder_decoder or type(settings) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise of_another_kind(name, settings.model_type)


def refuse_other_families(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse a family that is known and has no causal language model.

    Told before anything is counted, since other families count other things.

    Args:
        name: Of the model.
        settings: What `config.json` holds.
    """
    family = settings.get("model_type")
    if not isinstance(family, str) or family not in CONFIG_MAPPING:
        return
    if family not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise of_another_kind(name, family)


def of_another_kind(name: str, family: str) -> ModelError:
    """Return what to raise over what is no causal language model."""
    return ModelError(
        f"model {name} is of the family {family}, which transformers does not load as "
        "a causal language model; give a model that reads and writes text alone, such "
        "as Llama, Qwen 3 or Gemma 3"
    )


def refuse_mismatched(name: str, mismatched: Collection[tuple[str, Any, Any]]) -> None:
    """Refuse weights of other shapes than the configuration says.

    Args:
        name: Of the model.
        mismatched: Tensor, its shape in the file, and the one that is needed.
    """
    if mismatched:
        tensor, stored, needed = min(mismatched)
        raise ModelError(
            f"model {name} cannot be loaded: {tensor} is of shape {tuple(stored)}, but "
            f"config.json asks for {tuple(needed)}; get config.json and the "
            "*.safetensors files again, from one place"
        )


def refuse_missing(name: str, missing: Collection[str]) -> None:
    """Refuse weights of which some are missing; these would be random numbers."""
    if missing:
        raise ModelError(
            f"model {name} has no weights for {len(missing)} of its tensors, first "
            f"{min(missing)}; get its *.safetensors files again"
        )
