"""Whether some questions hold a neuron more often than by chance.

Chance is a random group of as many questions per stratum. The bounds hold at any count.

Axes: Q questions, B strata, G groups of questions, F neurons of all layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from neuron_opsd.method.statistics import BoolArray, FloatArray
from neuron_opsd.records import NeuronIds

IntArray: TypeAlias = NDArray[np.int64]

FALSE_SHARE: Final = 0.05
"""Share of the neurons found that may be chance."""


@dataclass(frozen=True, slots=True, eq=False)
class Enrichment:
    """How often a group holds each neuron, against chance; arrays are ``(F,)``."""

    expected: FloatArray
    """Mean number of holders in the group by chance."""
    p: FloatArray
    """Two-sided bound on the chance of such a count; 1 if none or all hold the
    neuron."""
    q: FloatArray
    """Bound on the share of chance finds among neurons with a `p` as small."""

    @property
    def found(self) -> BoolArray:
        """Which neurons chance would hardly give."""
        return self.q <= FALSE_SHARE


def tally(sets: Sequence[NeuronIds], members: BoolArray, num_neurons: int) -> IntArray:
    """Count the sets that hold each neuron, per group, ``(G, F)``.

    `members` ``(G, Q)`` tells who is in which group.
    """
    found = np.zeros((len(members), num_neurons), dtype=np.int64)
    for row, group in zip(found, members, strict=True):
        own = [one for one, inside in zip(sets, group, strict=True) if inside]
        if own:
            row += np.bincount(np.concatenate(own), minlength=num_neurons)
    return found


def strata_of(values: Sequence[float] | FloatArray, most: int) -> IntArray:
    """Put questions into at most `most` strata of about equal size by a value.

    Equal values share a stratum. Returns ``(Q,)`` numbers from 0.
    """
    wanted = np.asarray(values, dtype=np.float64)
    cuts = np.quantile(wanted, np.arange(1, most) / most, method="inverted_cdf")
    places = np.searchsorted(np.unique(cuts), wanted, side="left")
    return np.unique(places, return_inverse=True)[1].astype(np.int64)


def draw_alike(
    group: BoolArray, strata: IntArray, rng: np.random.Generator
) -> BoolArray:
    """Sample as many questions of each stratum as a group has."""
    drawn = np.zeros_like(group)
    for stratum in range(int(strata.max()) + 1):
        places = np.flatnonzero(strata == stratum)
        count = int(group[places].sum())
        drawn[rng.choice(places, count, replace=False)] = True
    return drawn


def enrichment(
    counts: IntArray, holders: IntArray, sizes: IntArray, drawn: IntArray
) -> Enrichment:
    """Compare a group with a random one of as many questions per stratum.

    Sampled holders are hypergeometric: a sum of independent trials, whose tail beyond
    the mean is below that of a binomial with that mean.

    Args:
        counts: ``(F,)`` holders in the group.
        holders: ``(B, F)`` holders in the pool.
        sizes: ``(B,)`` questions of the pool.
        drawn: ``(B,)`` questions of the group.

    Source: Vatutin and Mikhailov 1982 (hypergeometric as a sum of trials); Hoeffding
    1956, theorem 5 (the binomial bound); Benjamini and Hochberg 1995 (q).
    """
    of, out = sizes[:, None], drawn[:, None]
    expected = (holders * (out / np.maximum(1, of))).sum(axis=0)
    sure = np.maximum(0, holders + out - of)
    trials = (np.minimum(holders, out) - sure).sum(axis=0)
    sure = sure.sum(axis=0)
    above = tail_bound(counts - sure, trials, expected - sure)
    below = tail_bound(trials + sure - counts, trials, trials + sure - expected)
    p = np.minimum(1.0, 2.0 * np.minimum(above, below))
    held = holders.sum(axis=0) > 0
    q = np.ones_like(p)
    q[held] = false_shares(p[held])
    return Enrichment(expected, p, q)


def tail_bound(counts: IntArray, trials: IntArray, mean: FloatArray) -> FloatArray:
    """Bound the chance of at least `counts` successes in independent trials.

    1 unless the count is one above the mean. A binomial tail is below its first term
    over one less the ratio of the next term to it.
    """
    k, n = (torch.from_numpy(one).double() for one in (counts, trials))
    beyond = (k >= torch.from_numpy(mean) + 1) & (n > 0)
    share = (torch.from_numpy(mean) / n.clamp(min=1)).clamp(0.0, 1.0)
    # If no trial can succeed, only rounding puts a count beyond the mean.
    share = share.clamp(min=torch.finfo(torch.float64).tiny)
    rest = torch.log1p(-share)
    first = (
        torch.lgamma(n + 1)
        - torch.lgamma(k + 1)
        - torch.lgamma((n - k).clamp(min=0) + 1)
        + k * share.log()
        + torch.where(n > k, (n - k) * rest, 0.0)
    )
    ratio = (n - k) / (k + 1) * torch.exp(share.log() - rest)
    bound = torch.exp(first) / (1.0 - ratio)
    return torch.where(beyond, bound.clamp(max=1.0), 1.0).numpy()


def false_shares(p: FloatArray) -> FloatArray:
    """Return for each p-value the smallest share of chance finds at which it counts."""
    if not p.size:
        return p
    order = np.argsort(p, kind="stable")
    scaled = p[order] * p.size / np.arange(1, p.size + 1)
    q = np.empty_like(p)
    q[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return q
