"""Decoding with transformers' own cache, the reference for paged decoding.

Used for attention that cannot be replaced here. A group's prompts are padded on the
left, and each sample copies its prompt's keys.

Axes: B rows (one per sample), V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from neuron_opsd.models.decoding.growing import Decoder, Request
from neuron_opsd.models.decoding.pages import kept_bytes
from neuron_opsd.records import TokenIds


class LibraryCache:
    """Decodes groups of samples with prompts of similar length."""

    def __init__(
        self, model: Decoder, request: Request, rows: int, memory: int
    ) -> None:
        self.model = model
        self.request = request
        positions = memory // kept_bytes(model)
        self.groups = list(self._grouped(rows, positions))

    def run(self) -> None:
        """Write every completion, group by group."""
        for group in self.groups:
            self._write(group)

    def _grouped(self, rows: int, positions: int) -> Iterator[list[tuple[int, int]]]:
        """Yield groups of (prompt, seed index), shortest prompts first."""
        request = self.request
        left = request.left()
        group: list[tuple[int, int]] = []
        for i in sorted(range(len(left)), key=lambda i: (len(request.prompts[i]), i)):
            length = len(request.prompts[i]) + request.sampling.max_new_tokens
            for number in left[i]:
                more = len(group) + 1
                if group and (more > rows or more * length > positions):
                    yield group
                    group = []
                group.append((i, number))
        if group:
            yield group

    def _write(self, group: Sequence[tuple[int, int]]) -> None:
        request = self.request
        rows = [row for i, number in group for row in request.begin(i, [number])]
        prompts = list(dict.fromkeys(i for i, _ in group))
        state = CachedRows(self.model, [request.prompts[i] for i in prompts])
        state.select([prompts.index(row.place[0]) for row in rows])
        while True:
            tokens = request.draw(rows, state.logits)
            keep = [place for place, row in enumerate(rows) if row.grows]
            if not keep:
                return
            if len(keep) < len(rows):
                rows = [rows[i] for i in keep]
                tokens = tokens[torch.tensor(keep).to(tokens.device)]
                state.select(keep)
            state.step(tokens)


class CachedRows:
    """The cache of some rows, and their next-token logits."""

    def __init__(self, model: Decoder, prompts: Sequence[TokenIds]) -> None:
        """Run prompts, padded on the left, into the cache."""
        self.model = model
        self.cache: Any = DynamicCache(config=model.decoder.config)
        longest = max(map(len, prompts))
        ids, mask = torch.zeros((2, len(prompts), longest), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        self.mask = mask.to(model.device)
        """``(B, T)``: 1 for a token, 0 for padding."""
        positions = (self.mask.cumsum(dim=-1) - 1).clamp(min=0)
        self.logits = self._run(ids.to(model.device), positions)
        """``(B, V)``, of the next token."""

    def select(self, rows: Sequence[int]) -> None:
        """Keep (or repeat) some rows."""
        places = torch.tensor(rows).to(self.mask.device)
        self.cache.reorder_cache(places)
        self.mask = self.mask[places]
        self.logits = self.logits[places]

    def step(self, tokens: Tensor) -> None:
        """Run one more token ``(B,)`` per row."""
        one = self.mask.new_ones(len(tokens), 1)
        self.mask = torch.cat([self.mask, one], dim=1)
        positions = self.mask.sum(dim=-1, keepdim=True) - 1
        self.logits = self._run(tokens.unsqueeze(-1), positions)

    def _run(self, ids: Tensor, positions: Tensor) -> Tensor:
        # Its name differs between versions of transformers.
        named = inspect.signature(self.model.decoder.forward).parameters
        cache = {"cache" if "cache" in named else "past_key_values": self.cache}
        states = self.model.run_decoder(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            use_cache=True,
            **cache,
        )
        return self.model.next_logits(states[:, -1])
