"""Label-free signs, read from the metrics of the steps, that a student collapses."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import fmean

from neuron_opsd.records import Collapse, StepMetrics

WINDOW = 10
"""Steps whose mean is compared with that of the first ones."""
LENGTH_FACTOR = 3.0
MAX_TRUNCATED_GAIN = 0.5
MAX_TOP_SHARE_GAIN = 0.5
DIVERGENCE_FACTOR = 3.0


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
        """Name what has gone wrong.

        Returns:
            One entry for each sign that the last `WINDOW` steps show; none while there
            are fewer than two windows.
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
