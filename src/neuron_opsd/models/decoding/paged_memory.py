"""Keys and values on pages: memory grows with what is written.

Attention takes one product for all pages of one kind, each page by itself, and then
adds up what the pages of a row give. So every product and sum over positions has one
size, that of a page, and on a processor a row's bits hang neither on its length nor on
what is written beside it.

Axes: as in `layout`; and H query heads, G key heads, R = H / G, T positions of a page,
D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from neuron_opsd.models.decoding.layout import Layout
from neuron_opsd.models.decoding.pages import Ints
from neuron_opsd.models.forward.attention import Heads, Whole

LEAST: Final = -1e30
"""Score of a position that is not seen: its share is 0, and no difference is NaN."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerMemory:
    """Keys and values of one layer, ``(pages, G, T, D)`` each."""

    keys: Tensor
    values: Tensor


class PagedMemory:
    """Pages of keys and values for every layer."""

    def __init__(self, num_pages: int, page: int, device: torch.device) -> None:
        """Take pages of so many positions, once a layer asks for them."""
        self.num_pages = num_pages
        self.page = page
        self.device = device
        self.layers: dict[int, LayerMemory] = {}

    def layer_for(self, heads: Heads) -> LayerMemory:
        """Return a layer's memory, made where there is none yet."""
        index = heads.module.layer_idx
        if index not in self.layers:
            kept = kept_type(heads.key, heads.value)
            self.layers[index] = LayerMemory(
                *(self._room(one, kept) for one in (heads.key, heads.value))
            )
        return self.layers[index]

    def _room(self, like: Tensor, kept: torch.dtype) -> Tensor:
        shape = self.num_pages, like.shape[1], self.page, like.shape[3]
        if self.device.type != "cpu":
            return torch.zeros(shape, dtype=kept, device=self.device)
        # The system gives out numpy's zeros as they are first written on.
        return torch.from_numpy(np.zeros(shape, np.float32)).to(kept)

    def move(self, before: Ints, after: Ints) -> None:
        """Copy pages to other places."""
        source, target = torch.from_numpy(np.stack([before, after])).to(self.device)
        for layer in self.layers.values():
            layer.keys[target] = layer.keys[source]
            layer.values[target] = layer.values[source]


def kept_type(keys: Tensor, values: Tensor) -> torch.dtype:
    """Return the one type in which keys and values are kept.

    Under autocast values come rounded and keys do not, since the rotation that follows
    their projection is in float32.
    """
    # One query against keys in bfloat16 is slow on a processor, and rounds.
    return torch.float32 if keys.device.type == "cpu" else values.dtype


class Reading:
    """A pass over prompts that keeps their keys and values."""

    def __init__(self, memory: PagedMemory, pages: Sequence[Ints]) -> None:
        """Keep each prompt, padded on the right to any length, on pages of its own."""
        self.memory = memory
        counts = [len(own) for own in pages]
        rows = np.repeat(np.arange(len(pages)), counts)
        numbers = np.concatenate([np.arange(count) for count in counts])
        where = np.stack([rows, numbers, np.concatenate(pages)])
        self.rows, self.numbers, self.pages = torch.from_numpy(where).to(memory.device)
        self.length = max(counts) * memory.page

    def attend(self, heads: Heads) -> Tensor:
        """Keep keys and values, and attend as a whole pass does."""
        layer = self.memory.layer_for(heads)
        for kept, given in ((layer.keys, heads.key), (layer.values, heads.value)):
            missing = self.length - given.shape[2]
            whole = nn.functional.pad(given, (0, 0, 0, missing))
            paged = whole.unflatten(2, (-1, self.memory.page)).to(kept.dtype)
            kept[self.pages] = paged[self.rows, :, self.numbers]
        return Whole().attend(heads)


class Step:
    """A pass over one new token of each row."""

    def __init__(self, memory: PagedMemory, layout: Layout[Tensor]) -> None:
        """Attend as the arrays of a step say."""
        self.memory = memory
        self.at = layout
        self._hidden: dict[tuple[int | None, int], tuple[Tensor, Tensor]] = {}

    def attend(self, heads: Heads) -> Tensor:
        """Attend to the prompt, once for all its samples, and to what each wrote."""
        layer, at = self.memory.layers[heads.module.layer_idx], self.at
        for kept, given in ((layer.keys, heads.key), (layer.values, heads.value)):
            kept[at.pages, :, at.offsets] = given[:, :, 0].to(kept.dtype)
        rows, num_heads, _, width = heads.query.shape
        with torch.autocast(heads.query.device.type, enabled=False):
            query = heads.query[:, :, 0].to(layer.keys.dtype) * heads.scaling
            query = query.view(rows, layer.keys.shape[1], -1, width)
            of_own, of_prompt = self._hidden_from(heads.window, query.shape[2])
            own = self._over_own(query, layer, of_own)
            prompt = self._over_prompts(query, layer, of_prompt)
            output: Tensor = merged(own, prompt)
            return output.reshape(rows, 1, num_heads, -1)

    def _over_own(self, query: Tensor, layer: LayerMemory, hidden: Tensor) -> Tensor:
        """Return the sums ``(B, G, R, D + 2)`` over what each row wrote."""
        count = len(self.at.owners)
        pages = LayerMemory(layer.keys[:count], layer.values[:count])
        parts = attended(query[self.at.owners], pages, hidden)
        return added(parts, self.at.own_table, self.at.own_counts)

    def _over_prompts(
        self, query: Tensor, layer: LayerMemory, hidden: Tensor
    ) -> Tensor:
        """Return the sums ``(B, G, R, D + 2)`` over the rows' prompts."""
        at, first = self.at, len(layer.keys) - len(self.at.prompt_of)
        pages = LayerMemory(layer.keys[first:], layer.values[first:])
        # (P, G, K * R, D): the queries of all samples of a prompt.
        together = query[at.row_at].transpose(1, 2).flatten(2, 3)
        parts = attended(together[at.prompt_of], pages, hidden)
        sums = added(parts, at.prompt_table, at.prompt_counts)
        by_sample = sums.unflatten(2, (at.row_at.shape[1], -1)).transpose(1, 2)
        by_row: Tensor = by_sample.flatten(0, 1)[at.sample_of]
        return by_row

    def _hidden_from(self, window: int | None, heads: int) -> tuple[Tensor, Tensor]:
        """Return what is added to the scores: `LEAST` where a row may not look.

        ``(N, 1, 1, T)`` for the pages of samples, ``(Q, 1, 1 or K * R, T)`` of prompts.
        """
        if (window, heads) not in self._hidden:
            at, page = self.at, self.memory.page
            places = torch.arange(page, device=self.memory.device)
            here = at.positions[at.owners].unsqueeze(1)
            own = at.starts.unsqueeze(1) + places
            seen = own <= here
            prompt = at.prompt_starts.unsqueeze(1) + places
            known = (prompt < at.lengths[at.prompt_of].unsqueeze(1)).unsqueeze(1)
            if window is not None:
                seen &= here - own < window
                there = at.positions[at.row_at][at.prompt_of].unsqueeze(2)
                known = known & (there - prompt.unsqueeze(1) < window)
                known = known.repeat_interleave(heads, dim=1)
            self._hidden[window, heads] = (
                least_where(~seen)[:, None, None],
                least_where(~known).unsqueeze(1),
            )
        return self._hidden[window, heads]


def least_where(hidden: Tensor) -> Tensor:
    """Return `LEAST` where something is hidden, and zero elsewhere."""
    zeros = torch.zeros(hidden.shape, device=hidden.device)
    return zeros.masked_fill(hidden, LEAST)


def attended(query: Tensor, pages: LayerMemory, hidden: Tensor) -> Tensor:
    """Attend to each page by itself.

    Args:
        query: ``(N, G, R, D)``, scaled, one for each page.
        pages: N of them.
        hidden: ``(N, 1, 1 or R, T)``; is added to the scores.

    Returns:
        ``(N, G, R, D + 2)``: the sum of values, each times ``exp(score - highest)``,
        the sum of these factors, and the highest score.
    """
    scores = (query @ pages.keys.mT).float() + hidden
    highest = scores.amax(dim=-1, keepdim=True)
    factors = (scores - highest).exp()
    values = factors.to(query.dtype) @ pages.values
    return torch.cat([values.float(), factors.sum(-1, keepdim=True), highest], dim=-1)


def added(parts: Tensor, table: Tensor, counts: Tensor) -> Tensor:
    """Add up what the pages of each row give.

    Args:
        parts: ``(N, G, R, D + 2)`` as `attended` returns them.
        table: ``(B, M)``: the pages of each row, M a power of two.
        counts: ``(B,)``: how many of these count.

    Returns:
        ``(B, G, R, D + 2)``, the same over all pages of a row.
    """
    found = parts[table]
    depth = table.shape[1]
    if depth == 1:
        return found[:, 0]
    absent = torch.arange(depth, device=table.device) >= counts.unsqueeze(1)
    highest = found[..., -1:].masked_fill(absent[:, :, None, None, None], LEAST)
    most = highest.amax(dim=1, keepdim=True)
    sums = found[..., :-1] * (highest - most).exp()
    # Pairs of neighbours, so that the order is one whatever follows.
    while sums.shape[1] > 1:
        sums = sums[:, ::2] + sums[:, 1::2]
    return torch.cat([sums[:, 0], most[:, 0]], dim=-1)


def merged(one: Tensor, other: Tensor) -> Tensor:
    """Return the attention ``(B, G, R, D)`` over two parts ``(B, G, R, D + 2)``."""
    highest = torch.maximum(one[..., -1:], other[..., -1:])
    sums = one[..., :-1] * (one[..., -1:] - highest).exp()
    sums = sums + other[..., :-1] * (other[..., -1:] - highest).exp()
    return sums[..., :-1] / sums[..., -1:]
