"""Neuron sets: cases worked by hand, then each rule against loops from its definition.

Axes: T tokens of one completion, L layers, F neurons of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neuron_opsd.method.neurons import (
    TOKENS_AT_ONCE,
    Activated,
    NeuronCounter,
    Rule,
    Sizes,
    largest,
    packed,
    scaled_sizes,
    unpacked,
)

RULES: Final[tuple[Rule, ...]] = ("flat", "per-token", "neufs")

Entry: TypeAlias = tuple[int, int, float]
"""Token, neuron id and score."""

EXAMPLE = torch.tensor(
    [
        [[5.0, -1.0], [4.0, 0.5], [1.0, 3.0]],
        [[-2.0, 2.0], [6.0, 2.5], [-3.0, -4.0]],
    ]
)
"""Two layers, three tokens, two neurons: ids 0 and 1, then 2 and 3."""


def activated(
    scores: Tensor, rule: Rule, per_layer: int, keep: int, *lengths: int
) -> list[Activated]:
    """Return the sets of completions that lie one after the other in ``(L, T, F)``."""
    return counted(scores, rule, Sizes(per_layer=per_layer, keep=keep), *lengths)


def counted(scores: Tensor, rule: Rule, sizes: Sizes, *lengths: int) -> list[Activated]:
    """Return the same for any sizes."""
    counter = NeuronCounter(lengths or [scores.shape[1]], rule, sizes)
    for layer, rows in enumerate(scores):
        counter.add(layer, rows)
    return counter.finish()


@pytest.mark.parametrize(
    ("rule", "neuron_count", "neuron_ids", "strongest"),
    [
        # Layer 0 keeps 5 and 4, both of neuron 0; layer 1 keeps 6 and 2.5.
        pytest.param("flat", 3, [0, 2], [5.0, 6.0], id="flat-counts-a-neuron-once"),
        # Tokens keep {0, 3}, {2, 0} and {1, 0}.
        pytest.param("per-token", 4, [0, 2], [5.0, 6.0], id="per-token"),
        # Of the flat lists only the 5 stands before token 1, the last that occurs.
        pytest.param("neufs", 1, [0], [5.0], id="neufs-drops-the-last-that-occurs"),
    ],
)
def test_the_example_by_hand(
    rule: Rule, neuron_count: int, neuron_ids: list[int], strongest: list[float]
) -> None:
    (found,) = activated(EXAMPLE, rule, 2, 2)
    assert found.neuron_count == neuron_count
    assert found.neuron_ids.tolist() == neuron_ids
    assert found.scores.tolist() == strongest


@pytest.mark.parametrize(
    ("rule", "neuron_count"),
    [("flat", 4), ("per-token", 4), ("neufs", 0)],
)
def test_a_one_token_completion_has_neurons_but_none_under_neufs(
    rule: Rule, neuron_count: int
) -> None:
    (found,) = activated(torch.tensor([[[3.0, 1.0]], [[2.0, 4.0]]]), rule, 2, 4)
    assert found.neuron_count == neuron_count
    assert len(found.neuron_ids) == neuron_count


def test_scores_below_zero_count_but_are_not_among_the_strongest() -> None:
    scores = torch.tensor([[[-1.0, 2.0, 0.0, -3.0]]])
    (found,) = activated(scores, "flat", 3, 3)
    assert found.neuron_count == 3
    assert found.neuron_ids.tolist() == [1]


def test_equal_scores_at_the_cut_go_to_the_smaller_id() -> None:
    (found,) = activated(torch.tensor([[[1.0, 2.0, 1.0, 1.0]]]), "flat", 4, 2)
    assert found.neuron_ids.tolist() == [0, 1]


def same(one: Activated, other: Activated) -> bool:
    """Whether two sets are equal to the last bit."""
    return (
        one.neuron_count == other.neuron_count
        and one.neuron_ids.tolist() == other.neuron_ids.tolist()
        and one.scores.tobytes() == other.scores.tobytes()
    )


# --- slow twins: loops written from the definitions ---


def layer_lists(scores: Tensor, per_layer: int) -> list[Entry]:
    """Sort each layer's (token, neuron) pairs by score and keep the first."""
    num_neurons = scores.shape[2]
    entries = []
    for layer, rows in enumerate(scores.tolist()):
        pairs = [
            (t, layer * num_neurons + i, score)
            for t, row in enumerate(rows)
            for i, score in enumerate(row)
        ]
        entries += sorted(pairs, key=lambda entry: -entry[2])[:per_layer]
    return entries


def slow_flat(scores: Tensor, per_layer: int, keep: int) -> list[Entry]:
    del keep
    return layer_lists(scores, per_layer)


def slow_per_token(scores: Tensor, per_layer: int, keep: int) -> list[Entry]:
    """Take the strongest neurons of all layers for every token."""
    del per_layer
    entries: list[Entry] = []
    for t in range(scores.shape[1]):
        everywhere = scores[:, t].flatten().tolist()
        ranked = sorted(range(len(everywhere)), key=lambda i: -everywhere[i])
        entries += [(t, i, everywhere[i]) for i in ranked[:keep]]
    return entries


def slow_neufs(scores: Tensor, per_layer: int, keep: int) -> list[Entry]:
    """Walk over positions as the NeuFS code does, never reaching the largest."""
    del keep
    entries = layer_lists(scores, per_layer)
    max_position = max(t for t, _, _ in entries)
    walked: list[Entry] = []
    for position in range(max_position):
        walked += [entry for entry in entries if entry[0] == position]
    return walked


SLOW: Final[Mapping[Rule, Callable[[Tensor, int, int], list[Entry]]]] = {
    "flat": slow_flat,
    "per-token": slow_per_token,
    "neufs": slow_neufs,
}


def slow_sets(entries: list[Entry], keep: int) -> tuple[int, dict[int, float]]:
    """Return the size of the counted set and the strongest with their scores."""
    best: dict[int, float] = {}
    for _, neuron, score in entries:
        best[neuron] = max(best.get(neuron, -np.inf), score)
    ranked = sorted(best, key=lambda neuron: (-best[neuron], neuron))[:keep]
    return len(best), {i: best[i] for i in sorted(ranked) if best[i] > 0}


@st.composite
def layered_scores(draw: st.DrawFn) -> Tensor:
    """Draw ``(L, T, F)`` of scores that all differ, so that no tie is open."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6)))
    count = int(np.prod(shape))
    order = np.random.default_rng(draw(st.integers(0, 999))).permutation(count)
    lowest = draw(st.integers(0, count))
    return torch.tensor(order - lowest + 0.5, dtype=torch.float32).reshape(shape)


@pytest.mark.parametrize("rule", RULES)
@given(layered_scores(), st.integers(1, 12), st.integers(1, 12))
def test_every_rule_agrees_with_its_loops(
    rule: Rule, scores: Tensor, per_layer: int, keep: int
) -> None:
    (found,) = activated(scores, rule, per_layer, keep)
    neuron_count, strongest = slow_sets(SLOW[rule](scores, per_layer, keep), keep)
    assert found.neuron_count == neuron_count
    assert dict(zip(found.neuron_ids.tolist(), found.scores.tolist(), strict=True)) == (
        strongest
    )


@pytest.mark.parametrize("rule", RULES)
@given(layered_scores(), st.integers(1, 12), st.integers(1, 12))
def test_ids_are_sorted_unsigned_and_never_more_than_counted(
    rule: Rule, scores: Tensor, per_layer: int, keep: int
) -> None:
    (found,) = activated(scores, rule, per_layer, keep)
    ids = found.neuron_ids
    assert ids.dtype == np.uint32
    assert found.scores.dtype == np.float32
    assert (np.diff(ids.astype(np.int64)) > 0).all()
    assert len(ids) == len(found.scores) <= min(keep, found.neuron_count)
    assert (found.scores > 0).all()
    assert found.neuron_count <= scores.shape[0] * scores.shape[2]


@pytest.mark.parametrize("rule", RULES)
@given(layered_scores(), st.integers(0, 4))
def test_a_completion_has_the_same_neurons_alone_and_in_a_batch(
    rule: Rule, scores: Tensor, split: int
) -> None:
    num_tokens = scores.shape[1]
    first = min(split, num_tokens - 1)
    parts = [part for part in (scores[:, :first], scores[:, first:]) if part.numel()]
    together = activated(scores, rule, 4, 3, *(part.shape[1] for part in parts))
    for found, part in zip(together, parts, strict=True):
        (alone,) = activated(part, rule, 4, 3)
        assert same(found, alone)


# --- per-token, whose lists are kept as integers ---


@st.composite
def tied_scores(draw: st.DrawFn) -> Tensor:
    """Draw ``(L, T, F)`` of few different scores, both zeros and tiny ones among."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 6)))
    values = np.array([-2.5, -1e-45, -0.0, 0.0, 1e-45, 1.0, 3e38], dtype=np.float32)
    seed = draw(st.integers(0, 9999))
    return torch.from_numpy(np.random.default_rng(seed).choice(values, shape))


@given(tied_scores(), st.integers(1, 12))
def test_of_equal_scores_of_a_token_the_smaller_ids_are_kept(
    scores: Tensor, keep: int
) -> None:
    (found,) = activated(scores, "per-token", 1, keep)
    neuron_count, strongest = slow_sets(slow_per_token(scores, 1, keep), keep)
    assert found.neuron_count == neuron_count
    assert dict(zip(found.neuron_ids.tolist(), found.scores.tolist(), strict=True)) == (
        strongest
    )


def test_long_completions_are_brought_up_to_date_in_blocks() -> None:
    lengths = (3, 2 * TOKENS_AT_ONCE, TOKENS_AT_ONCE - 1)
    shape = (3, sum(lengths), 7)
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(0)).round()
    together = activated(scores, "per-token", 1, 4, *lengths)
    for found, part in zip(together, scores.split(lengths, dim=1), strict=True):
        neuron_count, strongest = slow_sets(slow_per_token(part, 1, 4), 4)
        assert found.neuron_count == neuron_count
        assert found.neuron_ids.tolist() == list(strongest)


def test_scores_become_integers_that_sort_alike_and_come_back() -> None:
    scores = torch.tensor([[-3e38, -1.0, -1e-45, 0.0, 1e-45, 1.0, 3e38]])
    keys = packed(scores, 2**32 - 7)
    assert torch.equal(keys.sort().values, keys)
    ids, values = unpacked(keys)
    assert ids.tolist() == [list(range(2**32 - 7, 2**32))]
    assert torch.equal(values, scores)


def test_the_largest_are_the_same_by_either_way() -> None:
    keys = torch.randint(-(2**62), 2**62, (5, 40))
    found = largest(keys, 7).sort(dim=1, descending=True).values
    assert torch.equal(found, keys.topk(7, dim=1).values)
    assert torch.equal(largest(keys, 40), keys)


# --- chunks ---


def slow_chunked(scores: Tensor, sizes: Sizes) -> list[Entry]:
    """Take the layers' lists of every run of tokens apart."""
    entries: list[Entry] = []
    for start in range(0, scores.shape[1], sizes.chunk_tokens):
        part = scores[:, start : start + sizes.chunk_tokens]
        entries += layer_lists(part, sizes.per_layer)
    return entries


@given(layered_scores(), st.builds(Sizes, *[st.integers(1, 6)] * 3))
def test_chunks_agree_with_their_loops(scores: Tensor, sizes: Sizes) -> None:
    (found,) = counted(scores, "flat", sizes)
    neuron_count, strongest = slow_sets(slow_chunked(scores, sizes), sizes.keep)
    assert found.neuron_count == neuron_count
    assert dict(zip(found.neuron_ids.tolist(), found.scores.tolist(), strict=True)) == (
        strongest
    )


@given(tied_scores(), st.integers(0, 3))
def test_a_chunk_that_holds_all_is_no_chunk(scores: Tensor, more: int) -> None:
    (whole,) = counted(scores, "flat", Sizes(3, 4))
    (one,) = counted(scores, "flat", Sizes(3, 4, scores.shape[1] + more))
    assert same(whole, one)


def test_chunks_of_many_completions_do_not_mix() -> None:
    lengths = (1, 5, 8, 3)
    shape = (2, sum(lengths), 6)
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    sizes = Sizes(3, 9, 4)
    together = counted(scores, "flat", sizes, *lengths)
    for found, part in zip(together, scores.split(lengths, dim=1), strict=True):
        (alone,) = counted(part, "flat", sizes)
        assert same(found, alone)


def test_one_list_counts_fewer_neurons_of_a_loop_and_chunks_do_not() -> None:
    random = torch.Generator().manual_seed(0)
    loop = torch.randn((1, 4, 50), generator=random).repeat(1, 25, 1)
    varied = torch.randn((1, 100, 50), generator=random)
    short = varied[:, :4]

    def count(scores: Tensor, chunk_tokens: int) -> int:
        (found,) = counted(scores, "flat", Sizes(20, 50, chunk_tokens))
        return found.neuron_count

    assert count(loop, 0) < count(short, 0)
    # Every chunk of the loop keeps the same neurons as its first.
    assert count(loop, 4) == count(loop[:, :4], 0)
    assert count(varied, 4) > count(loop, 4)


@pytest.mark.parametrize(
    ("num_layers", "num_neurons", "per_layer", "keep"),
    [
        pytest.param(36, 9728, 2000, 5000, id="the-papers-4b"),
        pytest.param(64, 25600, 2000, 5000, id="larger-keeps-the-papers-numbers"),
        # 2000 * 1536 / 9728 = 315.8; 5000 * 46,080 / 350,208 = 657.9
        pytest.param(30, 1536, 316, 658, id="smollm2-135m"),
        # Fewer layers of the same width: only the second number shrinks.
        pytest.param(18, 9728, 2000, 2500, id="half-as-deep"),
        pytest.param(1, 1, 1, 1, id="never-none"),
    ],
)
def test_sizes_scale_with_the_model(
    num_layers: int, num_neurons: int, per_layer: int, keep: int
) -> None:
    assert scaled_sizes(num_layers, num_neurons) == Sizes(per_layer, keep)


def test_sizes_that_are_asked_for_are_not_scaled() -> None:
    assert scaled_sizes(30, 1536, per_layer=7) == Sizes(7, 658)
    assert scaled_sizes(30, 1536, per_layer=7, keep=9) == Sizes(7, 9)
    assert scaled_sizes(30, 1536, chunk_tokens=32) == Sizes(316, 658, 32)
