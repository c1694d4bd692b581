"""What rollouts are like, against values worked out by hand."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from neuron_opsd.method.readings import REACH, Answers, meeting, reading_of, repetition


def answers(num_rollouts: int = 0, **shares: float) -> Answers:
    """Return answers of which only the shares matter."""
    return Answers(
        {label.removesuffix("_"): share for label, share in shares.items()},
        length=10.0,
        truncated=0.5,
        repetition=0.25,
        entropy=0.2,
        divergence=2.0,
        num_tokens=10,
        surprise=3.0,
        num_base_tokens=20,
        num_rollouts=num_rollouts,
    )


def test_repetition_is_the_share_of_runs_just_written() -> None:
    assert repetition([1, 2, 3]) == 0.0
    assert repetition(range(100)) == 0.0
    assert repetition([7] * 100) == pytest.approx(96 / 97)
    loop = [1, 2, 3, 4, 5] * 20
    assert repetition(loop) == pytest.approx((97 - 5) / 97)


def test_what_comes_back_much_later_is_no_loop() -> None:
    phrase = [1, 2, 3, 4]
    near = [*phrase, *range(100, 100 + REACH - 4), *phrase]
    far = [*phrase, *range(100, 100 + REACH), *phrase]
    assert repetition(near) > 0.0
    assert repetition(far) == 0.0


def test_readings_are_means_over_questions() -> None:
    found = reading_of(
        [answers(yes=0.8, no=0.2), answers(yes=0.4, no=0.6)],
        [answers(yes=0.5, no=0.5), answers(yes=1.0, no=0.0)],
    )
    assert found.agreement == pytest.approx(0.7)
    assert found.top_answer_share == pytest.approx(0.6)
    assert found.base_agreement == pytest.approx((0.5 + 0.4) / 2)
    assert found.divergence == pytest.approx(0.2)
    assert found.surprise == pytest.approx(0.15)
    within = (entropy(0.8) + entropy(0.4)) / 2
    assert found.information == pytest.approx(entropy(0.6) - within)


def entropy(share: float) -> float:
    return -share * math.log(share) - (1 - share) * math.log(1 - share)


def test_information_is_none_of_one_answer_and_none_of_chance() -> None:
    sure = [answers(yes=1.0, no=0.0), answers(yes=0.0, no=1.0)]
    assert reading_of(sure, sure).information == pytest.approx(math.log(2))
    same = [answers(yes=1.0, no=0.0)] * 2
    assert reading_of(same, same).information == pytest.approx(0.0)
    chance = [answers(yes=0.5, no=0.5)] * 2
    assert reading_of(chance, chance).information == pytest.approx(0.0)


def test_unread_rollouts_agree_with_nothing_but_are_an_answer_of_all() -> None:
    unread = replace(answers(num_rollouts=2), shares={"": 1.0})
    found = reading_of([unread, unread], [unread, unread])
    assert found.agreement == 0.0
    assert found.base_agreement == 0.0
    assert found.top_answer_share == 1.0


@pytest.mark.parametrize("count", [2, 4])
def test_few_rollouts_meet_each_other_as_often_as_another_model_s(count: int) -> None:
    """Of a model with itself a rollout is not compared with itself."""
    rng = random.Random(0)

    def drawn() -> Answers:
        given = [rng.random() < 0.7 for _ in range(count)]
        share = sum(given) / count
        return answers(num_rollouts=count, yes=share, no=1 - share)

    own, others = 0.0, 0.0
    num_draws = 4000
    for _ in range(num_draws):
        one, other = drawn(), drawn()
        own += meeting(one, one) / num_draws
        others += meeting(one, other) / num_draws
    assert own == pytest.approx(0.58, abs=0.02)
    assert others == pytest.approx(0.58, abs=0.02)
