"""Pages of memory for keys and values: which are free, and what the others hold.

Pure bookkeeping. Pages of samples are taken from the front and pages of prompts from
the back, so that each kind lies close together and a product over all pages of one kind
has few others in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]


class Kind(IntEnum):
    """What a page holds."""

    FREE = 0
    SAMPLE = 1
    """Tokens that one sample has written."""
    PROMPT = 2
    """Tokens of a prompt, for all its samples."""


class Pages:
    """A fixed number of pages, each free or in use."""

    def __init__(self, count: int) -> None:
        self.kinds: NDArray[np.int8] = np.zeros(count, np.int8)
        self.num_free = count

    def __len__(self) -> int:
        return len(self.kinds)

    def take(self, count: int, kind: Kind) -> Ints:
        """Take free pages, of samples from the front and of prompts from the back."""
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
        """Return how many pages there are, from its own end, to the last of a kind."""
        places = np.flatnonzero(self.kinds == kind)
        if not len(places):
            return 0
        if kind == Kind.SAMPLE:
            return int(places[-1]) + 1
        return len(self) - int(places[0])

    def packed(self, kind: Kind) -> tuple[Ints, Ints]:
        """Move the furthest pages of a kind into free ones, so that they lie closest.

        Returns which were moved, and where to; their contents are the caller's.
        """
        order = slice(None) if kind == Kind.SAMPLE else slice(None, None, -1)
        near = np.arange(len(self))[order][: int((self.kinds == kind).sum())]
        free = near[self.kinds[near] == Kind.FREE]
        used = np.flatnonzero(self.kinds == kind)[order]
        moved = used[len(used) - len(free) :] if len(free) else used[:0]
        self.kinds[moved] = Kind.FREE
        self.kinds[free] = kind
        return moved, free
