"""Keys and values of prompts, kept once, and of what each sample of them has written.

Axes: P prompts, K samples of each, S = P * K slots, G key heads, T positions, D width
of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from neuron_opsd.models.forward.attention import aligned

GROWTH: Final = 32
"""Positions by which the buffers of written tokens grow."""


@dataclass(slots=True, eq=False)
class LayerMemory:
    """Keys and values of one layer."""

    prompt_keys: Tensor
    """``(P, G, T, D)``."""
    prompt_values: Tensor
    own_keys: Tensor
    """``(S, G, T, D)``, of the tokens that each sample has written."""
    own_values: Tensor


class PrefixMemory:
    """Keys and values of every layer, by prompt and by slot."""

    def __init__(self, num_prompts: int, num_samples: int, device: torch.device):
        """Make room, which fills as prompts are read.

        Args:
            num_prompts: P, prompts held at once.
            num_samples: K, samples of each.
            device: Where the model is.
        """
        self.num_prompts = num_prompts
        self.num_samples = num_samples
        self.device = device
        self.layers: dict[int, LayerMemory] = {}
        self.prompt_lengths = torch.zeros(num_prompts, dtype=torch.long, device=device)
        self.own_lengths = torch.zeros(
            num_prompts * num_samples, dtype=torch.long, device=device
        )

    def keep(self, places: Sequence[int]) -> None:
        """Keep the prompts at these places, which become the first, and drop others."""
        at = torch.tensor(places, device=self.device)
        slots = self.slots_of(at)
        self.num_prompts = len(places)
        self.prompt_lengths = self.prompt_lengths[at]
        self.own_lengths = self.own_lengths[slots]
        for layer in self.layers.values():
            layer.prompt_keys = layer.prompt_keys[at]
            layer.prompt_values = layer.prompt_values[at]
            layer.own_keys = layer.own_keys[slots]
            layer.own_values = layer.own_values[slots]

    def begin(self, places: Tensor, lengths: Tensor) -> None:
        """Give places to new prompts of these lengths."""
        self.prompt_lengths[places] = lengths
        self.own_lengths[self.slots_of(places)] = 0

    def slots_of(self, places: Tensor) -> Tensor:
        """Return the slots of the samples of prompts at some places."""
        first = places.unsqueeze(1) * self.num_samples
        return (first + torch.arange(self.num_samples, device=self.device)).flatten()

    def layer_for(self, index: int, keys: Tensor, values: Tensor) -> LayerMemory:
        """Return a layer's memory, made or widened to hold keys of prompts."""
        length = aligned(keys.shape[2])
        if index not in self.layers:
            num_slots = self.num_prompts * self.num_samples
            kept = kept_type(keys, values)
            self.layers[index] = LayerMemory(
                room(keys, self.num_prompts, length, kept),
                room(values, self.num_prompts, length, kept),
                room(keys, num_slots, GROWTH, kept),
                room(values, num_slots, GROWTH, kept),
            )
        layer = self.layers[index]
        layer.prompt_keys = widened(layer.prompt_keys, length)
        layer.prompt_values = widened(layer.prompt_values, length)
        return layer


def kept_type(keys: Tensor, values: Tensor) -> torch.dtype:
    """Return the one type in which keys and values are kept.

    Under autocast values come rounded and keys do not, since the rotation that follows
    their projection is in float32.
    """
    # One query against keys in bfloat16 is slow on a processor, and rounds.
    return torch.float32 if keys.device.type == "cpu" else values.dtype


def room(like: Tensor, count: int, length: int, kept: torch.dtype) -> Tensor:
    """Return an empty ``(count, G, length, D)`` for keys or values such as `like`."""
    return like.new_zeros((count, like.shape[1], length, like.shape[3]), dtype=kept)


def widened(buffer: Tensor, length: int, step: int = 1) -> Tensor:
    """Return a buffer ``(N, G, T, D)`` with T at least `length`, in whole steps."""
    missing = length - buffer.shape[2]
    if missing <= 0:
        return buffer
    missing = -(-missing // step) * step
    return torch.nn.functional.pad(buffer, (0, 0, 0, missing))
