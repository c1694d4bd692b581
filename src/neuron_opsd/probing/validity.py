"""How well the label-free score predicted the gain of training.

`benchmarks/probe_validity.py` measures it on a comparison and writes the record that
probes read. Axes: S sources, A arms, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import numpy as np
from pydantic import TypeAdapter

from neuron_opsd.documents import parse_json
from neuron_opsd.method.association import correlations
from neuron_opsd.method.statistics import (
    FloatArray,
    bootstrap_weights,
    percentile_intervals,
)
from neuron_opsd.records.scores import Interval
from neuron_opsd.results.probe import Validity
from neuron_opsd.seeds import generator

RECORD: Final = "validity.json"
NUM_RESAMPLES: Final = 10_000
FEWEST: Final = 3
"""Minimum number of arms for a correlation within a source."""


def known_validity() -> Validity:
    """Return what was measured, without a correlation if nothing was."""
    data = (files("neuron_opsd.probing") / RECORD).read_bytes()
    return TypeAdapter(Validity).validate_python(parse_json(data))


@dataclass(frozen=True, slots=True, eq=False)
class ScoredArms:
    """Scores before trainings, and what these gained."""

    scores: FloatArray
    """``(S, A)``; NaN where a source lacks the arm."""
    gains: FloatArray
    """``(S, A)`` points of in-domain accuracy."""

    def correlation(self) -> Interval:
        """Return the rank correlation of score and gain with its 95 % interval.

        Spearman's within each source, as sources differ in what can be gained, averaged
        over sources. Arms and sources are resampled; all sources share the resampled
        arms.

        Source: Owen 2007, the pigeonhole bootstrap.
        """
        num_sources, num_arms = self.scores.shape
        once = np.ones((1, num_arms)), np.ones((1, num_sources))
        rng = generator(0, "probe", "validity")
        drawn = (
            bootstrap_weights(num_arms, NUM_RESAMPLES, rng),
            bootstrap_weights(num_sources, NUM_RESAMPLES, rng),
        )
        value, draws = self.mean(*once), self.mean(*drawn)
        (found,) = percentile_intervals(value, draws[:, None])
        return found

    def mean(self, arms: FloatArray, sources: FloatArray) -> FloatArray:
        """Average over sources, ``(R,)``, by weights ``(R, A)`` and ``(R, S)``.

        Skips a source if its drawn arms are too few or equal.
        """
        found = np.stack(
            [self.within(source, arms) for source in range(len(self.gains))]
        )
        known = ~np.isnan(found)
        weights = sources.T * known
        total = weights.sum(axis=0)
        summed = (weights * np.where(known, found, 0.0)).sum(axis=0)
        mean = np.full(total.size, np.nan)
        np.divide(summed, total, out=mean, where=total > 0)
        return mean

    def within(self, source: int, arms: FloatArray) -> FloatArray:
        """Return Spearman's correlation among one source's arms, ``(R,)``."""
        known = ~np.isnan(self.scores[source]) & ~np.isnan(self.gains[source])
        if known.sum() < FEWEST:
            return np.full(len(arms), np.nan)
        score, gain = self.scores[source][known], self.gains[source][known]
        weights = arms[:, known]
        enough = (weights > 0).sum(axis=1) >= FEWEST
        safe = np.where(enough[:, None], weights, 1.0)
        found = correlations(score, gain, safe, ranked=True)
        return np.where(enough, found, np.nan)
