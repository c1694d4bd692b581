"""A watch for steps whose loss, or gradient, is many times what it was."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from statistics import median
from typing import Final

from neuron_opsd.records import StepMetrics

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


class SpikeWatch:
    """Sees one step after the other; a run that resumes shows it the earlier ones.

    What is watched is compared with the median of the last steps, so that a loss may
    fall fast. Noise that was there before is allowed for. What stands out is no measure
    of what follows, unless it stays.
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
