"""Layers of which a graph keeps only the input, and which run again going backward.

transformers' layers do so themselves when they are told and are in training mode, which
ends where the layer begins, since it would also turn on dropout. A layer that runs
again must find what it ran with: the weights that stood in place of its own, and the
attention and the precision of the pass.
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
    """Say whether layers run again in the backward pass over the pairs of one graph.

    `setting` is `distill.gradient_checkpointing`.
    """
    if setting != "auto":
        return setting == "on"
    return max(len(prompt) + len(rest) for prompt, rest in pairs) > LONG_ROW


def refuse_unsupported(setting: str, decoder: nn.Module) -> None:
    """Refuse to run the layers of a decoder again that cannot."""
    if setting == "on" and not outermost(decoder):
        raise ModelError(
            "this model's layers cannot run again in the backward pass; leave "
            "distill.gradient_checkpointing at auto"
        )


def outermost(decoder: nn.Module) -> list[nn.Module]:
    """Return the layers that can run again and are in no other that can."""
    found: dict[str, nn.Module] = {}
    for name, module in decoder.named_modules():
        inside = any(name.startswith(f"{other}.") for other in found)
        if isinstance(module, GradientCheckpointingLayer) and not inside:
            found[name] = module
    return list(found.values())


@contextmanager
def running_again(decoder: Any, computing: Computing) -> Iterator[None]:
    """Let the graphs of a decoder's passes keep only what goes into each layer.

    Gradients are what they would be without, bit for bit where the device repeats its
    sums. `computing` makes the context of the passes, for layers that run again.
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
    """Run a layer so that it will run again; `function` is its forward pass."""
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
            preserve_rng_state=False,  # nothing is drawn
        )
    finally:
        layer.training = True


class AsItRan:
    """The forward pass of a layer with the weights that it has now."""

    def __init__(self, layer: nn.Module, function: Callable[..., Any]) -> None:
        """Note the weights, which a pass may have put in place of the layer's own."""
        self.module = Calling(layer, function)
        tensors = chain(self.module.named_parameters(), self.module.named_buffers())
        self.weights: dict[str, Tensor] = dict(tensors)

    def __call__(self, *args: Any) -> Any:
        """Return what the layer gives."""
        return torch.func.functional_call(self.module, self.weights, args)


class Calling(nn.Module):
    """A function of a layer as a module, in which the layer's weights are replaced."""

    def __init__(self, layer: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.layer = layer
        self.function = function

    def forward(self, *args: Any) -> Any:
        """Call the function."""
        return self.function(*args)
