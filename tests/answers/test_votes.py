"""Majority voting: worked cases first, then what holds for every input."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.answers.numbers import same_number
from neuron_opsd.answers.readers import READERS
from neuron_opsd.answers.votes import tally, tally_votes
from neuron_opsd.config import AnswersConfig
from neuron_opsd.records import Completion, Rollout

some_answers = st.lists(st.sampled_from(["A", "B", "C", None]), min_size=1)


def rollout(
    question_id: str, index: int, answer: str | None, temperature: float = 0.6
) -> Rollout:
    """Return a rollout of which only its place and its answer matter."""
    completion = Completion((1,), answer or "", finished=True, logprob=0.0, entropy=0.0)
    return Rollout(question_id, index, temperature, completion, answer)


@pytest.mark.parametrize(
    ("answers", "pseudo_label", "agreement"),
    [
        pytest.param(["A", "A", "B"], "A", 2 / 3, id="clear-majority"),
        pytest.param(["B", "A"], "B", 1 / 2, id="tie-goes-to-the-earliest"),
        pytest.param(["A", None, None], "A", 1 / 3, id="unread-answers-still-count"),
        pytest.param([None, None], None, 0.0, id="nothing-readable"),
    ],
)
def test_tally(
    answers: list[str | None], pseudo_label: str | None, agreement: float
) -> None:
    vote = tally("q", answers)
    assert vote.question_id == "q"
    assert vote.pseudo_label == pseudo_label
    assert vote.agreement == pytest.approx(agreement)


def test_tally_refuses_an_empty_vote() -> None:
    with pytest.raises(ValueError, match="'q' has no answers"):
        tally("q", [])


def test_equal_numbers_vote_together_under_their_earliest_spelling() -> None:
    vote = tally("q", ["3", "20%", "0.2", "0.20"], same_number)
    assert vote.pseudo_label == "20%"
    assert vote.counts == {"3": 1, "20%": 3}


def test_an_answer_joins_the_earliest_of_several_that_it_equals() -> None:
    vote = tally("q", ["20", "0.2", "20%"], same_number)
    assert vote.counts == {"20": 2, "0.2": 1}


def test_equivalence_is_asked_once_for_each_spelling() -> None:
    asked: list[tuple[str, str]] = []

    def same(one: str, other: str) -> bool:
        asked.append((one, other))
        return False

    tally("q", ["a", "b", "a", "b", "a"], same)
    assert asked == [("a", "b")]


def test_only_sampled_rollouts_vote_in_order_of_index() -> None:
    votes = tally_votes(
        [
            rollout("q", 1, "late"),
            rollout("p", 0, "x"),
            rollout("q", 0, "early"),
            rollout("q", 0, "greedy", temperature=0.0),
        ]
    )
    assert list(votes) == ["q", "p"]
    assert votes["q"].pseudo_label == "early"
    assert votes["q"].num_rollouts == 2


def test_the_reader_of_a_question_says_what_is_the_same() -> None:
    rollouts = [rollout("q", 0, "0.5"), rollout("q", 1, "50%")]
    number = READERS["number"].make(AnswersConfig())
    assert tally_votes(rollouts, {"q": number})["q"].agreement == 1.0
    assert tally_votes(rollouts)["q"].agreement == 0.5


@given(some_answers)
def test_no_answer_beats_the_pseudo_label(answers: list[str | None]) -> None:
    vote = tally("q", answers)
    if vote.pseudo_label is not None:
        assert max(vote.counts.values()) == vote.counts[vote.pseudo_label]


@given(some_answers)
def test_counts_and_unread_answers_add_up(answers: list[str | None]) -> None:
    vote = tally("q", answers)
    assert sum(vote.counts.values()) + answers.count(None) == vote.num_rollouts


@given(some_answers)
def test_repeating_every_rollout_changes_nothing(answers: list[str | None]) -> None:
    once, twice = tally("q", answers), tally("q", answers * 2)
    assert (twice.pseudo_label, twice.agreement) == (once.pseudo_label, once.agreement)


@given(some_answers, st.integers(0, 99))
def test_the_order_of_the_list_does_not_matter(
    answers: list[str | None], seed: int
) -> None:
    rollouts = [rollout("q", index, answer) for index, answer in enumerate(answers)]
    shuffled = random.Random(seed).sample(rollouts, len(rollouts))
    assert tally_votes(shuffled) == tally_votes(rollouts)


def test_a_vote_knows_every_spelling_of_its_label() -> None:
    vote = tally(
        "q", ["1/2", "0.5", "3"], lambda one, other: {one, other} == {"1/2", "0.5"}
    )
    assert vote.pseudo_label == "1/2"
    assert vote.supported_by("0.5")
    assert vote.supported_by("1/2")
    assert not vote.supported_by("3")
    assert not vote.supported_by(None)
    assert not tally("q", [None]).supported_by(None)
    assert vote.share_of("0.5") == vote.share_of("1/2") == vote.agreement == 2 / 3
    assert vote.share_of("3") == 1 / 3
    assert vote.share_of("4") == vote.share_of(None) == 0.0
