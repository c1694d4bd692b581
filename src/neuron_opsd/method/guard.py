"""The guard: label-free signs that a student collapses, and which step was its best.

It compares readings. One stream of them are the rollouts of the steps themselves, whose
last window is held against the first; the other are looks at a few questions that stay
the same, where the student is held against the base model. Both have the same limits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final

from neuron_opsd.method.settings import SCORES, GuardConfig
from neuron_opsd.records import Collapse, Kept, Reading, StepMetrics

WINDOW: Final = 10
"""Steps whose mean is compared with that of the first ones."""
LOSS_FACTOR: Final = 3.0
"""Times the largest of the first losses above which a loss grows."""
ZERO_OF_FEW: Final = 3.0
"""Rollouts that may dissent, with 95 % confidence, where none of a few is seen to."""

ON_STEPS: Final = "in the last steps"
ON_LOOKS: Final = "on the guard's questions"


@dataclass(frozen=True, slots=True)
class Measured:
    """One measure of a model, and the limit that a healthy student keeps."""

    value: float
    limit: float
    is_least: bool = False
    """Whether it is a lower limit."""

    @property
    def is_beyond(self) -> bool:
        """Whether the limit is not kept."""
        if self.is_least:
            return self.value < self.limit
        return self.value > self.limit


Measure = Callable[[Reading, Reading, GuardConfig], Measured | None]
"""Takes what there was, what there is, and the limits."""


def length(first: Reading, now: Reading, config: GuardConfig) -> Measured:
    """Measure whether rollouts grow long."""
    return Measured(now.mean_length, config.max_length_factor * first.mean_length)


def truncation(first: Reading, now: Reading, config: GuardConfig) -> Measured:
    """Measure whether rollouts no longer end."""
    return Measured(now.truncated, first.truncated + config.max_truncated_gain)


def repetition(first: Reading, now: Reading, config: GuardConfig) -> Measured:
    """Measure whether rollouts go round in loops."""
    return Measured(now.repetition, first.repetition + config.max_repetition_gain)


def entropy(first: Reading, now: Reading, config: GuardConfig) -> Measured:
    """Measure whether nothing is left to chance."""
    least = config.min_entropy_factor * first.entropy
    return Measured(now.entropy, least, is_least=True)


def noise(first: Reading, now: Reading, config: GuardConfig) -> Measured:
    """Measure whether tokens are drawn from nearly everything."""
    return Measured(now.entropy, first.entropy + config.max_entropy_gain)


def unanimity(first: Reading, now: Reading, config: GuardConfig) -> Measured | None:
    """Measure whether all rollouts of a question say the same."""
    if first.agreement is None or now.agreement is None:
        return None
    dissent = 1.0 - now.agreement
    if now.num_rollouts:
        dissent += ZERO_OF_FEW / now.num_rollouts
    return Measured(
        dissent, config.min_dissent_factor * (1.0 - first.agreement), is_least=True
    )


def one_answer(first: Reading, now: Reading, config: GuardConfig) -> Measured | None:
    """Measure whether one answer is given to all questions."""
    if first.top_answer_share is None or now.top_answer_share is None:
        return None
    others = config.min_others_factor * (1.0 - first.top_answer_share)
    return Measured(now.top_answer_share, 1.0 - others)


def contradiction(first: Reading, now: Reading, config: GuardConfig) -> Measured | None:
    """Measure whether the student rules out what the base says.

    One that grows surer rules some of it out in good health, and says what the base
    says more often than before.
    """
    if None in (first.base_agreement, now.base_agreement) or now.surprise is None:
        return None
    if (now.base_agreement or 0.0) >= (first.base_agreement or 0.0):
        return None
    return Measured(now.surprise, config.max_surprise)


def emptiness(first: Reading, now: Reading, config: GuardConfig) -> Measured | None:
    """Measure whether answers no longer tell which question they answer."""
    if first.information is None or now.information is None:
        return None
    least = config.min_information_factor * first.information
    return Measured(now.information, least, is_least=True)


def divergence(first: Reading, now: Reading, config: GuardConfig) -> Measured | None:
    """Measure whether the student is no longer the model it was."""
    del first
    if now.divergence is None:
        return None
    return Measured(now.divergence, config.max_divergence)


SIGNS: Final[Mapping[str, Measure]] = {
    "rollouts grow long": length,
    "rollouts are cut at the longest length": truncation,
    "rollouts repeat themselves": repetition,
    "the entropy is gone": entropy,
    "the entropy explodes": noise,
    "all rollouts of a question agree": unanimity,
    "one answer is given to nearly all questions": one_answer,
    "answers hardly depend on the question": emptiness,
    "the student rules out what the base model says": contradiction,
    "the student is far from the base model": divergence,
}
"""What each measure means where it is beyond its limit."""


def signs_of(
    first: Reading, now: Reading, config: GuardConfig, where: str
) -> dict[str, Measured]:
    """Return the measures that are beyond their limits, by what that means."""
    found = {}
    for said, measure in SIGNS.items():
        one = measure(first, now, config)
        if one is not None and one.is_beyond:
            found[f"{said} {where}"] = one
    return found


class Guard:
    """Sees one step after the other; holds two windows, however many pass.

    A run that resumes shows it the earlier steps, and it comes to the same.
    """

    def __init__(self, config: GuardConfig) -> None:
        """Begin before the first step."""
        self.config = config
        self.seen: dict[str, Collapse] = {}
        """Every sign that was seen, as it first was."""
        self._first: list[StepMetrics] = []
        self._last: deque[StepMetrics] = deque(maxlen=WINDOW)
        self._num_steps = 0

    def add(self, step: StepMetrics) -> list[Collapse]:
        """Take the next step; return the signs that it is the first to show."""
        found: dict[str, Measured] = {}
        if not step.skipped:  # else it says nothing
            if len(self._first) < WINDOW:
                self._first.append(step)
            self._last.append(step)
            self._num_steps += 1
            found = self._signs_of_steps()
        if step.look is not None:
            base, student = step.look.base, step.look.student
            found |= signs_of(base, student, self.config, ON_LOOKS)
        new = [
            Collapse(step.step, sign, one.value, one.limit)
            for sign, one in found.items()
            if sign not in self.seen
        ]
        self.seen |= {sign.sign: sign for sign in new}
        return new

    def _signs_of_steps(self) -> dict[str, Measured]:
        """Compare the last window with the first, once there are two."""
        if self._num_steps < 2 * WINDOW:
            return {}
        first, now = window_of(self._first), window_of(self._last)
        found = signs_of(first, now, self.config, ON_STEPS)
        # A loss weighed by rewards is no distance.
        if all(step.reward is None for step in self._last):
            limit = LOSS_FACTOR * max(step.loss for step in self._first)
            loss = Measured(fmean(step.loss for step in self._last), limit)
            if loss.is_beyond:
                found["the loss grows"] = loss
        return found


def window_of(steps: Iterable[StepMetrics]) -> Reading:
    """Return the mean of what steps' own rollouts are like."""
    shown: Sequence[StepMetrics] = list(steps)
    agreements = [step.agreement for step in shown if step.agreement is not None]
    return Reading(
        mean_length=fmean(step.mean_length for step in shown),
        truncated=fmean(step.truncated for step in shown),
        repetition=fmean(step.repetition for step in shown),
        entropy=fmean(step.entropy for step in shown),
        agreement=fmean(agreements) if agreements else None,
    )


def collapses(steps: Iterable[StepMetrics], config: GuardConfig) -> list[Collapse]:
    """Return every sign that steps show, as it is first seen."""
    guard = Guard(config)
    return [sign for step in steps for sign in guard.add(step)]


def best_step(steps: Iterable[StepMetrics], config: GuardConfig) -> Kept | None:
    """Return the best of the steps that were looked at, the earliest of equals.

    The untrained model counts as one after 0 steps. There is none before any look.
    """
    score = SCORES[config.score].of
    best: Kept | None = None
    for step in steps:
        if step.look is None:
            continue
        best = best or Kept(0, score(step.look.base), 0.0)
        last = score(step.look.student)
        best = replace(best, last=last)
        if last > best.score:
            best = Kept(step.step + 1, last, last)
    return best
