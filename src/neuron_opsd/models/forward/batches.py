"""How pairs are grouped into forward passes; a pure function of the pairs.

Axes: B rows of a batch, T positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

from neuron_opsd.records import Pair, TokenIds

FAST_TOKENS: Final = 512
"""A forward pass over as many tokens is about as fast per token as a longer one."""

MIN_ROWS: Final = 8
"""With fewer rows, matrix products on a processor add in another order."""

MAX_PADDING: Final = 1.25
"""A batch's longest pair is at most this many times as long as its shortest."""


def batches(pairs: Sequence[Pair], tokens_per_batch: int) -> Iterator[list[int]]:
    """Group pairs of like length so that no batch exceeds its tokens, padding included.

    A batch that is large enough to be fast takes no pair that would pad the others by
    much.

    Returns:
        Places in `pairs`; a pair that is longer than a batch has one of its own.
    """
    length = [len(prompt) + len(completion) for prompt, completion in pairs]
    batch: list[int] = []
    for i in sorted(range(len(pairs)), key=lambda i: (length[i], i)):
        too_many = (len(batch) + 1) * length[i] > tokens_per_batch
        too_long = (
            len(batch) * length[i] > FAST_TOKENS
            and length[i] > MAX_PADDING * length[batch[0]]
        )
        if batch and (too_many or too_long):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def padded(sequences: Sequence[TokenIds]) -> Tensor:
    """Return token ids as ``(B, T)``, padded on the right with zeros."""
    longest = max(MIN_ROWS, *map(len, sequences))
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
    return ids
