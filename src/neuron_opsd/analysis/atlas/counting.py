"""Count in one pass how many questions of each group hold each neuron.

Also compares each layer's share with chance. Memory holds counts, not sets: some tens
of numbers per neuron.

Axes: Q questions in pool order; B strata, R draws, F neurons of all layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from neuron_opsd.analysis.cases import Findings
from neuron_opsd.errors import DataError
from neuron_opsd.method.enrichment import (
    Enrichment,
    IntArray,
    draw_alike,
    enrichment,
    strata_of,
    tally,
)
from neuron_opsd.method.statistics import BoolArray, FloatArray
from neuron_opsd.records import NeuronSet
from neuron_opsd.results.atlas import (
    DEMONSTRATIONS,
    LIFT_EDGES,
    POOL,
    SELECTED,
    Found,
    GroupRow,
    LayerRow,
)
from neuron_opsd.seeds import generator
from neuron_opsd.storage.codecs import groups as in_groups

MOST_STRATA: Final = 10
"""Maximum number of length groups."""
NUM_DRAWS: Final = 10
"""Random draws of a group's size, to see what chance finds."""
SETS_AT_ONCE: Final = 512
"""Sets counted together; bounds memory."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's neurons and their numbering."""

    num_layers: int
    num_neurons: int
    """Per layer."""

    @property
    def size(self) -> int:
        """F: neurons of all layers."""
        return self.num_layers * self.num_neurons

    def place(self, neuron_id: int) -> tuple[int, int]:
        """Return a neuron's layer and its index there."""
        layer, neuron = divmod(int(neuron_id), self.num_neurons)
        return layer, neuron

    def id_of(self, layer: int, neuron: int) -> int:
        """Return a neuron's id."""
        return layer * self.num_neurons + neuron

    def by_layer(self, counts: IntArray | BoolArray) -> IntArray:
        """Sum ``(F,)`` numbers over each layer."""
        grid = counts.reshape(self.num_layers, self.num_neurons)
        return np.asarray(grid.sum(axis=1, dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """Group membership of the pool's questions."""

    groups: Mapping[str, BoolArray]
    """Name to ``(Q,)``; without the pool and empty groups."""
    lengths: IntArray
    """``(Q,)`` tokens whose neurons were read."""
    strata: IntArray
    """``(Q,)`` strata of similar length."""
    draws: Mapping[str, BoolArray]
    """By group, ``(R, Q)`` draws of equal size and lengths."""

    def of(self, name: str) -> BoolArray:
        """Return a group's members ``(Q,)``; also for the pool."""
        return (
            np.ones_like(self.strata, np.bool_) if name == POOL else (self.groups[name])
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The pool and the non-empty groups."""
        return POOL, *self.groups

    def by_stratum(self, group: BoolArray) -> IntArray:
        """Count a group's questions per stratum, ``(B,)``."""
        return np.bincount(self.strata[group], minlength=int(self.strata.max()) + 1)


def members_of(found: Findings) -> Members:
    """Find the selected questions and the demonstrations."""
    ids = found.columns.ids
    shown = {
        one.question_id
        for context in found.run.contexts
        for one in context.demonstrations
    }
    groups = {
        SELECTED: found.columns.selected,
        DEMONSTRATIONS: np.array([name in shown for name in ids]),
    }
    groups = {name: group for name, group in groups.items() if group.any()}
    lengths = np.array([one.num_tokens for one in found.run.neurons], dtype=np.int64)
    strata = strata_of(lengths.astype(np.float64), MOST_STRATA)
    draws = {}
    for name, group in groups.items():
        rng = generator(0, "atlas", name, found.run.pool_hash)
        drawn = [draw_alike(group, strata, rng) for _ in range(NUM_DRAWS)]
        draws[name] = np.array(drawn)
    return Members(groups, lengths, strata, draws)


@dataclass(frozen=True, eq=False)
class Counts:
    """Neuron counts of a run's pool."""

    shape: Shape
    members: Members
    holders: IntArray
    """``(B, F)`` questions of each stratum that hold a neuron."""
    groups: Mapping[str, IntArray]
    """``(F,)`` by group, without the pool."""
    draws: Mapping[str, IntArray]
    """``(R, F)`` by group."""
    scores: FloatArray
    """``(F,)`` summed scores of the questions that hold a neuron, in logits."""
    sizes: IntArray
    """``(Q,)`` neurons per question."""

    @cached_property
    def pool(self) -> IntArray:
        """``(F,)`` pool questions that hold each neuron."""
        return np.asarray(self.holders.sum(axis=0))

    def of(self, name: str) -> IntArray:
        """Return how many questions of a group hold each neuron, ``(F,)``."""
        return self.pool if name == POOL else self.groups[name]

    def size_of(self, name: str) -> int:
        """Return a group's number of questions."""
        return int(self.members.of(name).sum())

    def enriched(self, name: str, counts: IntArray | None = None) -> Enrichment:
        """Compare a group, or a draw in its place, with chance given length."""
        group = self.members.of(name)
        return enrichment(
            self.groups[name] if counts is None else counts,
            self.holders,
            self.members.by_stratum(self.members.of(POOL)),
            self.members.by_stratum(group),
        )

    @cached_property
    def enrichments(self) -> Mapping[str, Enrichment]:
        """Comparison of every group but the pool with chance."""
        return {name: self.enriched(name) for name in self.groups}


def count_pool(found: Findings, shape: Shape) -> Counts:
    """Count over a run's pool.

    Raises:
        DataError: If sets name neurons that the model does not have.
    """
    members = members_of(found)
    strata = range(int(members.strata.max()) + 1)
    names = tuple(members.groups)
    rows = [
        *(members.strata == stratum for stratum in strata),
        *(members.groups[name] for name in names),
        *(draw for name in names for draw in members.draws[name]),
    ]
    membership = np.array(rows)
    counts = np.zeros((len(rows), shape.size), dtype=np.int64)
    scores = np.zeros(shape.size)
    sizes = []
    for places, block in blocks(found.run.neurons):
        sets = [one.neuron_ids for one in block]
        check_ids(found.run.name, block, shape)
        counts += tally(sets, membership[:, places], shape.size)
        weights = np.concatenate([one.scores for one in block])
        scores += np.bincount(np.concatenate(sets), weights, minlength=shape.size)
        sizes += [len(one) for one in sets]
    first = len(strata)
    after = first + len(names)
    return Counts(
        shape=shape,
        members=members,
        holders=counts[:first],
        groups=dict(zip(names, counts[first:after], strict=True)),
        draws={
            name: counts[after + i * NUM_DRAWS : after + (i + 1) * NUM_DRAWS]
            for i, name in enumerate(names)
        },
        scores=scores,
        sizes=np.array(sizes, dtype=np.int64),
    )


def blocks(
    neurons: Iterable[NeuronSet],
) -> Iterator[tuple[slice, Sequence[NeuronSet]]]:
    """Yield blocks of sets with their places in the pool."""
    start = 0
    for block in in_groups(neurons, SETS_AT_ONCE):
        yield slice(start, start + len(block)), block
        start += len(block)


def check_ids(name: str, block: Sequence[NeuronSet], shape: Shape) -> None:
    """Refuse sets of a larger model."""
    highest = max(
        (int(one.neuron_ids[-1]) for one in block if len(one.neuron_ids)), default=0
    )
    if highest >= shape.size:
        raise DataError(
            f"run {name} holds neuron {highest:,}, but its model has "
            f"{shape.num_layers} layers of {shape.num_neurons:,} neurons; the model "
            "is not the one that the run was started with, so name that with --model"
        )


def layer_rows(counts: Counts) -> tuple[LayerRow, ...]:
    """Return what the groups hold of every layer."""
    names, shape = counts.members.names, counts.shape
    held = {name: shape.by_layer(counts.of(name)) for name in names}
    used = {name: shape.by_layer(counts.of(name) > 0) for name in names}
    common = {name: shape.by_layer(is_common(counts, name)) for name in names}
    lifts = lifts_by_layer(counts)
    return tuple(
        LayerRow(
            layer=layer,
            shares={n: float(held[n][layer] / max(1, held[n].sum())) for n in names},
            used={name: int(used[name][layer]) for name in names},
            common={name: int(common[name][layer]) for name in names},
            lifts=tuple(map(int, lifts[layer])),
        )
        for layer in range(shape.num_layers)
    )


def is_common(counts: Counts, name: str) -> np.ndarray:
    """Return which neurons at least half of a group hold, ``(F,)``."""
    return np.asarray(2 * counts.of(name) >= counts.size_of(name))


def lifts_by_layer(counts: Counts) -> IntArray:
    """Count each layer's neurons by lift, in the bins of `LIFT_EDGES`.

    Only where chance expects a selected question or more; other lifts say little.
    """
    shape, bins = counts.shape, len(LIFT_EDGES) + 1
    if SELECTED not in counts.groups:
        return np.zeros((shape.num_layers, bins), dtype=np.int64)
    expected = counts.enrichments[SELECTED].expected
    tested = np.flatnonzero(expected >= 1)
    lifts = counts.groups[SELECTED][tested] / expected[tested]
    places = tested // shape.num_neurons * bins
    places += np.searchsorted(LIFT_EDGES, lifts, side="right")
    found = np.bincount(places, minlength=shape.num_layers * bins)
    return found.reshape(shape.num_layers, bins)


def group_rows(counts: Counts) -> tuple[GroupRow, ...]:
    """Return the findings for every group and for draws like it."""
    return tuple(group_row(counts, name) for name in counts.members.names)


def group_row(counts: Counts, name: str) -> GroupRow:
    """Return one group; the pool, which contains the others, has no findings."""
    group = counts.members.of(name)
    found: Found | None = None
    by_chance: tuple[Found, ...] = ()
    if name != POOL:
        found = told(counts.groups[name], counts.enrichments[name])
        by_chance = tuple(
            told(draw, counts.enriched(name, draw)) for draw in counts.draws[name]
        )
    return GroupRow(
        name=name,
        num_questions=int(group.sum()),
        mean_size=float(counts.sizes[group].mean()),
        mean_length=float(counts.members.lengths[group].mean()),
        used=int((counts.of(name) > 0).sum()),
        found=found,
        by_chance=by_chance,
    )


def told(counts: IntArray, found: Enrichment) -> Found:
    """Count the neurons on either side of chance."""
    above = counts > found.expected
    return Found(
        more=int((found.found & above).sum()), fewer=int((found.found & ~above).sum())
    )
