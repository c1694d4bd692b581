"""Read a network from its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import AutoModelForCausalLM

from neuron_opsd.config import ModelConfig
from neuron_opsd.errors import ModelError, is_out_of_memory
from neuron_opsd.models.adapters.low_rank import carry_changes
from neuron_opsd.models.description import loading, settings_of
from neuron_opsd.models.forward.layers import as_linear
from neuron_opsd.models.library_errors import full_line
from neuron_opsd.models.weights.at_rest import hold_halves
from neuron_opsd.models.weights.finite import refuse_not_finite
from neuron_opsd.models.weights.four_bit import check_packable, packing, take_over
from neuron_opsd.models.weights.location import source_of
from neuron_opsd.models.weights.precision import device_of, held_type
from neuron_opsd.models.weights.refusals import refuse_reported
from neuron_opsd.models.weights.shards import stored_weights


def loader_of(config: ModelConfig, compute: str) -> Callable[[], Any]:
    """Return a loader of a network, reusable while the files are unchanged."""

    def marks() -> list[tuple[int, int]]:
        found = [path.stat() for path in source_of(config).weight_files()]
        return [(status.st_size, status.st_mtime_ns) for status in found]

    known = marks()

    def load() -> Any:
        if marks() != known:
            raise ModelError(
                f"the files of model {config.name} were changed while it was in use; "
                "put them back and run the same command again"
            )
        return load_network(config, compute)

    return load


def load_network(config: ModelConfig, compute: str) -> Any:
    """Load weights in their file's precision if products are no finer.

    Otherwise in float32.
    """
    check_packable(config)
    source = source_of(config)
    settings = settings_of(config, source)
    with loading(config):
        kind = held_type(stored_weights(source).kinds, compute)
        found: Any = AutoModelForCausalLM.from_pretrained(
            source.place,
            config=settings,
            dtype=kind,
            **attention_of(settings),
            **packing(config.quantization, device_of(config)),
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **source.options,
        )
    network, report = found
    refuse_reported(config.name, report)
    network = take_over(network)
    if kind != torch.float32:
        hold_halves(network, exact_buffers(settings))
    network = as_linear(network)
    carry_changes(network.get_decoder())
    placed = on_device(network.eval(), device_of(config))
    refuse_not_finite(f"model {config.name}", placed.named_parameters())
    return placed


def attention_of(settings: Any) -> Mapping[str, str]:
    """Return the attention option, if transformers must not choose.

    Some versions leave out the softcap of Gemma 2.
    """
    capped = getattr(settings, "attn_logit_softcapping", None) is not None
    return {"attn_implementation": "eager"} if capped else {}


def exact_buffers(settings: Any) -> Mapping[str, Any]:
    """Return a network's float32 buffers, without its weights."""
    with init_empty_weights():
        outline = AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    return dict(outline.named_buffers())


def on_device(network: Any, device: str) -> Any:
    """Move a network to a device, or say in one line why that failed."""
    try:
        return network.to(device)
    except (RuntimeError, AssertionError) as error:
        if is_out_of_memory(error):
            error.add_note(f"putting the model on device {device}")
            raise
        raise ModelError(
            f"the model cannot be put on device {device}: {full_line(error)}; set "
            "model.device to auto or cpu"
        ) from error
