"""How pairs are grouped into forward passes; a pure function of the pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from neuron_opsd.models.protocol import Pair


def batches(pairs: Sequence[Pair], tokens_per_batch: int) -> Iterator[list[int]]:
    """Group pairs of like length so that no batch exceeds its tokens, padding included.

    Returns:
        Places in `pairs`; a pair that is longer than a batch has one of its own.
    """
    length = [len(prompt) + len(completion) for prompt, completion in pairs]
    batch: list[int] = []
    for i in sorted(range(len(pairs)), key=lambda i: (length[i], i)):
        if batch and (len(batch) + 1) * length[i] > tokens_per_batch:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
