"""What samples tell: counts, spreads, fits and expected lengths, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.planning.trials import (
    affordable,
    end_chance,
    fit_decoding,
    mean_length,
    spread,
)
from neuron_opsd.planning.workload import Decoding
from neuron_opsd.records import Completion


def test_a_spread_takes_the_middle_of_equal_parts() -> None:
    assert spread([0, 1, 2, 3, 4, 5], 1) == [3]
    assert spread([0, 1, 2, 3, 4, 5], 3) == [1, 3, 5]
    assert spread([0, 1, 2, 3, 4, 5], 6) == [0, 1, 2, 3, 4, 5]
    assert spread([7], 3) == [7, 7, 7]


@given(st.integers(1, 60), st.integers(1, 60))
def test_a_spread_repeats_nothing_while_there_are_others(size: int, count: int) -> None:
    found = spread(range(size), count)
    assert len(found) == count
    assert found == sorted(found)
    assert len(set(found)) == min(size, count)


def test_a_sample_is_as_large_as_its_time_allows() -> None:
    assert affordable(1.0, 5.0, 8) == 5
    assert affordable(1.0, 50.0, 8) == 8
    assert affordable(100.0, 5.0, 8) == 1
    assert affordable(0.0, 5.0, 8) == 8


def test_two_samples_tell_a_steps_cost_from_a_rows() -> None:
    # 10 steps of 2 s; 10 and then 40 tokens of 1 s.
    assert fit_decoding((10, 10, 30.0), (10, 40, 60.0)) == Decoding(2.0, 1.0)


@pytest.mark.parametrize(
    "few",
    [(10, 40, 60.0), (10, 10, 90.0)],
    ids=["the same sample twice", "a smaller one that took longer"],
)
def test_where_two_samples_make_no_line_the_larger_one_counts(
    few: tuple[int, int, float],
) -> None:
    assert fit_decoding(few, (10, 40, 60.0)) == Decoding(0.0, 1.5)


def completions(*lengths: tuple[int, bool]) -> Sequence[Completion]:
    made: dict[str, Any] = {"text": "", "logprob": 0.0, "entropy": 0.0}
    return [Completion((0,) * n, finished=ended, **made) for n, ended in lengths]


def test_the_length_of_completions_is_what_a_constant_chance_to_end_gives() -> None:
    # Two ends in eight tokens: a quarter; at most 2 tokens: 1 + 3/4.
    drawn = completions((2, True), (4, False), (2, True))
    assert end_chance(drawn) == 0.25
    assert mean_length(0.25, 2) == pytest.approx(1.75)
    assert mean_length(0.25, 10_000) == pytest.approx(4)
    assert mean_length(end_chance(completions((3, False))), 50) == 50
    assert mean_length(end_chance(completions((1, True))), 50) == 1


@given(st.integers(1, 60), st.integers(1, 400))
def test_the_mean_length_lies_between_one_and_the_longest(
    ended_after: int, longest: int
) -> None:
    chance = end_chance(completions((ended_after, True)))
    assert 1 - 1e-9 <= mean_length(chance, longest) <= longest + 1e-9


@given(st.floats(0.01, 5), st.floats(0.01, 5), st.integers(1, 40), st.integers(2, 40))
def test_a_fit_finds_the_costs_that_made_the_times(
    step: float, token: float, steps: int, rows: int
) -> None:
    few = (steps, steps, steps * step + steps * token)
    many = (steps, steps * rows, steps * step + steps * rows * token)
    found = fit_decoding(few, many)
    assert found.token_seconds == pytest.approx(token, rel=1e-6)
    assert found.step_seconds == pytest.approx(step, rel=1e-6, abs=1e-6)
