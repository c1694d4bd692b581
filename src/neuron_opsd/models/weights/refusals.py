"""Checkpoints that are refused: own code, quantised or unexpected weights.

A configuration can ask for more than any machine has, so network size and memory for
full training are limited too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from neuron_opsd.config import DistillConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.models.roles import ModelFacts
from neuron_opsd.models.weights.shards import Stored
from neuron_opsd.processes.memory import free_memory

LAYER_COUNTS: Final = ("num_hidden_layers", "num_layers", "n_layers", "n_layer")
MOST_COUNTED: Final = 1 << 17
"""More of anything than a model has, from heads to experts."""

MOST_LAYERS: Final = 4096
"""More layers than any model has; used if no files give their number."""

SPARE: Final = 1 << 20
"""Weights allowed beyond twice those in the files, as some are tied."""

QUANTISED: Final = ("quantization_config", "compression_config")

AGAIN: Final = "get config.json and the *.safetensors files again, from one place"

FLOAT: Final = 4
TRAINED: Final = 4 * FLOAT
"""Bytes per trained weight: itself, its gradient and AdamW's two moments."""

LORA: Final = "distill.tuning=lora (about 2 bytes a parameter of a bfloat16 file)"


def refuse_foreign(name: str, source: str, settings: Mapping[str, Any]) -> None:
    """Refuse a model that brings its own code or is quantised."""
    if settings.get("auto_map"):
        raise ModelError(
            f"{source} asks to run its own code (auto_map in config.json), which is "
            "never done here; use a model of a family that transformers knows"
        )
    refuse_own_kernels(source, settings)
    refuse_quantised(name, settings)


def refuse_own_kernels(source: str, settings: Mapping[str, Any]) -> None:
    """Refuse a model that names code on the hub for its layers."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            refuse_own_kernels(source, value)
        if "implementation" in key and isinstance(value, str) and "/" in value:
            raise ModelError(
                f"config.json of {source} asks to run code from the hub ({key} = "
                f"{value!r}), which is never done here; remove that line"
            )


def refuse_quantised(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse quantised weights, whatever is installed."""
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
    """Describe a checkpoint's quantisation, as far as it is stated."""
    if not isinstance(described, Mapping):
        return "in a way that config.json does not name"
    method = str(described.get("quant_method") or "of no named method")
    bits = described.get("bits") or next(
        (n for n in (4, 8) if described.get(f"load_in_{n}bit")), None
    )
    return f"{method}, {bits} bits" if bits else method


def refuse_other_kinds(name: str, settings: Any) -> None:
    """Refuse a parsed configuration that is no causal language model."""
    if settings.is_encoder_decoder or type(settings) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise of_another_kind(name, settings.model_type)


def refuse_other_families(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse a known family without a causal language model."""
    family = settings.get("model_type")
    if not isinstance(family, str) or family not in CONFIG_MAPPING:
        return
    if family not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise of_another_kind(name, family)


def of_another_kind(name: str, family: str) -> ModelError:
    """Return the error for a model that is no causal language model."""
    return ModelError(
        f"model {name} is of the family {family}, which transformers does not load as "
        "a causal language model; give a model that reads and writes text alone, such "
        "as Llama, Qwen 3 or Gemma 3"
    )


def refuse_absurd(
    name: str, settings: Mapping[str, Any], stored: Stored | None
) -> None:
    """Refuse a configuration with absurd counts or numbers that are not finite.

    transformers builds lists of what is counted. Without files, `MOST_LAYERS` limits
    layers.
    """
    for key, value in settings.items():
        if isinstance(value, Mapping):
            refuse_absurd(name, value, stored)
        if isinstance(value, float) and not math.isfinite(value):
            raise ModelError(
                f"config.json of {name} sets {key} to {value}, but it must be finite; "
                "get config.json again"
            )
        if isinstance(value, bool) or not isinstance(value, int):
            continue
        layers = key in LAYER_COUNTS
        most = MOST_LAYERS if layers else MOST_COUNTED
        held = f"{most} is the most"
        if layers and stored is not None:
            most = stored.num_tensors
            held = f"its files hold {most} tensors"
        if value > most and (layers or key.startswith("num_")):
            raise ModelError(
                f"config.json of {name} sets {key} to {value}, but {held}; {AGAIN}"
            )


def refuse_unheld(name: str, outline: Any, stored: Stored) -> None:
    """Refuse a network far larger than its files, before allocating it."""
    wanted = sum(weight.numel() for weight in outline.parameters())
    if wanted > 2 * stored.num_weights + SPARE:
        raise ModelError(
            f"config.json of {name} describes {wanted} weights, but its files hold "
            f"{stored.num_weights}; {AGAIN}"
        )


def refuse_reported(name: str, report: Mapping[str, Any]) -> None:
    """Refuse missing weights, and shapes that contradict `config.json`."""
    if report["mismatched_keys"]:
        tensor, stored, needed = min(report["mismatched_keys"])
        raise ModelError(
            f"model {name} cannot be loaded: {tensor} is of shape {tuple(stored)}, but "
            f"config.json asks for {tuple(needed)}; {AGAIN}"
        )
    if missing := report["missing_keys"]:
        raise ModelError(
            f"model {name} has no weights for {len(missing)} of its tensors, first "
            f"{min(missing)}; get its *.safetensors files again"
        )


def full_bytes(teacher: str) -> int:
    """Return the bytes per parameter that `full` tuning holds between passes."""
    return TRAINED + (0 if teacher == "live" else FLOAT)


def check_training_room(facts: ModelFacts, tuning: DistillConfig) -> None:
    """Refuse `full` tuning that does not fit into memory."""
    if tuning.tuning != "full":
        return
    each, free = full_bytes(tuning.teacher), free_memory(facts.device)
    needed = each * facts.num_parameters
    if needed <= free:
        return
    instead = LORA
    live = full_bytes("live") * facts.num_parameters
    if live <= free:
        instead += f", or distill.teacher=live, which needs {gigabytes(live)}"
    raise ModelError(
        f"distill.tuning=full trains all {facts.num_parameters:,} weights of the "
        f"model, which takes {gigabytes(needed)} ({each} bytes a parameter: weight, "
        f"gradient, two moments{'' if each == TRAINED else ' and a teacher'}), but "
        f"{gigabytes(free)} are free on {facts.device}, and weights are not split over "
        f"GPUs (FSDP); take {instead}, or a smaller model"
    )


def gigabytes(count: int) -> str:
    """Format bytes in GB."""
    return f"{count / 1e9:,.1f} GB"
