"""Steps that stand out are told at once, and ordinary noise is not."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from neuron_opsd.method.spikes import LONGEST, SPIKE_FACTOR, USUAL, SpikeWatch
from neuron_opsd.records import StepMetrics
from neuron_opsd.runs.watching import spike_text

STEPS = 150
USUAL_NOISE = 0.25
"""Deviation of the logarithm of a step's loss; about that of the demonstration."""

DEMO_LOSSES = (
    *(4.822, 3.383, 3.084, 2.102, 1.778, 1.036, 1.011, 0.493, 0.453, 0.553),
    *(0.437, 0.329, 0.302, 0.448, 0.326, 0.395, 0.261, 0.258, 0.249, 0.238),
    *(0.286, 0.279, 0.180, 0.216, 0.183, 0.241, 0.188, 0.252, 0.168, 0.138),
)
"""Of the 30 steps of `make demo`, distilled."""

REWARDED_NORMS = (
    *(2.413, 0.864, 0.697, 0.0003, 0.0001, 0.667, 0.0, 0.243, 0.0, 0.0, 0.0, 0.0),
    *(0.272, 0.0, 0.0001, 0.343, 0.327, 0.387, 0.0, 0.440, 0.478, 0.961, 0.514, 1.531),
    *(2.522, 3.637, 2.686, 0.002, 1.438, 0.598, 1.062, 0.576, 0.747, 0.0002),
)
"""Norms of a tiny model rewarded for its certainty; where all rollouts of a step
are alike next to nothing is learnt."""


def step(value: float, *, rewarded: bool = False) -> StepMetrics:
    """Return a step of that loss, or that gradient norm where rollouts have rewards."""
    loss, norm = (0.0, value) if rewarded else (value, 1.0)
    entry = StepMetrics(0, loss, norm, 1e-4, 10, 5.0, 0.0, 1.0, 0.1)
    return replace(entry, reward=0.5) if rewarded else entry


def clean(shape: str, seed: int, noise: float = USUAL_NOISE) -> list[float]:
    """Return a made-up series without a fault in it."""
    rng = random.Random(seed)
    courses: dict[str, Callable[[int], float]] = {
        "level": lambda _: 1.0,
        "falling fast": lambda t: 0.2 + 5.0 * math.exp(-t / 6),
        "rising from nothing": lambda t: 0.5 * (1.0 - math.exp(-t / 30)),
        "next to nothing": lambda t: 1e-5 * t,
        "in two parts": lambda t: 0.5 if t < STEPS / 2 else 1.0,
    }
    course = courses[shape]
    return [course(t) * math.exp(rng.gauss(0.0, noise)) for t in range(STEPS)]


SHAPES = (
    "level",
    "falling fast",
    "rising from nothing",
    "next to nothing",
    "in two parts",
)


def told(values: list[float], *, rewarded: bool = False) -> list[int]:
    """Return which steps of a series stand out."""
    watch = SpikeWatch()
    return [t for t, v in enumerate(values) if watch.see(step(v, rewarded=rewarded))]


@pytest.mark.parametrize("shape", SHAPES)
def test_no_clean_run_of_fifty_is_told(shape: str) -> None:
    for seed in range(50):
        assert told(clean(shape, seed)) == [], seed


def test_noise_that_is_usual_is_allowed_for() -> None:
    noisy = [bool(told(clean("level", seed, 0.45))) for seed in range(100)]
    assert sum(noisy) <= 5


@pytest.mark.parametrize("rewarded", [False, True])
def test_what_was_really_run_is_not_told(rewarded: bool) -> None:
    assert (
        told(list(REWARDED_NORMS if rewarded else DEMO_LOSSES), rewarded=rewarded) == []
    )


@pytest.mark.parametrize("length", [1, 3, 10])
@pytest.mark.parametrize("factor", [10.0, 100.0])
def test_a_spike_is_told_in_its_first_step_and_nothing_after_it(
    factor: float, length: int
) -> None:
    for start in range(12, len(DEMO_LOSSES) - length):
        spoilt = list(DEMO_LOSSES)
        for t in range(start, start + length):
            spoilt[t] *= factor
        found = told(spoilt)
        assert found[:1] == [start], (start, found)
        assert set(found) <= set(range(start, start + length)), (start, found)


@pytest.mark.parametrize("length", [1, 3, 10])
@pytest.mark.parametrize(("factor", "most_missed"), [(10.0, 2), (100.0, 0)])
def test_a_spike_is_told_where_rollouts_have_rewards(
    factor: float, most_missed: int, length: int
) -> None:
    missed = 0
    for seed in range(25):
        rng = random.Random(seed)
        # A third of the steps have nothing to teach, their rollouts being alike.
        norms = [
            value if rng.random() > 1 / 3 else 1e-4 * value
            for value in clean("level", seed)
        ]
        assert told(norms, rewarded=True) == []
        start = next(t for t in range(40, STEPS) if norms[t] > 0.01)
        spoilt = [
            value * (factor if start <= t < start + length else 1.0)
            for t, value in enumerate(norms)
        ]
        missed += told(spoilt, rewarded=True)[:1] != [start]
    assert missed <= most_missed


@pytest.mark.parametrize("factor", [10.0, 100.0])
def test_nearly_every_spike_in_a_noisy_run_is_told_at_once(factor: float) -> None:
    missed = 0
    for seed in range(50):
        for shape in ("level", "falling fast"):
            values = clean(shape, seed)
            at = 20 + seed
            values[at] *= factor
            missed += told(values) != [at]
    assert missed <= (0 if factor == 100.0 else 5)


def test_what_stays_is_usual_after_a_while() -> None:
    found = told([1.0] * 30 + [50.0] * 40)
    assert found == list(range(30, 30 + LONGEST))


def test_nothing_is_told_of_the_first_steps_or_of_steps_that_taught_nothing() -> None:
    assert told([1.0] * (USUAL - 1) + [100.0]) == []
    watch = SpikeWatch()
    for _ in range(USUAL):
        watch.see(step(1.0))
    empty = replace(step(0.0), num_tokens=0)
    assert [watch.see(empty) for _ in range(30)] == [0.0] * 30
    assert watch.see(step(SPIKE_FACTOR + 1.0)) == pytest.approx(SPIKE_FACTOR + 1.0)


def test_a_spike_is_told_with_what_it_is_of() -> None:
    loss = replace(step(7.0), step=12, spike=9.7)
    assert spike_text(loss).startswith(
        "step 12: the loss is 7, 10 times that of the steps before; "
    )
    norm = replace(step(7.0, rewarded=True), spike=9.7)
    assert "the gradient's norm is 7," in spike_text(norm)
