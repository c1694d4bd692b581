"""A watch for steps whose loss, or gradient, is many times the usual."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from statistics import median
from typing import Final

from neuron_opsd.records import StepMetrics

USUAL: Final = 4
"""Steps whose median is the usual value; there are no spikes before."""
SPIKE_FACTOR: Final = 5.0
"""Least ratio of a spike to the usual."""
REMEMBERED: Final = 40
DEVIATIONS: Final = 3.5
"""Allowed standard deviations of log noise."""
ALLOWANCE: Final = 1.5
"""Allowed multiple of the largest log noise."""
TO_DEVIATION: Final = 1.4826
"""Standard deviation over median absolute deviation, for a normal distribution."""
LEAST_LOSS: Final = 0.05
"""Nats per token; smaller losses count as this."""
LEAST_NORM: Final = 0.01
"""Gradient norm at or below which all rewards were alike and little is learnt."""
LARGEST_FACTOR: Final = 2.0
"""Multiple of the largest of the `BEFORE` last norms that a spike with rewards exceeds:
norms vary with how far the rollouts of a step's few questions disagree."""
BEFORE: Final = 12
LONGEST: Final = 10
"""Spikes in a row that become usual."""


class SpikeWatch:
    """Watches steps in order, in a resumed run the earlier ones again.

    Values are compared with the median of the last steps, so that a loss may fall fast,
    and past noise is allowed for. Spikes do not count later unless they last.
    """

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=USUAL)
        self._noise: deque[float] = deque(maxlen=REMEMBERED)
        self._before: deque[float] = deque(maxlen=BEFORE)
        self._outside: list[float] = []

    def see(self, entry: StepMetrics) -> float:
        """Return how many times the usual a step is, 0 if it is no spike."""
        value = watched(entry)
        if value is None:
            return 0.0
        times = value / median(self._values) if len(self._values) == USUAL else 1.0
        rewarded = entry.reward is not None
        least = LARGEST_FACTOR * max(self._before, default=0.0) if rewarded else 0.0
        if value > least and math.log(times) > allowed_for(self._noise):
            self._outside.append(value)
            if len(self._outside) == LONGEST:  # a lasting level is usual
                self._values.extend(self._outside)
                self._outside.clear()
            return times
        self._outside.clear()
        self._noise.append(math.log(times))
        self._values.append(value)
        self._before.append(value)
        return 0.0


def allowed_for(noise: Collection[float]) -> float:
    """Return the log ratio to the usual that is allowed, given log noise."""
    if not noise:
        return math.log(SPIKE_FACTOR)
    middle = median(noise)
    deviation = TO_DEVIATION * median(abs(one - middle) for one in noise)
    return max(math.log(SPIKE_FACTOR), DEVIATIONS * deviation, ALLOWANCE * max(noise))


def watched(entry: StepMetrics) -> float | None:
    """Return the watched value of a step, `None` if nothing was learnt.

    The loss, or with rewards, where the loss is always about zero, the gradient norm.
    """
    if entry.num_tokens == 0:
        return None
    if entry.reward is None:
        return max(entry.loss, LEAST_LOSS)
    return entry.grad_norm if entry.grad_norm > LEAST_NORM else None
