"""Pages of memory for keys and values: their number and contents.

Samples take pages from the front and prompts from the back, so a product over one
kind's range includes few others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.models.decoding.growing import Decoder
from neuron_opsd.models.forward.layers import head_width, heads_of
from neuron_opsd.processes.memory import free_memory

Ints: TypeAlias = NDArray[np.int64]

SHARES: Final[Mapping[str, float]] = {"cpu": 0.25, "cuda": 0.9}
"""Share of free memory for keys and values, by device; the rest is for passes over
prompts, logits and other programs."""

PAGES: Final[Mapping[str, int]] = {"cpu": 32, "cuda": 256}
"""Positions of a page, by device. GPUs prefer fewer, longer ones."""


class Kind(IntEnum):
    """What a page holds."""

    FREE = 0
    SAMPLE = 1
    """Tokens written by one sample."""
    PROMPT = 2
    """Tokens of a prompt, shared by its samples."""


class Pages:
    """A fixed number of pages, each free or in use."""

    def __init__(self, count: int) -> None:
        self.kinds: NDArray[np.int8] = np.zeros(count, np.int8)
        self.num_free = count

    def __len__(self) -> int:
        return len(self.kinds)

    def take(self, count: int, kind: Kind) -> Ints:
        """Take free pages, for samples from the front, for prompts from the back."""
        if count > self.num_free:
            raise ValueError(f"{count} pages wanted, {self.num_free} are free")
        free = np.flatnonzero(self.kinds == Kind.FREE)
        taken = free[:count] if kind == Kind.SAMPLE else free[len(free) - count :]
        self.kinds[taken] = kind
        self.num_free -= count
        return taken

    def give(self, pages: Sequence[int] | Ints) -> None:
        """Give pages back."""
        places = np.asarray(pages, np.int64)
        if len(np.unique(places)) < len(places) or not self.kinds[places].all():
            raise ValueError(f"pages {places.tolist()} are given back twice")
        self.kinds[places] = Kind.FREE
        self.num_free += len(places)

    def extent(self, kind: Kind) -> int:
        """Return the distance from a kind's own end to its last page."""
        places = np.flatnonzero(self.kinds == kind)
        if not len(places):
            return 0
        if kind == Kind.SAMPLE:
            return int(places[-1]) + 1
        return len(self) - int(places[0])

    def packed(self, kind: Kind) -> tuple[Ints, Ints]:
        """Move a kind's furthest pages into the nearest free ones.

        Returns old and new places; the caller moves the contents.
        """
        order = slice(None) if kind == Kind.SAMPLE else slice(None, None, -1)
        near = np.arange(len(self))[order][: int((self.kinds == kind).sum())]
        free = near[self.kinds[near] == Kind.FREE]
        used = np.flatnonzero(self.kinds == kind)[order]
        moved = used[len(used) - len(free) :] if len(free) else used[:0]
        self.kinds[moved] = Kind.FREE
        self.kinds[free] = kind
        return moved, free


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a schedule."""

    rows: int
    """Most samples at once."""
    longest: int
    """Most tokens of a completion."""
    page: int

    def pages_of(self, length: int) -> int:
        """Return the pages for a number of positions."""
        return -(-length // self.page)

    def least_pages(self, prompt: int) -> int:
        """Return the pages needed for one sample of a prompt."""
        return self.pages_of(prompt) + max(1, self.pages_of(self.longest))

    def most_pages(self, asked: Sequence[tuple[int, int]]) -> int:
        """Return the most pages that can be in use at once.

        `asked` has each prompt's length in tokens and number of samples.
        """
        longest = sorted((length for length, _ in asked), reverse=True)[: self.rows]
        rows = min(self.rows, sum(count for _, count in asked))
        own = rows * max(1, self.pages_of(self.longest))
        return sum(map(self.pages_of, longest)) + own


def page_of(kind: str) -> int:
    """Return the positions of a page on a kind of device."""
    return PAGES.get(kind, PAGES["cuda"])


def position_bytes(config: Any, number_bytes: int) -> int:
    """Return the bytes of one position of one sample in all layers."""
    _, groups = heads_of(config)
    numbers = 2 * int(config.num_hidden_layers) * groups * head_width(config)
    return numbers * number_bytes


def kept_bytes(model: Decoder) -> int:
    """Return the bytes of one position as the model keeps it."""
    # A CPU keeps keys and values in float32.
    rounded = model.device.type != "cpu" and model.facts.compute == "bfloat16"
    return position_bytes(model.decoder.config, 2 if rounded else 4)


def decoding_bytes(model: Decoder) -> int:
    """Return the bytes that keys and values may take."""
    kind = model.device.type
    share = SHARES.get(kind, SHARES["cpu"])
    return model.room.memory or int(share * free_memory(str(model.device)))


def pages_within(
    memory: int, page_bytes: int, limits: Limits, asked: Sequence[tuple[int, int]]
) -> int:
    """Return the number of pages to allocate.

    As many as fit into `memory` bytes, at most what can be in use at once, and at least
    one sample of the longest prompt. `asked` is as in `Limits.most_pages`.
    """
    most = min(memory // page_bytes, limits.most_pages(asked))
    return max(most, *(limits.least_pages(length) for length, _ in asked))
