"""Decoding many samples of a prompt over one copy of its keys and values.

Attention over the prompt is one product for all samples of a question; attention over
what each sample has written runs over buffers that never move while they grow.

Axes: P prompts, K samples of each, S = P * K slots, B rows of a step (one per sample
that still grows), H query heads, G key heads, T positions, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from torch import Tensor, nn

from neuron_opsd.models.forward.attention import MIN_ROWS, Heads, Whole, aligned, padded
from neuron_opsd.records import TokenIds

DecoderPass: TypeAlias = Callable[..., Tensor]
"""Runs the decoder on ``input_ids`` and ``position_ids``, giving ``(B, T, width)``."""

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
        """Make room for P prompts with K samples each, which fills as they are read."""
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

    def layer_for(self, heads: Heads) -> LayerMemory:
        """Return a layer's memory, made or widened to hold keys of prompts."""
        index, keys, values = heads.module.layer_idx, heads.key, heads.value
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


def read(
    memory: PrefixMemory,
    run: DecoderPass,
    prompts: Sequence[TokenIds],
    places: Sequence[int],
) -> Tensor:
    """Read prompts into places; return the ``(n, width)`` states at their ends."""
    device = memory.device
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    ids = padded(prompts).to(device)
    at = torch.tensor(places, device=device)
    memory.begin(at, lengths)
    positions = torch.arange(ids.shape[1], device=device).expand_as(ids)
    states = run(input_ids=ids, position_ids=positions, attending=Reading(memory, at))
    return states[torch.arange(len(prompts), device=device), lengths - 1]


def extend(
    memory: PrefixMemory, run: DecoderPass, tokens: Tensor, slots: Tensor
) -> Tensor:
    """Write one more token ``(B,)`` in each slot; return ``(B, width)`` states."""
    count = len(slots)
    tokens, slots = enough(tokens), enough(slots)
    place = slots // memory.num_samples
    positions = memory.prompt_lengths[place] + memory.own_lengths[slots]
    states = run(
        input_ids=tokens.unsqueeze(1),
        position_ids=positions.unsqueeze(1),
        attending=Step(memory, slots, positions),
    )
    # A slot that appears twice is counted once.
    memory.own_lengths[slots] += 1
    return states[:count, 0]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A pass over prompts that keeps their keys and values."""

    memory: PrefixMemory
    places: Tensor

    def attend(self, heads: Heads) -> Tensor:
        """Keep keys and values, and attend as a whole pass does."""
        layer = self.memory.layer_for(heads)
        length = heads.key.shape[2]
        kept = layer.prompt_keys.dtype
        layer.prompt_keys[self.places, :, :length] = heads.key.to(kept)
        layer.prompt_values[self.places, :, :length] = heads.value.to(kept)
        return Whole().attend(heads)


class Step:
    """A pass over one new token in each of some slots."""

    def __init__(self, memory: PrefixMemory, slots: Tensor, positions: Tensor) -> None:
        """Lay out the grid of slots; samples that have ended attend for nothing.

        Slots ``(B,)`` are one per row, positions ``(B,)`` those of the new tokens.
        """
        self.memory = memory
        self.slots = slots
        self.prompt_length = aligned(int(memory.prompt_lengths.max()))
        self.own_at = memory.own_lengths[slots]
        self.own_length = aligned(int(self.own_at.max()) + 1)
        self.positions = torch.zeros_like(memory.own_lengths)
        self.positions[slots] = positions
        self._hidden: dict[int | None, Tensor] = {}

    def attend(self, heads: Heads) -> Tensor:
        """Attend to the prompt, once for all its samples, and to what each wrote."""
        layer = self.memory.layers[heads.module.layer_idx]
        self._write(layer, heads.key, heads.value)
        query = heads.query
        rows, num_heads, _, width = query.shape
        num_slots, num_groups = layer.own_keys.shape[:2]
        with torch.autocast(query.device.type, enabled=False):
            grid = layer.own_keys.new_zeros(num_slots, num_heads, width)
            grid[self.slots] = query[:, :, 0].to(grid.dtype) * heads.scaling
            # (S, G, H / G, T) to the tokens before, the prompt's first.
            grid = grid.view(num_slots, num_groups, -1, width)
            own_keys = layer.own_keys[:, :, : self.own_length]
            own_values = layer.own_values[:, :, : self.own_length]
            prompt_keys = layer.prompt_keys[:, :, : self.prompt_length]
            prompt_values = layer.prompt_values[:, :, : self.prompt_length]
            to_prompt = self._over_prompts(grid, prompt_keys.mT)
            scores = torch.cat([to_prompt, grid @ own_keys.mT], dim=-1).float()
            scores = scores + self._hidden_from(heads.window)
            shares = scores.softmax(-1).to(grid.dtype)
            of_prompt, of_own = shares.split([self.prompt_length, self.own_length], -1)
            output = self._over_prompts(of_prompt, prompt_values) + of_own @ own_values
            by_row: Tensor = output.reshape(num_slots, num_heads, -1)[self.slots]
        return by_row.view(rows, 1, num_heads, -1)

    def _write(self, layer: LayerMemory, key: Tensor, value: Tensor) -> None:
        layer.own_keys = widened(layer.own_keys, self.own_length, GROWTH)
        layer.own_values = widened(layer.own_values, self.own_length, GROWTH)
        kept = layer.own_keys.dtype
        layer.own_keys[self.slots, :, self.own_at] = key[:, :, 0].to(kept)
        layer.own_values[self.slots, :, self.own_at] = value[:, :, 0].to(kept)

    def _over_prompts(self, slots: Tensor, matrices: Tensor) -> Tensor:
        """Multiply ``(S, G, R, X)`` with ``(P, G, X, Y)``, once for each prompt."""
        num_slots, groups, per_group, last = slots.shape
        memory = self.memory
        split = slots.view(memory.num_prompts, memory.num_samples, groups, -1, last)
        rows = split.transpose(1, 2).reshape(memory.num_prompts, groups, -1, last)
        missing = max(0, MIN_ROWS - rows.shape[2])
        product = nn.functional.pad(rows, (0, 0, 0, missing)) @ matrices
        product = product[:, :, : rows.shape[2]]
        back = product.view(*split.transpose(1, 2).shape[:-1], -1).transpose(1, 2)
        return back.reshape(num_slots, groups, per_group, -1)

    def _hidden_from(self, window: int | None) -> Tensor:
        """Return ``(S, 1, 1, T)``: minus infinity where a slot may not look."""
        if window not in self._hidden:
            memory = self.memory
            prompt = torch.arange(self.prompt_length, device=memory.device)
            own = torch.arange(self.own_length, device=memory.device)
            lengths = memory.prompt_lengths.repeat_interleave(memory.num_samples)
            lengths = lengths.unsqueeze(1)
            at = torch.cat([prompt.expand(len(lengths), -1), lengths + own], dim=1)
            here = self.positions.unsqueeze(1)
            seen = at <= here
            seen[:, : self.prompt_length] &= prompt < lengths
            if window is not None:
                seen &= here - at < window
            hidden = torch.zeros(seen.shape, device=memory.device)
            self._hidden[window] = hidden.masked_fill(~seen, -torch.inf)[:, None, None]
        return self._hidden[window]


def enough(rows: Tensor) -> Tensor:
    """Repeat the first row until there are as many as products need to be exact.

    With fewer rows a product on a processor adds in another order, and a completion
    would depend on how many others are made beside it.
    """
    missing = MIN_ROWS - len(rows)
    if missing <= 0:
        return rows
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])])
