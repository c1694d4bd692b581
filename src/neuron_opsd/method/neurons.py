"""Which feed-forward neurons a completion used.

Scores arrive one layer at a time for all tokens of a batch and are cut down at once, so
memory holds one layer's scores and what the rule keeps, never ``(T, L, F)``.

Axes: T tokens of one completion, N tokens of a batch, L layers, F neurons of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuron_opsd.records import NeuronIds

Rule: TypeAlias = Literal["flat", "per-layer", "per-token", "neufs"]

PAPER_PER_LAYER = 2000
PAPER_KEEP = 5000
PAPER_NUM_LAYERS = 36
PAPER_NUM_NEURONS = 9728


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many entries the rules keep."""

    per_layer: int
    """Entries of each layer's list."""
    keep: int
    """Size of the overlap set; of each token's list under `per-token`."""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What a rule keeps of one completion: parallel arrays, one entry each."""

    ids: NDArray[np.int64]
    """``l * F + i`` for neuron i of layer l; may repeat."""
    positions: NDArray[np.int64]
    """Token of the completion, from 0."""
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Activated:
    """The two sets of one completion."""

    neuron_count: int
    """s(x): size of the counted set, before the cut to the strongest."""
    neuron_ids: NeuronIds
    """N(x): the strongest of the counted set with a positive score, sorted."""
    scores: NDArray[np.float32]


def scaled_sizes(
    num_layers: int, num_neurons: int, *, per_layer: int = 0, keep: int = 0
) -> Sizes:
    """Return the sizes asked for, or the paper's scaled to a model's size.

    The paper keeps 2,000 of 9,728 neurons a layer and 5,000 of 36 layers' 350,208.
    A model at least that large gets just these numbers; a smaller one the same share.
    """
    share = min(1.0, num_neurons / PAPER_NUM_NEURONS)
    total = num_layers * num_neurons / (PAPER_NUM_LAYERS * PAPER_NUM_NEURONS)
    return Sizes(
        per_layer or max(1, round(PAPER_PER_LAYER * share)),
        keep or max(1, round(PAPER_KEEP * min(1.0, total))),
    )


class NeuronCounter:
    """Gathers what a rule keeps of a batch of completions, layer after layer."""

    def __init__(self, lengths: Sequence[int], rule: Rule, sizes: Sizes) -> None:
        """Begin a batch.

        Args:
            lengths: T of each completion; they add up to N.
            rule: How entries are kept.
            sizes: How many.
        """
        self.lengths = list(lengths)
        self.rule = rule
        self.sizes = sizes
        self._lists: list[list[Kept]] = [[] for _ in lengths]
        self._best: list[tuple[Tensor, Tensor]] = []

    def add(self, layer: int, scores: Tensor) -> None:
        """Take one layer's contribution scores ``(N, F)``."""
        if self.rule == "per-token":
            self._best = merge_per_token(self._best, layer, scores, self.sizes.keep)
            return
        first = layer * scores.shape[1]
        grid = by_completion(scores, self.lengths)
        found = KEEPERS[self.rule](grid, self.lengths, first, self.sizes.per_layer)
        for lists, entries in zip(self._lists, found, strict=True):
            lists.append(entries)

    def finish(self) -> list[Activated]:
        """Return the sets of every completion of the batch."""
        if self.rule == "per-token":
            return [
                cut(united(kept), self.sizes.keep)
                for kept in split_per_token(self._best, self.lengths)
            ]
        joined = [concatenated(lists) for lists in self._lists]
        if self.rule == "neufs":
            joined = [without_last_position(kept) for kept in joined]
        return [cut(united(kept), self.sizes.keep) for kept in joined]


def by_completion(scores: Tensor, lengths: Sequence[int]) -> Tensor:
    """Bring ``(N, F)`` to ``(B, T, F)``, one row per completion, minus infinity beyond.

    So that one call looks at all completions of a batch, on all processors.
    """
    longest = max(lengths)
    if all(length == longest for length in lengths):
        return scores.view(len(lengths), longest, -1)
    grid = scores.new_full((len(lengths), longest, scores.shape[1]), -torch.inf)
    for row, part in zip(grid, scores.split(list(lengths)), strict=True):
        row[: len(part)] = part
    return grid


def keep_flat(
    grid: Tensor, lengths: Sequence[int], first_id: int, count: int
) -> list[Kept]:
    """Keep each completion's highest entries over (position, neuron), signs and all.

    Source: Chen et al., arXiv:2607.02423, code; appendix A of arXiv:2607.02460 with the
    whole response as one chunk.
    """
    num_neurons = grid.shape[2]
    flat = grid.flatten(1)
    values, places = flat.topk(min(count, flat.shape[1]))
    entries = kept(first_id + places % num_neurons, places // num_neurons, values)
    # Highest first, so what lies beyond a short completion stands at the end.
    return [
        first_of(entries, row, length * num_neurons)
        for row, length in enumerate(lengths)
    ]


def keep_per_layer(
    grid: Tensor, lengths: Sequence[int], first_id: int, count: int
) -> list[Kept]:
    """Keep each completion's neurons whose highest score over positions is highest."""
    best, positions = grid.max(dim=1)
    values, places = best.topk(min(count, best.shape[1]))
    entries = kept(first_id + places, positions.gather(1, places), values)
    return [first_of(entries, row, count) for row in range(len(lengths))]


def first_of(entries: Kept, row: int, count: int) -> Kept:
    """Return the first entries of one row of ``(B, k)`` arrays."""
    return Kept(
        entries.ids[row, :count],
        entries.positions[row, :count],
        entries.scores[row, :count],
    )


Keeper: TypeAlias = Callable[[Tensor, Sequence[int], int, int], list[Kept]]

KEEPERS: Final[Mapping[str, Keeper]] = {
    "flat": keep_flat,
    "neufs": keep_flat,
    "per-layer": keep_per_layer,
}


def merge_per_token(
    best: Sequence[tuple[Tensor, Tensor]], layer: int, scores: Tensor, count: int
) -> list[tuple[Tensor, Tensor]]:
    """Keep, for every token of a batch, the highest scores over the layers so far.

    Source: section 3.3 of arXiv:2607.02460.
    """
    num_neurons = scores.shape[1]
    ids = torch.arange(num_neurons, device=scores.device) + layer * num_neurons
    ids = ids.expand_as(scores)
    if best:
        scores = torch.cat([best[0][0], scores], dim=1)
        ids = torch.cat([best[0][1], ids], dim=1)
    values, places = scores.topk(min(count, scores.shape[1]), dim=1)
    return [(values, ids.gather(1, places))]


def split_per_token(
    best: Sequence[tuple[Tensor, Tensor]], lengths: Sequence[int]
) -> list[Kept]:
    """Return the entries of each completion from those of its tokens."""
    values, ids = best[0]
    result = []
    for rows, names in zip(
        values.split(list(lengths)), ids.split(list(lengths)), strict=True
    ):
        positions = torch.arange(len(rows), device=rows.device).unsqueeze(1)
        positions = positions.expand_as(rows)
        result.append(kept(names.flatten(), positions.flatten(), rows.flatten()))
    return result


def kept(ids: Tensor, positions: Tensor, scores: Tensor) -> Kept:
    """Bring entries from the model's device to arrays."""
    return Kept(
        ids.cpu().numpy().astype(np.int64),
        positions.cpu().numpy().astype(np.int64),
        scores.float().cpu().numpy(),
    )


def concatenated(lists: Sequence[Kept]) -> Kept:
    """Join the lists of all layers."""
    return Kept(
        np.concatenate([entry.ids for entry in lists]),
        np.concatenate([entry.positions for entry in lists]),
        np.concatenate([entry.scores for entry in lists]),
    )


def without_last_position(entries: Kept) -> Kept:
    """Drop the entries at the last position that occurs, as the NeuFS code does.

    Its loop runs over ``range(max_position)``, so the last position of the answer span
    is left out and a one-token answer has no neurons.
    """
    before = entries.positions < entries.positions.max(initial=0)
    return Kept(entries.ids[before], entries.positions[before], entries.scores[before])


def united(entries: Kept) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return each neuron once, sorted, with its highest score."""
    order = np.lexsort((-entries.scores, entries.ids))
    ids, first = np.unique(entries.ids[order], return_index=True)
    return ids, entries.scores[order][first]


def cut(counted: tuple[NDArray[np.int64], NDArray[np.float32]], keep: int) -> Activated:
    """Count a set and cut it to its strongest neurons with a positive score.

    Ties at the cut go to the smaller id.
    """
    ids, scores = counted
    strongest = np.argsort(-scores, kind="stable")[:keep]
    strongest = np.sort(strongest[scores[strongest] > 0])
    return Activated(
        neuron_count=len(ids),
        neuron_ids=ids[strongest].astype(np.uint32),
        scores=scores[strongest],
    )
