"""Label-free watches over the metrics of the steps: for collapse, and for spikes.

A student collapses where its last steps differ from its first; a step is a spike where
its loss, or gradient, is many times what it was.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable
from statistics import fmean, median
from typing import Final

from neuron_opsd.records import Collapse, StepMetrics

WINDOW = 10
"""Steps whose mean is compared with that of the first ones."""
LENGTH_FACTOR = 3.0
MAX_TRUNCATED_GAIN = 0.5
MAX_TOP_SHARE_GAIN = 0.5
DIVERGENCE_FACTOR = 3.0

USUAL: Final = 4
"""Steps whose median is what is usual; nothing is told before there are as many."""
SPIKE_FACTOR: Final = 5.0
"""Times the usual above which a step stands out."""
REMEMBERED: Final = 40
"""Steps whose noise is allowed for."""
DEVIATIONS: Final = 3.5
"""Standard deviations of the noise, of logarithms, that a step may have."""
ALLOWANCE: Final = 1.5
"""Times the largest noise, as a logarithm, that it may have."""
TO_DEVIATION: Final = 1.4826
"""Median distance from the median to standard deviation, of a normal distribution."""
LEAST_LOSS: Final = 0.05
"""Nats per token below which no loss is far from another."""
LEAST_NORM: Final = 0.01
"""Norm of a gradient below which all rewards were alike and little is learnt."""
LARGEST_FACTOR: Final = 2.0
"""Times the largest norm just before above which a step with rewards may stand out: how
far the rollouts of its few questions disagree makes norms differ much anyway."""
BEFORE: Final = 12
"""Steps that are just before."""
LONGEST: Final = 10
"""Steps that may stand out one after the other before they count as usual."""


class CollapseWatch:
    """Compares the last steps with the first; holds two windows, however many pass."""

    def __init__(self) -> None:
        """Begin before the first step."""
        self._first: list[StepMetrics] = []
        self._last: deque[StepMetrics] = deque(maxlen=WINDOW)
        self._num_steps = 0
        self._rewarded = False

    def add(self, step: StepMetrics) -> None:
        """Take the metrics of the next step; one that was skipped says nothing."""
        if step.skipped:
            return
        if len(self._first) < WINDOW:
            self._first.append(step)
        self._last.append(step)
        self._num_steps += 1
        self._rewarded = self._rewarded or step.reward is not None

    def signs(self) -> list[Collapse]:
        """Name what the last `WINDOW` steps show to have gone wrong.

        There is nothing to see while there are fewer than two windows.
        """
        if self._num_steps < 2 * WINDOW:
            return []
        first, last = self._first, self._last
        length = fmean(m.mean_length for m in last)
        long = LENGTH_FACTOR * fmean(m.mean_length for m in first)
        truncated = fmean(m.truncated for m in last)
        cut = fmean(m.truncated for m in first) + MAX_TRUNCATED_GAIN
        share = fmean(m.top_answer_share for m in last)
        alike = fmean(m.top_answer_share for m in first) + MAX_TOP_SHARE_GAIN
        # A loss weighed by rewards is no distance.
        loss = 0.0 if self._rewarded else fmean(m.loss for m in last)
        far = 0.0 if self._rewarded else DIVERGENCE_FACTOR * max(m.loss for m in first)
        signs = [
            ("rollouts grow long", length, long),
            ("rollouts are cut at the longest length", truncated, cut),
            ("one rollout takes over", share, alike),
            ("the loss grows", loss, far),
        ]
        return [
            Collapse(last[-1].step, sign, value, limit)
            for sign, value, limit in signs
            if value > limit
        ]


def collapse_signs(metrics: Iterable[StepMetrics]) -> list[Collapse]:
    """Return the signs that the last of some steps show."""
    watch = CollapseWatch()
    for step in metrics:
        watch.add(step)
    return watch.signs()


class SpikeWatch:
    """Sees one step after the other; a run that resumes shows it the earlier ones.

    What is watched is compared with the median of the last steps, so that a loss may
    fall as fast as it likes. Noise that was there before is allowed for. What stands
    out does not become the measure of what follows, unless it stays.
    """

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=USUAL)
        self._noise: deque[float] = deque(maxlen=REMEMBERED)
        self._before: deque[float] = deque(maxlen=BEFORE)
        self._outside: list[float] = []

    def see(self, entry: StepMetrics) -> float:
        """Return how many times the usual a step is, 0 where that is no spike."""
        value = watched(entry)
        if value is None:
            return 0.0
        times = value / median(self._values) if len(self._values) == USUAL else 1.0
        rewarded = entry.reward is not None
        least = LARGEST_FACTOR * max(self._before, default=0.0) if rewarded else 0.0
        if value > least and math.log(times) > allowed_for(self._noise):
            self._outside.append(value)
            if len(self._outside) == LONGEST:  # what stays outside is usual now
                self._values.extend(self._outside)
                self._outside.clear()
            return times
        self._outside.clear()
        self._noise.append(math.log(times))
        self._values.append(value)
        self._before.append(value)
        return 0.0


def allowed_for(noise: Collection[float]) -> float:
    """Return how far above the usual noise may lead, all as logarithms."""
    if not noise:
        return math.log(SPIKE_FACTOR)
    middle = median(noise)
    deviation = TO_DEVIATION * median(abs(one - middle) for one in noise)
    return max(math.log(SPIKE_FACTOR), DEVIATIONS * deviation, ALLOWANCE * max(noise))


def watched(entry: StepMetrics) -> float | None:
    """Return what is watched of a step, `None` where nothing was learnt in it.

    It is the loss; where rollouts have rewards, whose loss is about zero whatever is
    learnt, the norm of the gradient.
    """
    if entry.num_tokens == 0:
        return None
    if entry.reward is None:
        return max(entry.loss, LEAST_LOSS)
    return entry.grad_norm if entry.grad_norm > LEAST_NORM else None
