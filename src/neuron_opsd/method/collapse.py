"""Label-free signs, read from the metrics of the steps, that a student collapses."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from neuron_opsd.records import Collapse, StepMetrics

WINDOW = 10
"""Steps whose mean is compared with that of the first ones."""
LENGTH_FACTOR = 3.0
MAX_TRUNCATED_GAIN = 0.5
MAX_TOP_SHARE_GAIN = 0.5
DIVERGENCE_FACTOR = 3.0


def collapse_signs(metrics: Sequence[StepMetrics]) -> list[Collapse]:
    """Compare the last steps with the first and name what has gone wrong.

    Returns:
        One entry for each sign that the last `WINDOW` steps show; none while there
        are fewer than two windows.
    """
    if len(metrics) < 2 * WINDOW:
        return []
    first, last = metrics[:WINDOW], metrics[-WINDOW:]
    step = last[-1].step
    length = fmean(m.mean_length for m in last)
    long = LENGTH_FACTOR * fmean(m.mean_length for m in first)
    truncated = fmean(m.truncated for m in last)
    cut = fmean(m.truncated for m in first) + MAX_TRUNCATED_GAIN
    share = fmean(m.top_answer_share for m in last)
    alike = fmean(m.top_answer_share for m in first) + MAX_TOP_SHARE_GAIN
    # A loss that is weighed by what rollouts were paid is no distance.
    paid = any(m.reward is not None for m in metrics)
    loss = 0.0 if paid else fmean(m.loss for m in last)
    far = 0.0 if paid else DIVERGENCE_FACTOR * max(m.loss for m in first)
    signs = [
        ("rollouts grow long", length, long),
        ("rollouts are cut at the longest length", truncated, cut),
        ("one rollout takes over", share, alike),
        ("the loss grows", loss, far),
    ]
    return [
        Collapse(step, sign, value, limit)
        for sign, value, limit in signs
        if value > limit
    ]
