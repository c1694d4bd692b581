"""Compare two runs of one model, or a run before and after training, by neuron.

Movement through training is measured on the same answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from neuron_opsd.analysis.atlas.counting import (
    Counts,
    Shape,
    count_pool,
    group_rows,
    is_common,
    layer_rows,
)
from neuron_opsd.analysis.atlas.source import Source
from neuron_opsd.analysis.cases import Findings
from neuron_opsd.analysis.inputs import PreparedRun, same_neurons
from neuron_opsd.errors import ConfigError
from neuron_opsd.method.contexts.search import jaccard_distance
from neuron_opsd.method.enrichment import IntArray
from neuron_opsd.method.selection import kept_ids
from neuron_opsd.method.statistics import FloatArray, pearson, spearman
from neuron_opsd.records import NeuronIds, NeuronSet
from neuron_opsd.results.atlas import (
    SELECTED,
    Beside,
    Moved,
    MovedGroup,
    MovedNeuron,
    NeuronCard,
    Rates,
)
from neuron_opsd.seeds import generator

LEAST_EXPECTED: Final = 5.0
"""Minimum of selected questions expected by chance for a lift to be compared."""


def check_alike(one: PreparedRun, other: PreparedRun) -> None:
    """Refuse to compare runs whose neurons differ.

    Raises:
        ConfigError: If their models or neuron settings differ.
    """
    if not same_neurons(one, other):
        raise ConfigError(
            f"--against is run {other.name}, whose model or neuron settings differ "
            f"from those of run {one.name}, so a neuron of one is not that of the "
            "other; name a run of the same model and settings"
        )


def put_beside(
    source: Source, counts: Counts, other: Findings, cards: tuple[NeuronCard, ...]
) -> tuple[Beside, tuple[NeuronCard, ...]]:
    """Compare a run with another; return also cards with both counts."""
    theirs = count_pool(other, source.shape)
    shared = [name for name in counts.members.names if name in theirs.members.names]
    lifts, num_lifts = lift_correlation(counts, theirs)
    same_pool = source.run.pool_hash == other.run.pool_hash
    own, their = source.found.columns.selected, other.columns.selected
    beside = Beside(
        name=other.run.name,
        groups=group_rows(theirs),
        layers=layer_rows(theirs),
        same_pool=same_pool,
        both_selected=int((own & their).sum()) if same_pool else 0,
        correlations={
            name: correlation(counts.of(name), theirs.of(name)) for name in shared
        },
        common={name: common_share(counts, theirs, name) for name in shared},
        lifts=lifts,
        num_lifts=num_lifts,
    )
    return beside, tuple(with_rates(card, counts, theirs, shared) for card in cards)


def with_rates(
    card: NeuronCard, counts: Counts, theirs: Counts, shared: list[str]
) -> NeuronCard:
    """Add how many questions hold a neuron in each run."""
    place = counts.shape.id_of(card.layer, card.neuron)
    rates = {
        name: Rates(int(counts.of(name)[place]), int(theirs.of(name)[place]))
        for name in shared
    }
    return replace(card, against=rates)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Correlate two runs' counts over neurons that either holds."""
    held = (one > 0) | (other > 0)
    if held.sum() < 2:
        return float("nan")
    return pearson(one[held].astype(np.float64), other[held].astype(np.float64))


def common_share(counts: Counts, theirs: Counts, name: str) -> float:
    """Return the share of common neurons that are common in both runs."""
    one, other = is_common(counts, name), is_common(theirs, name)
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else float("nan")


def lift_correlation(counts: Counts, theirs: Counts) -> tuple[float, int]:
    """Rank-correlate two runs' lifts; return also the number of neurons."""
    found: list[FloatArray] = []
    enough = np.ones(counts.shape.size, dtype=np.bool_)
    for one in (counts, theirs):
        if SELECTED not in one.groups:
            return float("nan"), 0
        expected = one.enrichments[SELECTED].expected
        enough &= expected >= LEAST_EXPECTED
        found.append(one.groups[SELECTED] / np.maximum(expected, LEAST_EXPECTED))
    if enough.sum() < 2:
        return float("nan"), int(enough.sum())
    return spearman(found[0][enough], found[1][enough]), int(enough.sum())


REST: Final = "not selected"
NUM_NEURONS: Final = 12
"""Maximum shown as gained, and as lost."""


def drawn_ids(source: Source, count: int) -> list[str]:
    """Sample questions to read again, half of them selected, in pool order."""
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
    """How sets moved, and how many hold each neuron, ``(F,)``."""

    told: Moved
    before: IntArray
    after: IntArray


def measure_movement(
    source: Source, base: Sequence[NeuronSet], trained: Sequence[NeuronSet]
) -> Movement:
    """Measure how far each question's set moved."""
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
    """Yield the run's own set of each question with the two read again."""
    wanted = iter(zip(base, trained, strict=True))
    pair = next(wanted, None)
    for own in source.run.neurons:
        if pair is not None and own.question_id == pair[0].question_id:
            yield own, *pair
            pair = next(wanted, None)


def distances(
    shape: Shape, own: NeuronIds, one: NeuronSet, other: NeuronSet
) -> FloatArray:
    """Return two sets' distance, the control's, and the distances by layer.

    NaN for a layer that is empty in both.
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
    """Average the distances of some questions."""
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
    """Return the neurons with the largest gains."""
    order = np.lexsort((np.arange(gain.size), -gain))[:NUM_NEURONS]
    return tuple(
        MovedNeuron(*shape.place(one), Rates(int(before[one]), int(after[one])))
        for one in order.tolist()
        if gain[one] > 0
    )


def rates_of(shape: Shape, card: NeuronCard, movement: Movement) -> Rates:
    """Return how many questions hold a neuron before and after."""
    one = shape.id_of(card.layer, card.neuron)
    return Rates(int(movement.before[one]), int(movement.after[one]))
