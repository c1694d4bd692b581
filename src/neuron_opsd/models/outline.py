"""A model's shapes, from which memory and time follow, without any weights.

They come from a network on the meta device, which counts tied parameters once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from neuron_opsd.models.adapters.reading import targets_of
from neuron_opsd.models.forward.layers import head_width, heads_of, layers_of

LINEAR_ATTENTION: Final = "linear_attention"
"""A layer with a fixed-size state instead of keys and values."""

SLIDING: Final = "sliding_attention"


@dataclass(frozen=True, slots=True)
class Product:
    """One linear layer."""

    name: str
    """For example ``q_proj``."""
    inputs: int
    outputs: int
    adapted: bool
    """Whether an adapter goes on it."""

    @property
    def num_parameters(self) -> int:
        """Number of weights without bias."""
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the decoder."""

    products: tuple[Product, ...]
    norms: tuple[int, ...]
    """Size of each norm's input per token."""
    kept: int
    """Numbers cached per position, for keys and values."""
    window: int | None
    """Positions seen, including itself; `None` for all."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A model's size."""

    name: str
    family: str
    num_parameters: int
    """Tied ones once."""
    file_bytes: int
    """Per weight, in the model's files."""
    width: int
    vocab_size: int
    num_heads: int
    """Query heads."""
    max_positions: int
    """0 if unknown."""
    layers: tuple[Layer, ...]
    others: tuple[Product, ...] = ()
    """Linear layers outside decoder layers, without the head."""

    def products(self) -> Iterator[Product]:
        """Yield every linear layer except the head."""
        for layer in self.layers:
            yield from layer.products
        yield from self.others

    @property
    def num_matrix_parameters(self) -> int:
        """Linear weights except the head, which a 4-bit base packs."""
        return sum(product.num_parameters for product in self.products())

    @property
    def num_outputs(self) -> int:
        """Outputs of linear layers that take an adapter."""
        return sum(product.outputs for product in self.products() if product.adapted)

    def num_adapter_parameters(self, rank: int) -> int:
        """Return an adapter's size on every layer that takes one."""
        return rank * sum(p.inputs + p.outputs for p in self.products() if p.adapted)


def outline_of(name: str, network: Any) -> Outline:
    """Return the shapes of a network, which may be on the meta device."""
    settings = network.config.get_text_config()
    head = network.get_output_embeddings()
    blocks = layers_of(
        network, "their sizes cannot be read; give a model of another family"
    )
    adapted = adapted_layers(network, head)
    layers = tuple(
        layer_of(block, adapted, settings, number)
        for number, block in enumerate(blocks)
    )
    inside = {id(module) for block in blocks for module in block.modules()}
    others = [
        product_of(full.rpartition(".")[2], module, adapted)
        for full, module in network.named_modules()
        if isinstance(module, nn.Linear)
        and module is not head
        and id(module) not in inside
    ]
    return Outline(
        name=name,
        family=settings.model_type,
        num_parameters=sum(weight.numel() for weight in network.parameters()),
        file_bytes=file_bytes_of(network.config),
        width=head.weight.shape[1],
        vocab_size=head.weight.shape[0],
        num_heads=settings.num_attention_heads,
        max_positions=getattr(settings, "max_position_embeddings", None) or 0,
        layers=layers,
        others=tuple(others),
    )


def adapted_layers(network: Any, head: Any) -> frozenset[int]:
    """Return the ids of the linear layers that take an adapter."""
    targets = targets_of(network)
    return frozenset(
        id(module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
        and module is not head
        and (isinstance(targets, str) or name.rpartition(".")[2] in targets)
    )


def product_of(name: str, module: nn.Linear, adapted: frozenset[int]) -> Product:
    """Return the shape of a linear layer."""
    outputs, inputs = module.weight.shape
    return Product(name, inputs, outputs, id(module) in adapted)


def layer_of(
    block: nn.Module, adapted: frozenset[int], settings: Any, number: int
) -> Layer:
    """Return the shapes of one layer."""
    named = [(full.rpartition(".")[2], one) for full, one in block.named_modules()]
    modules = dict(named)
    kinds = getattr(settings, "layer_types", None) or [""] * (number + 1)
    return Layer(
        products=tuple(
            product_of(name, module, adapted)
            for name, module in named
            if isinstance(module, nn.Linear)
        ),
        norms=tuple(
            normed(name, module, modules)
            for name, module in named
            if type(module).__name__.endswith("Norm")
        ),
        kept=kept_numbers(modules, settings, kinds[number]),
        window=window_of(settings, kinds[number]),
    )


def normed(name: str, module: Any, modules: dict[str, Any]) -> int:
    """Return a norm's input size per token, over all heads."""
    over = modules.get(f"{name[0]}_proj") if name in {"q_norm", "k_norm"} else None
    if over is not None:
        return int(over.weight.shape[0])
    return int(module.weight.numel())


def kept_numbers(modules: dict[str, Any], settings: Any, kind: str) -> int:
    """Return the numbers that a layer caches per position."""
    if kind == LINEAR_ATTENTION:
        return 0
    if "k_proj" in modules and "v_proj" in modules:
        return sum(int(modules[name].weight.shape[0]) for name in ("k_proj", "v_proj"))
    _, groups = heads_of(settings)
    return 2 * groups * head_width(settings)


def window_of(settings: Any, kind: str) -> int | None:
    """Return how many positions a type of layer sees, `None` for all."""
    if kind not in {"", SLIDING}:
        return None
    window = getattr(settings, "sliding_window", None)
    return window if isinstance(window, int) else None


def file_bytes_of(config: Any) -> int:
    """Return the bytes per weight in a model's files, 4 if unknown."""
    for settings in (config, config.get_text_config()):
        kind = getattr(settings, "dtype", None)
        if isinstance(kind, str):
            kind = getattr(torch, kind, None)
        if isinstance(kind, torch.dtype):
            return kind.itemsize
    return torch.float32.itemsize
