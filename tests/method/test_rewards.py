"""Rewards and advantages: worked cases, then what holds for every group."""

from __future__ import annotations

import math
import operator
from itertools import pairwise
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.answers.numbers import same_number
from neuron_opsd.answers.votes import tally
from neuron_opsd.method.rewards import (
    UNREAD_REWARD,
    advantages,
    certainty_rewards,
    cluster_rewards,
    entropy_rewards,
    majority_rewards,
)

some_answers = st.lists(st.sampled_from(["A", "B", "C", None]), max_size=8)
some_rewards = st.lists(st.floats(-100, 100), max_size=8)
spread_rewards = st.lists(st.integers(-100, 100), min_size=2, max_size=8).filter(
    lambda rewards: len(set(rewards)) > 1
)


# --- the majority's answer ---


@pytest.mark.parametrize(
    ("label", "wanted"),
    [("A", (1, 0, 0, 1)), ("B", (0, 1, 0, 0)), ("C", (0,) * 4), (None, (0,) * 4)],
)
def test_the_label_is_rewarded_and_nothing_else(
    label: str | None, wanted: tuple[float, ...]
) -> None:
    assert majority_rewards(["A", "B", None, "A"], label, operator.eq) == wanted


def test_an_answer_equal_to_the_label_is_rewarded_however_it_is_spelt() -> None:
    answers = ["20%", "0.2", "0.3", None]
    assert majority_rewards(answers, "0.20", same_number) == (1, 1, 0, 0)


def test_the_label_comes_first_where_equality_is_asked_about() -> None:
    asked = []

    def same(label: str, answer: str) -> bool:
        asked.append((label, answer))
        return False

    majority_rewards(["A", None, "B"], "L", same)
    assert asked == [("L", "A"), ("L", "B")]


@given(some_answers)
def test_the_vote_pays_the_share_that_agrees(answers: list[str | None]) -> None:
    if not answers:
        assert majority_rewards(answers, "A", operator.eq) == ()
        return
    vote = tally("q", answers)
    rewards = majority_rewards(answers, vote.pseudo_label, operator.eq)
    assert fmean(rewards) == pytest.approx(vote.agreement)


# --- clusters ---


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        pytest.param(["A", "B", "A", "A"], (3 / 4, 1 / 4, 3 / 4, 3 / 4), id="shares"),
        pytest.param(["A", "A", None], (2 / 3, 2 / 3, 0), id="unread-has-no-reward"),
        pytest.param(["A", "A"], (1, 1), id="all-agree"),
        pytest.param(["A", "B", "C"], (0, 0, 0), id="entropy-reaches-log-3"),
        pytest.param(["A", None, None], (0, 0, 0), id="unread-agree-with-nothing"),
        pytest.param([None, None], (0, 0), id="nothing-readable"),
        pytest.param(["A"], (0,), id="one-alone"),
        pytest.param([], (), id="none"),
    ],
)
def test_cluster_rewards(answers: list[str | None], wanted: tuple[float, ...]) -> None:
    assert cluster_rewards(answers, operator.eq) == wanted


def test_equal_numbers_are_one_cluster() -> None:
    answers = ["0.2", "3", "20%", "20%", None]
    assert cluster_rewards(answers, same_number) == (3 / 5, 1 / 5, 3 / 5, 3 / 5, 0)


def test_an_answer_is_in_the_cluster_that_it_votes_for() -> None:
    # 20% is both 20 and 0.2, which are not each other; the earliest of them has it.
    answers = ["20", "0.2", "20%"]
    assert cluster_rewards(answers, same_number) == (2 / 3, 1 / 3, 2 / 3)


@given(some_answers)
def test_clusters_are_rewarded_by_their_entropy(answers: list[str | None]) -> None:
    # As EMPO's code does it: shares, unless their entropy reaches log G.
    named = [f"unread {n}" if a is None else a for n, a in enumerate(answers)]
    shares = {a: named.count(a) / len(named) for a in named}
    entropy = -sum(p * math.log(p) for p in shares.values())
    pays = bool(answers) and entropy < math.log(len(answers)) - 1e-9
    wanted = [0.0 if a is None or not pays else shares[a] for a in answers]
    assert list(cluster_rewards(answers, operator.eq)) == pytest.approx(wanted)


# --- entropy ---


def test_entropy_is_a_cost_and_an_unread_answer_a_larger_one() -> None:
    assert entropy_rewards([0.5, 0.25, 0.0], ["A", None, "A"]) == (-0.5, -7.0, 0.0)
    assert UNREAD_REWARD == -7.0


def test_an_unread_answer_is_as_uncertain_as_the_least_certain() -> None:
    sure = [2.0, 9.0, 1.5, 3.0]
    assert certainty_rewards(sure, ["A", None, "B", "A"]) == (2.0, 1.5, 1.5, 3.0)
    assert advantages(certainty_rewards([7.0, 8.0], [None, None])) == (0.0, 0.0)


def test_every_answer_has_an_entropy() -> None:
    with pytest.raises(ValueError, match="zip"):
        entropy_rewards([0.5], ["A", "B"])


# --- advantages ---


def test_advantages_by_hand() -> None:
    # mean 1/4, deviation sqrt((3 * 1/16 + 9/16) / 3) = 1/2
    found = advantages([1.0, 0.0, 0.0, 0.0])
    assert found == pytest.approx((1.5, -0.5, -0.5, -0.5), rel=1e-5)
    assert found[0] == 0.75 / (0.5 + 1e-6)
    assert advantages([1.0, 0.0, 0.0, 0.0], scale=False) == (0.75, *[-0.25] * 3)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("rewards", [[], [0.7], [0.1] * 3, [-7.0] * 8])
def test_rewards_that_are_alike_teach_nothing(
    rewards: list[float], scale: bool
) -> None:
    # The mean of three times 0.1 is not 0.1, so this does not go without saying.
    assert advantages(rewards, scale=scale) == (0.0,) * len(rewards)


@pytest.mark.parametrize("rewards", [[math.nan], [1.0, math.nan], [math.nan, 1.0]])
def test_a_reward_that_is_no_number_is_not_hidden(rewards: list[float]) -> None:
    for scale in (True, False):
        assert all(math.isnan(a) for a in advantages(rewards, scale=scale))


def test_rewards_that_differ_by_rounding_are_not_blown_up() -> None:
    assert max(map(abs, advantages([0.1 + 0.2, 0.3]))) < 1e-9


@given(some_rewards)
def test_advantages_cancel_and_keep_the_order(rewards: list[float]) -> None:
    for scale in (True, False):
        found = advantages(rewards, scale=scale)
        assert sum(found) == pytest.approx(0.0, abs=1e-6)
        pairs = sorted(zip(rewards, found, strict=True))
        assert all(a[1] <= b[1] for a, b in pairwise(pairs))


@given(spread_rewards)
def test_advantages_are_the_formula(rewards: list[int]) -> None:
    mean, deviation = fmean(rewards), stdev(rewards)
    wanted = [(r - mean) / (deviation + 1e-6) for r in rewards]
    assert list(advantages(rewards)) == pytest.approx(wanted)


@given(rewards=spread_rewards, factor=st.floats(0.5, 50), shift=st.floats(-50, 50))
def test_advantages_ignore_scale_and_origin_of_rewards(
    rewards: list[int], factor: float, shift: float
) -> None:
    wanted = advantages(rewards)
    found = advantages([factor * reward + shift for reward in rewards])
    # The smallest deviation here is about 0.1, of which 1e-6 is one part in 1e5.
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-6)


@given(rewards=spread_rewards, data=st.data())
def test_advantages_follow_their_rewards_in_any_order(
    rewards: list[int], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(rewards))))
    found = advantages([rewards[i] for i in order])
    wanted = advantages(rewards)
    assert found == pytest.approx([wanted[i] for i in order])
