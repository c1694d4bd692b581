"""How the sets of questions moved through training, on the same answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from neuron_opsd.analysis.atlas.counting import Shape
from neuron_opsd.analysis.atlas.source import Source
from neuron_opsd.method.contexts.search import jaccard_distance
from neuron_opsd.method.enrichment import IntArray
from neuron_opsd.method.selection import kept_ids
from neuron_opsd.method.statistics import FloatArray
from neuron_opsd.records import NeuronIds, NeuronSet
from neuron_opsd.results.atlas import (
    SELECTED,
    Moved,
    MovedGroup,
    MovedNeuron,
    NeuronCard,
    Rates,
)
from neuron_opsd.seeds import generator

REST: Final = "not selected"
NUM_NEURONS: Final = 12
"""Neurons at either end that are shown as moved."""


def drawn_ids(source: Source, count: int) -> list[str]:
    """Draw questions to read again, half of them selected ones, in the pool's order."""
    columns = source.found.columns
    rng = generator(0, "atlas", "read again", source.run.pool_hash)
    chosen: list[int] = []
    for group, most in ((columns.selected, count // 2), (~columns.selected, count)):
        places = np.flatnonzero(group)
        size = min(most - len(chosen), len(places))
        chosen += rng.choice(places, size, replace=False).tolist()
    return [columns.ids[place] for place in sorted(chosen)]


@dataclass(frozen=True, slots=True, eq=False)
class Movement:
    """How sets moved, and how many hold each neuron; arrays are ``(F,)``."""

    told: Moved
    before: IntArray
    after: IntArray


def measure_movement(
    source: Source, base: Sequence[NeuronSet], trained: Sequence[NeuronSet]
) -> Movement:
    """Measure how far sets moved, question by question."""
    kept = kept_ids(source.run.selection)
    names, rows = [], []
    before = np.zeros(source.shape.size, dtype=np.int64)
    after = before.copy()
    for own, one, other in triples(source, base, trained):
        before[one.neuron_ids] += 1
        after[other.neuron_ids] += 1
        names.append(one.question_id)
        rows.append(distances(source.shape, own.neuron_ids, one, other))
    table, selected = np.array(rows), np.array([name in kept for name in names])
    groups = [
        moved_group(name, table[inside])
        for name, inside in ((SELECTED, selected), (REST, ~selected))
        if inside.any()
    ]
    gain = after - before
    told = Moved(
        num_questions=len(names),
        groups=tuple(groups),
        gained=moved_neurons(source.shape, before, after, gain),
        lost=moved_neurons(source.shape, before, after, -gain),
    )
    return Movement(told, before, after)


def triples(
    source: Source, base: Sequence[NeuronSet], trained: Sequence[NeuronSet]
) -> Iterator[tuple[NeuronSet, NeuronSet, NeuronSet]]:
    """Yield the run's own set of each question, and those that were read again."""
    wanted = iter(zip(base, trained, strict=True))
    pair = next(wanted, None)
    for own in source.run.neurons:
        if pair is not None and own.question_id == pair[0].question_id:
            yield own, *pair
            pair = next(wanted, None)


def distances(
    shape: Shape, own: NeuronIds, one: NeuronSet, other: NeuronSet
) -> FloatArray:
    """Return the distance of two sets, the control, and the distances by layer.

    That of a layer of which neither holds anything is no number.
    """
    both = np.intersect1d(one.neuron_ids, other.neuron_ids, assume_unique=True)
    shared, size, other_size = (
        np.bincount(ids // shape.num_neurons, minlength=shape.num_layers)
        for ids in (both, one.neuron_ids, other.neuron_ids)
    )
    either = (size + other_size - shared).astype(np.float64)
    either[either == 0] = np.nan
    whole = jaccard_distance(one.neuron_ids, other.neuron_ids)
    control = jaccard_distance(own, one.neuron_ids)
    return np.array([whole, control, *(1.0 - shared / either)])


def moved_group(name: str, rows: FloatArray) -> MovedGroup:
    """Return the mean distances of some questions."""
    known = np.isfinite(rows).sum(axis=0)
    means = np.where(known > 0, np.nansum(rows, axis=0) / np.maximum(1, known), np.nan)
    return MovedGroup(
        name=name,
        num_questions=len(rows),
        distance=float(means[0]),
        control=float(means[1]),
        layers=tuple(map(float, means[2:])),
    )


def moved_neurons(
    shape: Shape, before: IntArray, after: IntArray, gain: IntArray
) -> tuple[MovedNeuron, ...]:
    """Return the neurons of the largest gains."""
    order = np.lexsort((np.arange(gain.size), -gain))[:NUM_NEURONS]
    return tuple(
        MovedNeuron(*shape.place(one), Rates(int(before[one]), int(after[one])))
        for one in order.tolist()
        if gain[one] > 0
    )


def rates_of(shape: Shape, card: NeuronCard, movement: Movement) -> Rates:
    """Return how many of the questions hold a neuron before and after."""
    one = shape.id_of(card.layer, card.neuron)
    return Rates(int(movement.before[one]), int(movement.after[one]))
