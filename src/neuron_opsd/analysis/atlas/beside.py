"""Two runs of one model side by side, neuron by neuron."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from neuron_opsd.analysis.atlas.counting import (
    Counts,
    count_pool,
    group_rows,
    is_common,
    layer_rows,
)
from neuron_opsd.analysis.atlas.source import Source
from neuron_opsd.analysis.inputs import PreparedRun, same_neurons
from neuron_opsd.errors import ConfigError
from neuron_opsd.method.statistics import FloatArray, pearson, spearman
from neuron_opsd.results.atlas import SELECTED, Beside, NeuronCard, Rates

LEAST_EXPECTED: Final = 5.0
"""Selected questions that chance would give of a neuron, below which its lift is left
out of a comparison of lifts."""


def check_alike(one: PreparedRun, other: PreparedRun) -> None:
    """Refuse to put runs side by side whose neurons are not the same ones.

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
    source: Source, counts: Counts, other: Source, cards: tuple[NeuronCard, ...]
) -> tuple[Beside, tuple[NeuronCard, ...]]:
    """Compare a run with another; return that, and the cards with both runs' counts."""
    theirs = count_pool(other.found, source.shape)
    shared = [name for name in counts.members.names if name in theirs.members.names]
    lifts, num_lifts = lift_correlation(counts, theirs)
    same_pool = source.run.pool_hash == other.run.pool_hash
    own, their = source.found.columns.selected, other.found.columns.selected
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
    """Return a neuron with how many questions hold it in either run."""
    place = counts.shape.id_of(card.layer, card.neuron)
    rates = {
        name: Rates(int(counts.of(name)[place]), int(theirs.of(name)[place]))
        for name in shared
    }
    return replace(card, against=rates)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two runs' counts over all neurons that either holds."""
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
    """Return the rank correlation of the lifts of two runs, and of how many neurons."""
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
