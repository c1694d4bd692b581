"""Keys and values on pages: memory grows with what is written.

Attention takes one product over all pages of one kind, then adds up the results of each
row's pages. Products and sums over positions thus have the size of a page, so on a CPU
a row's bits depend neither on its length nor on other rows.

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

HIDDEN: Final = -torch.inf
"""Score of an unseen position. Each row sees itself, so no difference is NaN. With a
finite number `exp` would be slow on a CPU."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerMemory:
    """Keys and values of one layer, ``(pages, G, T, D)`` each."""

    keys: Tensor
    values: Tensor


class PagedMemory:
    """Pages of keys and values for every layer."""

    def __init__(self, num_pages: int, page: int, device: torch.device) -> None:
        """Set the sizes; memory is taken when a layer first needs it."""
        self.num_pages = num_pages
        self.page = page
        self.device = device
        self.layers: dict[int, LayerMemory] = {}

    def layer_for(self, heads: Heads) -> LayerMemory:
        """Return a layer's memory, allocated on first use."""
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
        # The system allocates numpy's zeros on first write.
        return torch.from_numpy(np.zeros(shape, np.float32)).to(kept)

    def move(self, before: Ints, after: Ints) -> None:
        """Copy pages to other places."""
        source, target = torch.from_numpy(np.stack([before, after])).to(self.device)
        for layer in self.layers.values():
            layer.keys[target] = layer.keys[source]
            layer.values[target] = layer.values[source]


def kept_type(keys: Tensor, values: Tensor) -> torch.dtype:
    """Return the common type in which keys and values are kept.

    Under autocast values are rounded and keys are not.
    """
    # One query against bfloat16 keys is slow on a CPU, and rounds.
    return torch.float32 if keys.device.type == "cpu" else values.dtype


class Reading:
    """A pass over prompts that stores their keys and values."""

    def __init__(self, memory: PagedMemory, pages: Sequence[Ints]) -> None:
        """Store each prompt, right-padded to any length, on its pages."""
        self.memory = memory
        counts = [len(own) for own in pages]
        rows = np.repeat(np.arange(len(pages)), counts)
        numbers = np.concatenate([np.arange(count) for count in counts])
        where = np.stack([rows, numbers, np.concatenate(pages)])
        self.rows, self.numbers, self.pages = torch.from_numpy(where).to(memory.device)
        self.length = max(counts) * memory.page

    def attend(self, heads: Heads) -> Tensor:
        """Store keys and values, and attend as a whole pass does."""
        layer = self.memory.layer_for(heads)
        for kept, given in ((layer.keys, heads.key), (layer.values, heads.value)):
            missing = self.length - given.shape[2]
            whole = nn.functional.pad(given, (0, 0, 0, missing))
            paged = whole.unflatten(2, (-1, self.memory.page)).to(kept.dtype)
            kept[self.pages] = paged[self.rows, :, self.numbers]
        return Whole().attend(heads)


class Step:
    """A pass over one new token per row."""

    def __init__(self, memory: PagedMemory, layout: Layout[Tensor]) -> None:
        self.memory = memory
        self.at = layout
        self.own = Table.of(layout.own_table, layout.own_counts)
        self.prompts = Table.of(layout.prompt_table, layout.prompt_counts)
        self._hidden: dict[tuple[int | None, int], tuple[Tensor, Tensor]] = {}

    def attend(self, heads: Heads) -> Tensor:
        """Attend to the prompt, once for all its samples, and to the sample."""
        layer, at = self.memory.layers[heads.module.layer_idx], self.at
        for kept, given in ((layer.keys, heads.key), (layer.values, heads.value)):
            kept[at.pages, :, at.offsets] = given[:, :, 0].to(kept.dtype)
        rows, num_heads, _, width = heads.query.shape
        with torch.autocast(heads.query.device.type, enabled=False):
            query = heads.query[:, :, 0].to(layer.keys.dtype) * heads.scaling
            query = query.view(rows, layer.keys.shape[1], -1, width)
            output = self._over_pages(query, layer, heads.window)
            return output.reshape(rows, 1, num_heads, -1)

    def _over_pages(
        self, query: Tensor, layer: LayerMemory, window: int | None
    ) -> Tensor:
        at = self.at
        count, first = len(at.owners), len(layer.keys) - len(at.prompt_of)
        of_own, of_prompt = self._hidden_from(window, query.shape[2])
        own = scores_of(query.index_select(0, at.owners), layer.keys[:count], of_own)
        asking = self._by_prompt(query).index_select(0, at.prompt_of)
        prompt = scores_of(asking, layer.keys[first:], of_prompt)
        highest = torch.maximum(
            highest_of(own, self.own), self._by_row(highest_of(prompt, self.prompts))
        )
        for_prompts = self._by_prompt(highest).index_select(0, at.prompt_of)
        factors = own.sub_(highest.index_select(0, at.owners)).exp_()
        own_sums, own_total = added(factors, layer.values[:count], self.own)
        factors = prompt.sub_(for_prompts).exp_()
        sums, total = added(factors, layer.values[first:], self.prompts)
        own_sums += self._by_row(sums)
        return own_sums.div_(own_total + self._by_row(total))

    def _by_prompt(self, rows: Tensor) -> Tensor:
        """Return ``(P, G, K * R, D)`` from ``(B, G, R, D)``, grouped by prompt."""
        found: Tensor = rows.index_select(0, self.at.row_at.flatten())
        by_prompt: Tensor = found.unflatten(0, self.at.row_at.shape)
        return by_prompt.transpose(1, 2).flatten(2, 3)

    def _by_row(self, prompts: Tensor) -> Tensor:
        """Return ``(B, G, R, D)`` from ``(P, G, K * R, D)``, back by row."""
        by_sample: Tensor = prompts.unflatten(
            2, (self.at.row_at.shape[1], -1)
        ).transpose(1, 2)
        return by_sample.flatten(0, 1).index_select(0, self.at.sample_of)

    def _hidden_from(self, window: int | None, heads: int) -> tuple[Tensor, Tensor]:
        """Return what to add to scores: `HIDDEN` where a row may not look.

        ``(N, 1, 1, T)`` for pages of samples, ``(Q, 1, 1 or K * R, T)`` for prompts.
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
                hidden_where(~seen)[:, None, None],
                hidden_where(~known).unsqueeze(1),
            )
        return self._hidden[window, heads]


def hidden_where(hidden: Tensor) -> Tensor:
    """Return `HIDDEN` where the mask is true, else 0."""
    zeros = torch.zeros(hidden.shape, device=hidden.device)
    return zeros.masked_fill(hidden, HIDDEN)


def scores_of(query: Tensor, keys: Tensor, hidden: Tensor) -> Tensor:
    """Return the scores ``(N, G, R, T)`` on each page.

    `query` ``(N, G, R, D)`` is already scaled, `keys` are ``(N, G, T, D)`` and `hidden`
    ``(N, 1, 1 or R, T)``.
    """
    return (query @ keys.mT).float().add_(hidden)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Pages by row."""

    pages: Tensor
    """``(B, M)``, M a power of two; padded with the row's first page."""
    counted: Tensor | None
    """``(B, M, 1, 1, 1)``: 0 for padding, else 1; `None` if all are 1."""

    @classmethod
    def of(cls, pages: Tensor, counts: Tensor) -> Table:
        """Return a table whose rows have `counts` pages each."""
        depth = pages.shape[1]
        if depth == 1:
            return cls(pages, None)
        numbers = torch.arange(depth, device=pages.device)
        counted = (numbers < counts.unsqueeze(1)).float()
        return cls(pages, counted[:, :, None, None, None])

    def rows_of(self, parts: Tensor) -> Tensor:
        """Gather ``(B, M, ...)`` from ``(N, ...)``."""
        found = parts.index_select(0, self.pages.flatten())
        of_rows: Tensor = found.unflatten(0, self.pages.shape)
        return of_rows

    def added(self, parts: Tensor) -> Tensor:
        """Sum the ``(N, ...)`` of each row's pages into ``(B, ...)``."""
        found = self.rows_of(parts)
        return in_pairs(found if self.counted is None else found.mul_(self.counted))


def highest_of(scores: Tensor, table: Table) -> Tensor:
    """Return each row's highest score ``(B, G, R, 1)``."""
    return table.rows_of(scores.amax(dim=-1, keepdim=True)).amax(dim=1)


def added(factors: Tensor, values: Tensor, table: Table) -> tuple[Tensor, Tensor]:
    """Add up each row's values, weighted by their factors.

    `factors` are ``(N, G, R, T)`` and `values` ``(N, G, T, D)``. Returns the sums ``(B,
    G, R, D)`` and those of the factors ``(B, G, R, 1)``.
    """
    sums = (factors.to(values.dtype) @ values).float()
    totals = factors.sum(-1, keepdim=True)
    return table.added(sums), table.added(totals)


def in_pairs(parts: Tensor) -> Tensor:
    """Sum ``(B, M, ...)`` over M, a power of two.

    Neighbours are added first, so trailing zeros do not change a sum's bits.
    """
    while parts.shape[1] > 1:
        parts = parts[:, ::2] + parts[:, 1::2]
    return parts[:, 0]
