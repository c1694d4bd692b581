"""Layers of a network: transposed ones made plain, MLPs, mean states.

GPT-2 stores ``(inputs, outputs)``, but adapters, merging and rounding here expect
``(outputs, inputs)``; a square matrix would be silently wrong.

Axes: B rows, T positions, F neurons of one layer, D residual width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from neuron_opsd.errors import ModelError, NotFiniteError
from neuron_opsd.models.roles import NeuronValue
from neuron_opsd.records import Pair

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
        """Pass each activation ``(B, T, F)`` to `see` until the handle is removed."""
        if value == "gate":
            return self.act_fn.register_forward_hook(
                lambda _module, _given, output: see(output)
            )
        # Before `low_rank` widens the input.
        return self.down_proj.register_forward_pre_hook(
            lambda _module, given: see(given[0]), prepend=True
        )


def readable_mlps(network: Any) -> tuple[tuple[GatedMLP, ...], str]:
    """Return the MLP of every layer, or none and the reason.

    Most methods never read neurons, so this is no error.
    """
    try:
        return find_mlps(network), ""
    except ModelError as error:
        return (), str(error)


def find_mlps(network: Any) -> tuple[GatedMLP, ...]:
    """Return the MLPs in layer order; refuse any other form."""
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
    """Return a layer's MLP; refuse one that is not gated or readable."""
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


def heads_of(config: Any) -> tuple[int, int]:
    """Return H and G, the numbers of query and key heads."""
    heads = int(config.num_attention_heads)
    return heads, int(getattr(config, "num_key_value_heads", None) or heads)


def head_width(config: Any) -> int:
    """Return the width of an attention head."""
    own = getattr(config, "head_dim", None)
    return int(own or config.hidden_size // config.num_attention_heads)


def layers_of(network: Any, problem: str) -> nn.ModuleList:
    """Return a decoder's layers; refuse one without a list of them."""
    settings = network.config.get_text_config()
    for module in network.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) == (
            settings.num_hidden_layers
        ):
            return module
    raise ModelError(f"a {settings.model_type} model keeps its layers where {problem}")


class MeanStates:
    """Collects a layer's mean states while right-padded pairs pass through."""

    def __init__(self, network: Any, layer: int, pairs: Sequence[Pair]) -> None:
        """Watch a layer's output, counted from 1, at the completions."""
        self._layer = layer
        self._pairs = pairs
        self._means: list[Tensor] = []
        problem = "no hidden state can be read; choose another contexts.rule"
        watched = layers_of(network, problem)[layer - 1]
        self._handle = watched.register_forward_hook(self._see)

    def __enter__(self) -> MeanStates:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _see(self, _module: nn.Module, _given: Any, output: Any) -> None:
        """Take the states ``(B, T, D)``; some families return more."""
        states = output[0] if isinstance(output, tuple) else output
        for row, (prompt, completion) in zip(states, self._pairs, strict=True):
            own = row[len(prompt) : len(prompt) + len(completion)]
            self._means.append(own.float().mean(dim=0))

    def found(self) -> list[NDArray[np.float32]]:
        """Return the mean ``(D,)`` of each pair.

        Raises:
            NotFiniteError: If one is not finite; its places are pairs.
        """
        found = torch.stack(self._means)
        if wrong := (~found.isfinite().all(dim=1)).nonzero().flatten().tolist():
            what = f"hidden states of layer {self._layer} are not finite"
            raise NotFiniteError(what, wrong)
        return list(found.cpu().numpy())


def outlined(settings: Any) -> Any:
    """Return a float32 network on the meta device, without memory."""
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
        return as_linear(made)


class InputMajor(nn.Linear):
    """A linear layer stored in files as ``(inputs, outputs)``."""

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
    """Turn transposed layers into plain ones; results stay the same.

    `save_pretrained` still writes the family's own form.
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
