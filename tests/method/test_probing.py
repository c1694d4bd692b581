"""What is measured of a teacher's answers, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neuron_opsd.method.beliefs import entropy_of
from neuron_opsd.method.probing import (
    Views,
    consensus,
    reweighted,
    stability,
)
from neuron_opsd.method.statistics import FloatArray


def of(*values: float) -> FloatArray:
    return np.array(values)


def views(student: FloatArray, teacher: FloatArray, voted: int | None = 0) -> Views:
    return Views(student, teacher, voted, 0.1)


def test_answers_move_towards_the_vote_or_away_from_it() -> None:
    better = views(of(0.6, 0.4), of(0.9, 0.1))
    assert better.towards == pytest.approx(0.3)
    assert better.away == 0.0
    worse = views(of(0.6, 0.4), of(0.5, 0.5))
    assert worse.towards == 0.0
    assert worse.away == pytest.approx(0.1)
    assert better.agreement == 0.9
    assert better.student_agreement == 0.6


def shift(student: FloatArray, teacher: FloatArray) -> float:
    return views(student, teacher).shift


def test_without_a_vote_nothing_agrees_and_nothing_moves() -> None:
    none = views(of(0.6, 0.4), of(0.9, 0.1), None)
    assert (none.agreement, none.student_agreement) == (0.0, 0.0)
    assert (none.towards, none.away) == (0.0, 0.0)


def test_entropy_and_shift_by_hand() -> None:
    assert entropy_of(of(0.5, 0.5)) == pytest.approx(math.log(2))
    assert entropy_of(of(1.0, 0.0)) == 0.0
    # The middle is (3/4, 1/4); one is certain and the other even.
    middle = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    expected = middle - 0.5 * math.log(2)
    assert shift(of(1.0, 0.0), of(0.5, 0.5)) == pytest.approx(expected)
    assert views(of(1.0, 0.0), of(0.5, 0.5)).shift == pytest.approx(expected)


def test_the_shift_is_symmetric_and_at_most_ln_2() -> None:
    one, other = of(0.7, 0.2, 0.1), of(0.1, 0.3, 0.6)
    assert shift(one, other) == pytest.approx(shift(other, one))
    assert shift(of(1.0, 0.0), of(0.0, 1.0)) == math.log(2.0)
    assert shift(one, one) == 0.0


def test_close_ratios_weigh_as_importance_sampling_does() -> None:
    # Odds of 3 to 1 among two completions, and the shares 1/4 and 3/4 of the student.
    moved = reweighted(of(0.25, 0.75), (0, 1), (math.log(3.0), 0.0))
    assert moved == pytest.approx([0.5, 0.5])


def test_ratios_of_long_completions_keep_their_order_without_taking_all() -> None:
    # Their standard deviation is 100, so weights are e and 1/e.
    moved = reweighted(of(0.5, 0.5), (0, 1), (300.0, 100.0))
    expected = math.e / (math.e + 1 / math.e)
    assert moved == pytest.approx([expected, 1 - expected])


def test_an_answer_takes_the_mean_of_its_completions() -> None:
    ratios = (math.log(3.0), 0.0, math.log(2.0))
    moved = reweighted(of(0.5, 0.5), (0, 0, 1), ratios)
    assert moved == pytest.approx([0.5, 0.5])


def test_an_answer_that_was_not_scored_moves_as_the_mean_of_all() -> None:
    moved = reweighted(of(0.4, 0.4, 0.2), (0, 1), (math.log(3.0), 0.0))
    weights = of(3.0, 1.0, 2.0) * of(0.4, 0.4, 0.2)
    assert moved == pytest.approx(weights / weights.sum())


def test_without_completions_or_with_one_answer_nothing_moves() -> None:
    assert reweighted(of(0.3, 0.7), (), ()).tolist() == [0.3, 0.7]
    assert reweighted(of(1.0), (0,), (-250.0,)).tolist() == [1.0]


def test_stability_is_the_share_of_pairs_of_draws_that_agree() -> None:
    yes, no = of(0.9, 0.1), of(0.2, 0.8)
    found = stability([[yes, yes], [yes, no], [yes, no]])
    # The second question agrees in one pair of three.
    assert found == pytest.approx([1.0, 1 / 3])


def test_a_tie_goes_to_the_earlier_answer() -> None:
    assert stability([[of(0.5, 0.5)], [of(0.6, 0.4)]]).tolist() == [1.0]


def test_the_consensus_is_the_mean() -> None:
    assert consensus([of(1.0, 0.0), of(0.5, 0.5)]).tolist() == [0.75, 0.25]
