"""Grouping pairs into forward passes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.models.room import batches
from neuron_opsd.records import Pair

LENGTHS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=20)


@given(LENGTHS, st.integers(1, 60))
def test_batches_hold_every_pair_once_within_their_tokens(
    lengths: list[tuple[int, int]], room: int
) -> None:
    pairs: list[Pair] = [((1,) * p, (2,) * c) for p, c in lengths]
    found = list(batches(pairs, room))
    assert sorted(i for batch in found for i in batch) == list(range(len(pairs)))
    for batch in found:
        longest = max(sum(map(len, pairs[i])) for i in batch)
        assert len(batch) == 1 or len(batch) * longest <= room
