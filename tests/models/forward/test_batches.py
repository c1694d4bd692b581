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


def lengths_of_batches(*lengths: int) -> list[list[int]]:
    """Return the lengths of the pairs of each batch."""
    pairs: list[Pair] = [((1,) * (length - 1), (2,)) for length in lengths]
    return [[lengths[i] for i in batch] for batch in batches(pairs, 100_000)]


def test_long_pairs_are_hardly_padded() -> None:
    assert lengths_of_batches(600, 610, 620) == [[600, 610, 620]]
    assert lengths_of_batches(600, 660, 700) == [[600, 660], [700]]
    assert lengths_of_batches(*[600] * 10, 620) == [[600] * 10, [620]]


def test_short_pairs_are_padded_while_a_batch_is_small_or_they_are_alike() -> None:
    assert lengths_of_batches(40, 100, 250) == [[40, 100, 250]]
    assert lengths_of_batches(*[100] * 20, 124) == [[*[100] * 20, 124]]
    assert lengths_of_batches(*[100] * 20, 126) == [[100] * 20, [126]]
