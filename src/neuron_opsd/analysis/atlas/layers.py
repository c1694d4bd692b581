"""What each group holds of each layer, and what chance would find of it."""

from __future__ import annotations

import numpy as np

from neuron_opsd.analysis.atlas.counting import Counts
from neuron_opsd.method.enrichment import Enrichment, IntArray
from neuron_opsd.results.atlas import (
    LIFT_EDGES,
    POOL,
    SELECTED,
    Found,
    GroupRow,
    LayerRow,
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
    """Return which neurons half of a group's questions hold, or more, ``(F,)``."""
    return np.asarray(2 * counts.of(name) >= counts.size_of(name))


def lifts_by_layer(counts: Counts) -> IntArray:
    """Return how many neurons of each layer have a lift, in the bins of `LIFT_EDGES`.

    A neuron counts where chance would give one of the selected questions at least, as
    a lift of fewer says little.
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
    """Return every group with what was found of it, and what of draws like it."""
    return tuple(group_row(counts, name) for name in counts.members.names)


def group_row(counts: Counts, name: str) -> GroupRow:
    """Return one group; nothing is found of the pool, which the others are part of."""
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
