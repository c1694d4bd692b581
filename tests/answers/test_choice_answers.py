"""Choices: completions worked by hand, then what holds for every choice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.answers.choice_letters import read_choice_letter
from neuron_opsd.answers.choice_texts import read_choice_text

CITIES = ("Paris", "London", "New York", "York")


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        pytest.param("Paris", "Paris", id="the-choice-itself"),
        pytest.param(" **paris**.\n", "Paris", id="case-and-punctuation-aside"),
        pytest.param("It is Paris, yes, Paris.", "Paris", id="only-one-mentioned"),
        pytest.param("It is New York.", "New York", id="the-longest-counts"),
        pytest.param("Yorkshire", None, id="no-whole-word"),
        pytest.param("The answer is York, not Paris", "York", id="after-answer-is"),
        pytest.param(r"Paris? \boxed{London}", "London", id="boxed"),
        pytest.param(r"Answer: Paris \boxed{London}", "London", id="boxed-goes-first"),
        pytest.param("Paris is nice. But London.", "London", id="last-sentence"),
        pytest.param("Paris or London", None, id="ambiguous"),
        pytest.param("Rome", None, id="none-of-them"),
        pytest.param("", None, id="empty"),
    ],
)
def test_a_choice_is_read_from_text(text: str, choice: str | None) -> None:
    assert read_choice_text(text, CITIES).answer == choice


def test_choices_that_contain_one_another_are_told_apart() -> None:
    choices = ("C", "C++")
    assert read_choice_text("I like C++.", choices).answer == "C++"
    assert read_choice_text("I like C.", choices).answer == "C"


def test_choices_of_punctuation_are_read_when_they_stand_alone() -> None:
    assert read_choice_text(" ! ", ("?", "!")).answer == "!"


def test_choices_that_differ_in_case_alone_need_their_exact_spelling() -> None:
    choices = ("us", "US")
    assert read_choice_text("US", choices).answer == "US"
    assert read_choice_text("It is US.", choices).answer is None


def test_scripts_without_spaces_need_no_word_boundary() -> None:
    choices = ("\u5df4\u9ece", "\u4f26\u6566")
    assert read_choice_text("\u7b54\u6848\u662f\u5df4\u9ece\u3002", choices).answer == (
        "\u5df4\u9ece"
    )


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("B", "London"),
        ("b.", "London"),
        ("(B)", "London"),
        ("**B**", "London"),
        ("Answer: B", "London"),
        ("The answer is (B), not (A).", "London"),
        ("**Answer:** **C**", "New York"),
        (r"\boxed{B}", "London"),
        (r"So A is wrong: \boxed{\text{D}}", "York"),
        ("B) London", "London"),
        ("Option D", "York"),
        ("I think B is right", "London"),
        ("London", "London"),
        ("It must be London", "London"),
        ("A dog is here", None),
        ("A or B", None),
        ("E", None),
        ("The answer is E", None),
        ("", None),
    ],
)
def test_a_choice_is_read_from_its_letter(text: str, choice: str | None) -> None:
    assert read_choice_letter(text, CITIES).answer == choice


words = st.from_regex(r"[a-z]{1,8}", fullmatch=True)


@given(st.lists(words, min_size=2, max_size=6, unique=True), st.data())
def test_every_choice_is_read_from_a_sentence(
    choices: list[str], data: st.DataObject
) -> None:
    choice = data.draw(st.sampled_from(choices))
    assert read_choice_text(choice, choices).answer == choice
    assert read_choice_text(f"The answer is {choice}.", choices).answer == choice


@given(st.text(), st.lists(st.text(min_size=1), min_size=2, unique=True))
def test_what_is_read_is_a_choice_or_nothing(text: str, choices: list[str]) -> None:
    for read in (read_choice_text, read_choice_letter):
        answer = read(text, choices).answer
        assert answer is None or answer in choices
