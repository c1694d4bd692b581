"""Schedules: each epoch visits every example once; rates rise and fall as named."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.config import DistillConfig
from neuron_opsd.method.schedule import batch_at, learning_rate_at


@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 99))
def test_examples_are_visited_in_epochs(
    num_examples: int, batch_size: int, seed: int
) -> None:
    visits = [
        example
        for step in range(2 * num_examples)
        for example in batch_at(step, num_examples, batch_size, seed)
    ]
    for start in range(0, len(visits), num_examples):
        epoch = visits[start : start + num_examples]
        assert Counter(epoch) == Counter(range(num_examples))


def test_a_batch_larger_than_all_examples_meets_some_again() -> None:
    batch = batch_at(0, 3, 7, 0)
    assert sorted(Counter(batch).values()) == [2, 2, 3]


def test_a_step_alone_decides_its_batch_and_epochs_differ() -> None:
    first = [batch_at(step, 20, 20, 0) for step in range(3)]
    assert first == [batch_at(step, 20, 20, 0) for step in (0, 1, 2)]
    assert first[2] == batch_at(2, 20, 20, 0)
    assert len({tuple(batch) for batch in first}) == 3
    assert batch_at(0, 20, 20, 1) != first[0]


def test_the_size_of_batches_does_not_change_the_order_of_visits() -> None:
    one_by_one = [batch_at(step, 7, 1, 5)[0] for step in range(24)]
    by_four = [example for step in range(6) for example in batch_at(step, 7, 4, 5)]
    assert one_by_one == by_four


def test_no_examples_make_no_batch() -> None:
    with pytest.raises(ValueError, match="no examples"):
        batch_at(0, 0, 4, 0)


@pytest.mark.parametrize(
    ("schedule", "step", "share"),
    [
        pytest.param("constant", 0, 0.25, id="warm-up-begins-above-zero"),
        pytest.param("constant", 3, 1.0, id="warm-up-ends-at-the-peak"),
        pytest.param("constant", 11, 1.0, id="constant"),
        pytest.param("linear", 4, 1.0, id="linear-begins-at-the-peak"),
        pytest.param("linear", 8, 0.5, id="linear-half-way"),
        pytest.param("linear", 11, 0.125, id="linear-last-step"),
        pytest.param("cosine", 8, 0.5, id="cosine-half-way"),
        pytest.param("cosine", 6, 0.8535533905932737, id="cosine-a-quarter-of-the-way"),
        pytest.param("linear", 12, 0.0, id="linear-ends-at-zero"),
        pytest.param("cosine", 12, 0.0, id="cosine-ends-at-zero"),
        pytest.param("cosine", 99, 0.0, id="never-below-zero"),
    ],
)
def test_learning_rate_by_hand(schedule: str, step: int, share: float) -> None:
    config = DistillConfig.model_validate(
        {
            "schedule": schedule,
            "steps": 12,
            "warmup_steps": 4,
            "learning_rate": 2e-3,
        }
    )
    assert learning_rate_at(step, config) == pytest.approx(2e-3 * share, abs=1e-12)


def test_without_warm_up_the_first_step_has_the_peak_rate() -> None:
    config = DistillConfig(warmup_steps=0, learning_rate=1e-4)
    assert learning_rate_at(0, config) == 1e-4


@given(
    st.sampled_from(["constant", "linear", "cosine"]),
    st.integers(1, 30),
    st.integers(0, 40),
)
def test_the_rate_rises_falls_and_stays_within_the_peak(
    schedule: str, steps: int, warmup_steps: int
) -> None:
    config = DistillConfig.model_validate(
        {"schedule": schedule, "steps": steps, "warmup_steps": warmup_steps}
    )
    rates = [learning_rate_at(step, config) for step in range(steps)]
    rising, falling = rates[:warmup_steps], rates[warmup_steps:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert min(rates) > 0.0
    assert max(rates) <= config.learning_rate * (1 + 1e-12)
