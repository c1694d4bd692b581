"""Layers that keep only their input in the graph and rerun in the backward pass.

transformers' layers do this in training mode, which is switched off as the layer
starts, since it would also enable dropout. A rerun must use the same replaced weights,
attention and precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import chain
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from neuron_opsd.errors import ModelError
from neuron_opsd.method.settings import LONG_ROW
from neuron_opsd.models.forward.attention import replacing
from neuron_opsd.records import Pair

Computing: TypeAlias = Callable[[], AbstractContextManager[Any]]


def runs_again(setting: str, pairs: Sequence[Pair]) -> bool:
    """Return whether layers rerun in the backward pass over the pairs of a graph.

    `setting` is `distill.gradient_checkpointing`.
    """
    if setting != "auto":
        return setting == "on"
    return max(len(prompt) + len(rest) for prompt, rest in pairs) > LONG_ROW


def refuse_unsupported(setting: str, decoder: nn.Module) -> None:
    """Refuse to rerun layers of a decoder that cannot."""
    if setting == "on" and not outermost(decoder):
        raise ModelError(
            "this model's layers cannot run again in the backward pass; leave "
            "distill.gradient_checkpointing at auto"
        )


def outermost(decoder: nn.Module) -> list[nn.Module]:
    """Return the outermost layers that can rerun."""
    found: dict[str, nn.Module] = {}
    for name, module in decoder.named_modules():
        inside = any(name.startswith(f"{other}.") for other in found)
        if isinstance(module, GradientCheckpointingLayer) and not inside:
            found[name] = module
    return list(found.values())


@contextmanager
def running_again(decoder: Any, computing: Computing) -> Iterator[None]:
    """Let a decoder's graphs keep only the input of each layer.

    Gradients stay the same, bit for bit if the device's sums are deterministic.
    `computing` makes the context for reruns.
    """
    layers: list[Any] = outermost(decoder)
    for layer in layers:
        layer.gradient_checkpointing = layer.training = True
        layer._gradient_checkpointing_func = partial(  # noqa: SLF001
            run_again, layer, decoder.config, computing
        )
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = layer.training = False


def run_again(
    layer: nn.Module,
    config: Any,
    computing: Computing,
    function: Callable[..., Any],
    *args: Any,
) -> Any:
    """Run a layer so that it can rerun; `function` is its forward pass."""
    asked = config._attn_implementation  # noqa: SLF001
    ran = AsItRan(layer, function)

    @contextmanager
    def as_before() -> Iterator[None]:
        with computing(), replacing(config, asked):
            yield

    layer.training = False
    try:
        return checkpoint(
            ran,
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), as_before()),
            preserve_rng_state=False,  # nothing is random
        )
    finally:
        layer.training = True


class AsItRan:
    """A layer's forward pass with the weights it has now."""

    def __init__(self, layer: nn.Module, function: Callable[..., Any]) -> None:
        """Record the weights, which a pass may have replaced."""
        self.module = Calling(layer, function)
        tensors = chain(self.module.named_parameters(), self.module.named_buffers())
        self.weights: dict[str, Tensor] = dict(tensors)

    def __call__(self, *args: Any) -> Any:
        """Run the layer."""
        return torch.func.functional_call(self.module, self.weights, args)


class Calling(nn.Module):
    """A layer's function as a module, so that its weights can be replaced."""

    def __init__(self, layer: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.layer = layer
        self.function = function

    def forward(self, *args: Any) -> Any:
        """Call the function."""
        return self.function(*args)
