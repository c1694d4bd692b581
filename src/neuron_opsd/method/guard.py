"""The guard: label-free signs of collapse, and which step was best.

The same limits apply to the steps' own rollouts, last window against first, and to
student against base model on fixed questions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final

from neuron_opsd.method.settings import SCORES, GuardConfig
from neuron_opsd.records import Collapse, Kept, Reading, StepMetrics

WINDOW: Final = 10
"""Steps averaged at the start and at the end."""
LOSS_FACTOR: Final = 3.0
"""Growth over the largest of the first losses that is a sign."""
ZERO_OF_FEW: Final = 3.0
"""Rollouts that may dissent, with 95 % confidence, when none of a few does."""

ON_STEPS: Final = "in the last steps"
ON_LOOKS: Final = "on the guard's questions"


@dataclass(frozen=True, slots=True)
class Measured:
    """A measure of a model, and its limit for a healthy student."""

    value: float
    limit: float
    is_least: bool = False

    @property
    def is_beyond(self) -> bool:
        """Whether the limit is violated."""
        return self.value < self.limit if self.is_least else self.value > self.limit


Measure = Callable[[Reading, Reading, GuardConfig], Measured | None]
"""Takes the first and current readings, and the limits."""


def compared(
    of: Callable[[Reading], float | None],
    limit: Callable[[float, GuardConfig], float],
    *,
    is_least: bool = False,
) -> Measure:
    """Measure a value against a limit made from its first value, if both are known."""

    def measure(first: Reading, now: Reading, config: GuardConfig) -> Measured | None:
        was, value = of(first), of(now)
        if was is None or value is None:
            return None
        return Measured(value, limit(was, config), is_least)

    return measure


def unanimity(first: Reading, now: Reading, config: GuardConfig) -> Measured | None:
    """Measure how far a question's rollouts disagree."""
    if first.agreement is None or now.agreement is None:
        return None
    dissent = 1.0 - now.agreement
    if now.num_rollouts:
        dissent += ZERO_OF_FEW / now.num_rollouts
    return Measured(
        dissent, config.min_dissent_factor * (1.0 - first.agreement), is_least=True
    )


def contradiction(first: Reading, now: Reading, config: GuardConfig) -> Measured | None:
    """Measure whether the student rules out what the base says, and is surer of it.

    A student that agrees with the base more often than before may be healthy, and so
    may one that is no surer than the base: it has learned another form of answer.
    """
    if None in (first.base_agreement, now.base_agreement) or now.surprise is None:
        return None
    if (now.base_agreement or 0.0) >= (first.base_agreement or 0.0):
        return None
    if now.entropy >= config.surer_entropy_factor * first.entropy:
        return None
    return Measured(now.surprise, config.max_surprise)


def divergence(first: Reading, now: Reading, config: GuardConfig) -> Measured | None:
    """Measure how far the student is from the base model."""
    del first
    if now.divergence is None:
        return None
    return Measured(now.divergence, config.max_divergence)


SIGNS: Final[Mapping[str, Measure]] = {
    "rollouts grow long": compared(
        lambda reading: reading.mean_length, lambda was, c: c.max_length_factor * was
    ),
    "rollouts are cut at the longest length": compared(
        lambda reading: reading.truncated, lambda was, c: was + c.max_truncated_gain
    ),
    "rollouts repeat themselves": compared(
        lambda reading: reading.repetition, lambda was, c: was + c.max_repetition_gain
    ),
    "the entropy is gone": compared(
        lambda reading: reading.entropy,
        lambda was, c: c.min_entropy_factor * was,
        is_least=True,
    ),
    "the entropy explodes": compared(
        lambda reading: reading.entropy, lambda was, c: was + c.max_entropy_gain
    ),
    "all rollouts of a question agree": unanimity,
    "one answer is given to nearly all questions": compared(
        lambda reading: reading.top_answer_share,
        lambda was, c: 1.0 - c.min_others_factor * (1.0 - was),
    ),
    "answers hardly depend on the question": compared(
        lambda reading: reading.information,
        lambda was, c: c.min_information_factor * was,
        is_least=True,
    ),
    "the student rules out what the base model says": contradiction,
    "the student is far from the base model": divergence,
}
"""Keyed by what it means if the measure is beyond its limit."""


def signs_of(
    first: Reading, now: Reading, config: GuardConfig, where: str
) -> dict[str, Measured]:
    """Return the measures beyond their limits, by their meaning."""
    found = {}
    for said, measure in SIGNS.items():
        one = measure(first, now, config)
        if one is not None and one.is_beyond:
            found[f"{said} {where}"] = one
    return found


class Guard:
    """Watches steps in order, including earlier ones of a resumed run."""

    def __init__(self, config: GuardConfig) -> None:
        """Begin before the first step."""
        self.config = config
        self.seen: dict[str, Collapse] = {}
        """Every sign, as first seen."""
        self._first: list[StepMetrics] = []
        self._last: deque[StepMetrics] = deque(maxlen=WINDOW)
        self._num_steps = 0

    def add(self, step: StepMetrics) -> list[Collapse]:
        """Take the next step; return signs not seen before."""
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
        # A loss weighted by rewards is not a distance.
        if all(step.reward is None for step in self._last):
            limit = LOSS_FACTOR * max(step.loss for step in self._first)
            loss = Measured(fmean(step.loss for step in self._last), limit)
            if loss.is_beyond:
                found["the loss grows"] = loss
        return found


def window_of(steps: Collection[StepMetrics]) -> Reading:
    """Return the mean reading of the steps' own rollouts."""
    agreements = [step.agreement for step in steps if step.agreement is not None]
    return Reading(
        mean_length=fmean(step.mean_length for step in steps),
        truncated=fmean(step.truncated for step in steps),
        repetition=fmean(step.repetition for step in steps),
        entropy=fmean(step.entropy for step in steps),
        agreement=fmean(agreements) if agreements else None,
    )


def collapses(steps: Iterable[StepMetrics], config: GuardConfig) -> list[Collapse]:
    """Return every sign in the steps, as first seen."""
    guard = Guard(config)
    return [sign for step in steps for sign in guard.add(step)]


def best_step(steps: Iterable[StepMetrics], config: GuardConfig) -> Kept | None:
    """Return the best step with a look, the earliest of equals.

    The untrained model counts as one, after 0 steps; `None` without a look.
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
