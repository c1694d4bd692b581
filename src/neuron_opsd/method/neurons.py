"""Which feed-forward neurons a completion used.

Scores arrive one layer at a time and are cut at once, so ``(T, L, F)`` is never in
memory.

Axes: T tokens of a completion or chunk, N tokens of a batch, B completions, C chunks, K
entries kept, L layers, F neurons of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuron_opsd.errors import NotFiniteError
from neuron_opsd.records import NeuronIds

Found: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Counted neurons of one completion, sorted, unique, with their best scores."""

Rule: TypeAlias = Literal["flat", "per-token", "neufs"]

PAPER_PER_LAYER = 2000
PAPER_KEEP = 5000
PAPER_NUM_LAYERS = 36
PAPER_NUM_NEURONS = 9728

TOKENS_AT_ONCE: Final = 64
"""Tokens updated together under `per-token` on a CPU, to stay in its caches."""
LOW_BITS: Final = 0xFFFFFFFF
SIGN_FREE: Final = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many entries the rules keep."""

    per_layer: int
    """Entries of each layer's list."""
    keep: int
    """Size of the overlap set; of each token's list under `per-token`."""
    chunk_tokens: int = 0
    """Tokens per list of a layer under `flat`; 0 for all."""


@dataclass(frozen=True, slots=True, eq=False)
class Activated:
    """The two sets of one completion."""

    neuron_count: int
    """s(x): size of the counted set, before the cut to the strongest."""
    neuron_ids: NeuronIds
    """N(x): the strongest of the counted set with a positive score, sorted."""
    scores: NDArray[np.float32]


def scaled_sizes(
    num_layers: int,
    num_neurons: int,
    *,
    per_layer: int = 0,
    keep: int = 0,
    chunk_tokens: int = 0,
) -> Sizes:
    """Return the sizes asked for, or the paper's scaled to the model.

    The paper keeps 2,000 of 9,728 neurons per layer and 5,000 of 36 layers' 350,208.
    """
    share = min(1.0, num_neurons / PAPER_NUM_NEURONS)
    total = num_layers * num_neurons / (PAPER_NUM_LAYERS * PAPER_NUM_NEURONS)
    return Sizes(
        per_layer or max(1, round(PAPER_PER_LAYER * share)),
        keep or max(1, round(PAPER_KEEP * min(1.0, total))),
        chunk_tokens,
    )


class NeuronCounter:
    """Collects what a rule keeps of a batch of completions, layer by layer."""

    def __init__(self, lengths: Sequence[int], rule: Rule, sizes: Sizes) -> None:
        """Begin a batch of completions of lengths T, which add up to N."""
        self.keep = sizes.keep
        self.lengths = list(lengths)
        self._lists = LISTS[rule](lengths, sizes)

    def add(self, layer: int, scores: Tensor) -> None:
        """Take one layer's contribution scores ``(N, F)``; layers come in order.

        Raises:
            NotFiniteError: If one is not finite, as NaN would rank highest and then be
                dropped. The error's places are completions'.
        """
        if not torch.stack(torch.aminmax(scores)).isfinite().all():
            wrong = [
                place
                for place, part in enumerate(scores.split(self.lengths))
                if not part.isfinite().all()
            ]
            raise NotFiniteError(
                f"contribution scores of layer {layer} are not finite", wrong
            )
        self._lists.add(layer, scores)

    def finish(self) -> list[Activated]:
        """Return each completion's sets."""
        return [cut(found, self.keep) for found in self._lists.finish()]


class FlatLists:
    """The highest entries over (position, neuron) of each layer and chunk.

    Source: appendix A of arXiv:2607.02460; with one chunk Chen et al.,
    arXiv:2607.02423, code.
    """

    def __init__(self, lengths: Sequence[int], sizes: Sizes) -> None:
        """Begin a batch of completions."""
        pieces = [chunks_of(length, sizes.chunk_tokens) for length in lengths]
        self.lengths = [length for lengths in pieces for length in lengths]
        self.owners = torch.arange(len(pieces)).repeat_interleave(
            torch.tensor([len(piece) for piece in pieces])
        )
        self.num_completions = len(pieces)
        self.count = sizes.per_layer
        self._found: list[list[Found]] = []

    def add(self, layer: int, scores: Tensor) -> None:
        """Keep each chunk's highest signed entries."""
        width = scores.shape[1]
        values, places = highest(by_length(scores, self.lengths), self.count)
        # Padding of short chunks is minus infinity and changes nothing.
        owners = self.owners.to(scores.device).unsqueeze(1)
        best = best_scores(
            owners * width + places % width, values, self.num_completions * width
        ).view(-1, width)
        self._found.append(rows_of(best, layer * width))

    def finish(self) -> list[Found]:
        """Return each completion's neurons of all layers."""
        each = (zip(*layers, strict=True) for layers in zip(*self._found, strict=True))
        return [(np.concatenate(ids), np.concatenate(best)) for ids, best in each]


class TokenLists:
    """The highest entries of each token over all layers.

    Source: section 3.3 of arXiv:2607.02460.
    """

    def __init__(self, lengths: Sequence[int], sizes: Sizes) -> None:
        """Begin a batch of completions."""
        self.lengths = list(lengths)
        self.count = sizes.keep
        self.num_neurons = 0
        self._best: list[Tensor] = []

    def add(self, layer: int, scores: Tensor) -> None:
        """Update the list of every token, some tokens at a time."""
        width = scores.shape[1]
        self.num_neurons = (layer + 1) * width
        size = TOKENS_AT_ONCE if scores.device.type == "cpu" else 16 * TOKENS_AT_ONCE
        blocks = (packed(block, layer * width) for block in scores.split(size))
        if self._best:
            pairs = zip(self._best, blocks, strict=True)
            blocks = (torch.cat(pair, dim=1) for pair in pairs)
        self._best = [largest(block, self.count) for block in blocks]

    def finish(self) -> list[Found]:
        """Return the union of each completion's lists."""
        found = []
        for keys in torch.cat(self._best).split(self.lengths):
            best = best_scores(*unpacked(keys), self.num_neurons)
            found += rows_of(best.unsqueeze(0), 0)
        return found


class NeufsLists:
    """The lists of `flat`, united as the public NeuFS code does.

    Its loop skips the last position of the answer, so a one-token answer has none.
    """

    def __init__(self, lengths: Sequence[int], sizes: Sizes) -> None:
        """Begin a batch of completions."""
        self.lengths = list(lengths)
        self.count = sizes.per_layer
        self._layers: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, layer: int, scores: Tensor) -> None:
        """Keep each completion's highest entries and their positions."""
        width = scores.shape[1]
        values, places = highest(by_length(scores, self.lengths), self.count)
        entries = (layer * width + places % width, places // width, values)
        self._layers.append(entries)

    def finish(self) -> list[Found]:
        """Return what precedes the last position in any list."""
        columns = zip(*self._layers, strict=True)
        ids, places, values = (torch.cat(parts, dim=1) for parts in columns)
        inside = values > -torch.inf
        last = torch.where(inside, places, 0).amax(dim=1, keepdim=True)
        values = torch.where(places < last, values, -torch.inf)
        size = int(ids.max()) + 1
        return [
            rows_of(best_scores(*row, size).unsqueeze(0), 0)[0]
            for row in zip(ids, values, strict=True)
        ]


Lists: TypeAlias = FlatLists | TokenLists | NeufsLists

LISTS: Final[Mapping[Rule, type[Lists]]] = {
    "flat": FlatLists,
    "per-token": TokenLists,
    "neufs": NeufsLists,
}


def chunks_of(length: int, chunk_tokens: int) -> list[int]:
    """Return the lengths of a completion's chunks, the last one shorter."""
    size = chunk_tokens or length
    return [min(size, length - start) for start in range(0, length, size)]


def by_length(scores: Tensor, lengths: Sequence[int]) -> Tensor:
    """Bring ``(N, F)`` to ``(C, T, F)``, padded with minus infinity."""
    longest = max(lengths)
    if all(length == longest for length in lengths):
        return scores.view(len(lengths), longest, -1)
    grid = scores.new_full((len(lengths), longest, scores.shape[1]), -torch.inf)
    for row, part in zip(grid, scores.split(list(lengths)), strict=True):
        row[: len(part)] = part
    return grid


def highest(grid: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return each row's highest of ``(C, T, F)``: values and places ``(C, K)``."""
    flat = grid.flatten(1)
    values, places = flat.topk(min(count, flat.shape[1]))
    return values, places


def best_scores(ids: Tensor, scores: Tensor, size: int) -> Tensor:
    """Return the highest score of each id, ``(size,)``, minus infinity for none."""
    table = scores.new_full((size,), -torch.inf)
    return table.scatter_reduce_(0, ids.flatten(), scores.flatten(), "amax")


def rows_of(best: Tensor, first_id: int) -> list[Found]:
    """Return the neurons of each row of ``(B, F)`` that have a score."""
    rows, ids = (best > -torch.inf).nonzero(as_tuple=True)
    ends = rows.bincount(minlength=len(best)).cumsum(0).tolist()[:-1]
    names = (ids + first_id).cpu().numpy()
    scores = best[rows, ids].float().cpu().numpy()
    return list(zip(np.split(names, ends), np.split(scores, ends), strict=True))


def packed(scores: Tensor, first_id: int) -> Tensor:
    """Pack scores ``(T, F)`` and ids into integers that sort like the scores.

    Of equal scores, the smaller id ranks higher. float32 bits sort as integers once
    those of negative numbers are flipped.
    """
    # Adding 0 turns -0 into 0.
    bits = (scores.float() + 0.0).view(torch.int32)
    bits ^= (bits >> 31) & SIGN_FREE
    ids = torch.arange(first_id, first_id + scores.shape[1], device=scores.device)
    keys = bits.long()
    keys <<= 32
    keys |= LOW_BITS - ids
    return keys


def unpacked(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ids and scores that `packed` packed."""
    bits = (keys >> 32).int()
    bits ^= (bits >> 31) & SIGN_FREE
    return LOW_BITS - (keys & LOW_BITS), bits.view(torch.float32)


def largest(keys: Tensor, count: int) -> Tensor:
    """Return each row's largest integers, in any order."""
    rest = keys.shape[1] - count
    if rest <= 0:
        return keys
    if keys.device.type == "cpu":
        # Several times as fast as topk; copied to free the rest.
        ordered = np.partition(keys.numpy(), rest, axis=1)
        return torch.from_numpy(ordered[:, rest:].copy())
    return keys.topk(count, dim=1, sorted=False).values


def cut(counted: Found, keep: int) -> Activated:
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
