"""Layers of a network: transposed ones turned into plain ones, and its gated MLPs.

GPT-2 multiplies by ``(inputs, outputs)`` matrices. Adapters, merging and rounding here
know ``(outputs, inputs)``; a square matrix taken the wrong way round would be wrong
without a word.

Axes: B rows, T positions, F neurons of one layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.pytorch_utils import Conv1D

from neuron_opsd.errors import ModelError
from neuron_opsd.models.roles import NeuronValue

PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")
WANTED = (
    "neurons are read from gated MLPs with gate_proj, up_proj, down_proj and act_fn, "
    "as in Llama, Qwen 2 and 3, Mistral, Gemma 3 and SmolLM"
)


@dataclass(frozen=True, slots=True, eq=False)
class GatedMLP:
    """``down_proj(act_fn(gate_proj(x)) * up_proj(x))`` of one layer."""

    act_fn: nn.Module
    down_proj: nn.Linear

    def watch(
        self, value: NeuronValue, see: Callable[[Tensor], None]
    ) -> RemovableHandle:
        """Hand every activation ``(B, T, F)`` on until the handle is removed."""
        if value == "gate":
            return self.act_fn.register_forward_hook(
                lambda _module, _given, output: see(output)
            )
        # Before `low_rank` widens it.
        return self.down_proj.register_forward_pre_hook(
            lambda _module, given: see(given[0]), prepend=True
        )


def readable_mlps(network: Any) -> tuple[tuple[GatedMLP, ...], str]:
    """Return the MLP of every layer, or none and the reason why there is none.

    Most methods never read a neuron, so a model without gated MLPs is still a model.
    """
    try:
        return find_mlps(network), ""
    except ModelError as error:
        return (), str(error)


def find_mlps(network: Any) -> tuple[GatedMLP, ...]:
    """Return the MLP of every layer, first layer first.

    Raises:
        ModelError: If a layer has no gated MLP of a readable form; it is named.
    """
    family = network.config.model_type
    layers = dict(network.get_decoder().named_children()).get("layers")
    if not isinstance(layers, nn.ModuleList) or not layers:
        raise ModelError(
            f"a {family} model keeps its layers where neurons cannot be read; {WANTED}"
        )
    return tuple(
        gated_mlp(layer, number, family) for number, layer in enumerate(layers)
    )


def gated_mlp(layer: nn.Module, number: int, family: str) -> GatedMLP:
    """Return the MLP of one layer, which must be gated and of a readable form."""
    mlp = dict(layer.named_children()).get("mlp")
    parts = {} if mlp is None else dict(mlp.named_children())
    kind = "no module called mlp" if mlp is None else type(mlp).__name__
    missing = [name for name in PARTS if name not in parts]
    if missing:
        raise ModelError(
            f"layer {number} of this {family} model has {kind} without "
            f"{', '.join(missing)}; {WANTED}"
        )
    down_proj = parts["down_proj"]
    if not isinstance(down_proj, nn.Linear):
        raise ModelError(
            f"layer {number} of this {family} model has a down_proj of type "
            f"{type(down_proj).__name__}, whose weight cannot be read; {WANTED}"
        )
    return GatedMLP(parts["act_fn"], down_proj)


class InputMajor(nn.Linear):
    """A linear layer whose files hold its weight as ``(inputs, outputs)``."""

    def _save_to_state_dict(
        self,
        destination: dict[str, Tensor],
        prefix: str,
        keep_vars: bool,  # noqa: FBT001 - as torch calls it
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        name = f"{prefix}weight"
        destination[name] = destination[name].t().contiguous()


def as_linear(network: Any) -> Any:
    """Turn the transposed layers of a network into plain ones; it computes as before.

    What `save_pretrained` writes of it is what its family reads.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Conv1D):
                with torch.device("meta"):
                    made = InputMajor(*child.weight.shape)
                turned = child.weight.detach().t().contiguous()
                made.weight = nn.Parameter(turned, child.weight.requires_grad)
                made.bias = child.bias
                setattr(parent, name, made)
    return network
