"""Readers: which one is meant, what each reads, and hostile texts."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from neuron_opsd.answers.readers import READERS, reader_for, readers_for
from neuron_opsd.config import AnswersConfig
from neuron_opsd.errors import ConfigError
from neuron_opsd.records import Message, Question

FREE = Question("free", (Message("user", "How?"),))
CHOICE = Question("choice", (Message("user", "Which?"),), ("no", "yes"))

MANY, DEEP = 100_000, 10_000

HOSTILE = {
    "nul": "\0" * MANY,
    "spaces": " " * MANY,
    "lines": "\n" * MANY,
    "points": "." * MANY,
    "minuses": "-" * MANY,
    "backslashes": "\\" * MANY,
    "digits": "9" * MANY,
    "numbers": "1," * MANY,
    "surrogates": "\ud800" * MANY,
    "braces": "{" * DEEP + "}" * DEEP,
    "boxes": r"\boxed{" * MANY,
    "closed-boxes": r"\boxed{" * DEEP + "}" * DEEP,
    "dollars": "$" * MANY,
    "brackets": r"\)" + r"\(" * MANY,
    "fractions": r"\frac{" * MANY,
    "announcements": "answer is " * MANY,
    "letters": "B " * MANY,
    "bold-letters": "**B** " * MANY,
    "rejections": "not A, " * DEEP,
    "items": "A. oxygen: " * DEEP + "x",
    "items-in-lines": "A. oxygen is\n" * DEEP,
    "tags": "<a" * MANY,
    "italics": "*a " * MANY,
    "thousands": "1 000 " * MANY,
    "fractions-in-words": "1 1/2 " * DEEP,
    "dates": "2024-01-15 " * DEEP,
    "powers": "2^3^" * MANY,
    "questions": "Question: x\n" * DEEP,
    "hashes": "#### 1\n" * DEEP,
    "answers": "answer to " * DEEP,
    "headings": "# answer\n" * DEEP,
    "chinese": "\u9009A" * DEEP,
    "waits": "The answer is B. Wait, " * DEEP,
    "one-word": "a" * MANY,
    "yes-and-no": "yes no " * DEEP,
}


def settings(name: str) -> AnswersConfig:
    """Return settings with one reader, and a pattern in case it needs one."""
    return AnswersConfig.model_validate({"reader": name, "pattern": r"([a-z])!"})


def read(name: str, text: str) -> str | None:
    """Read a text with one reader."""
    return reader_for(CHOICE, settings(name)).read(text, CHOICE).answer


def test_settings_take_every_reader_and_say_what_it_does() -> None:
    text = AnswersConfig.model_fields["reader"].description or ""
    for name, reader in READERS.items():
        assert AnswersConfig(reader=name).reader == name
        assert f"`{name}`: {reader.help}" in text
    with pytest.raises(ValidationError, match="'auto', 'choice-text', 'choice-letter'"):
        AnswersConfig(reader="words")


def test_auto_reads_choices_where_there_are_any() -> None:
    auto = AnswersConfig()
    assert reader_for(CHOICE, auto).read("B", CHOICE).answer is None
    assert reader_for(CHOICE, auto, "texts").read("B", CHOICE).answer is None
    assert reader_for(CHOICE, auto, "letters").read("B", CHOICE).answer == "yes"
    assert reader_for(FREE, auto, "letters").read("B", FREE).answer == "b"


def test_every_question_has_a_reader() -> None:
    assert list(readers_for([FREE, CHOICE], AnswersConfig())) == ["free", "choice"]


def test_a_choice_reader_needs_choices() -> None:
    with pytest.raises(ConfigError, match="'free' has no choices"):
        reader_for(FREE, AnswersConfig(reader="choice-text"))


def test_the_regex_reader_needs_a_pattern() -> None:
    with pytest.raises(ConfigError, match=r"answers\.pattern is empty"):
        reader_for(FREE, AnswersConfig(reader="regex"))


def test_a_pattern_that_does_not_compile_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'\(' *.*not a regular expression"):
        reader_for(FREE, AnswersConfig(reader="regex", pattern="("))


@pytest.mark.parametrize(
    ("pattern", "text", "answer"),
    [
        pytest.param(r"is (\w+)", "it is A; it is B", "B", id="last-match"),
        pytest.param(r"\d+", "1 22 x", "22", id="whole-match-without-group"),
        pytest.param(r"a(b)?", "a", None, id="group-that-took-no-part"),
        pytest.param(r"x", "y", None, id="no-match"),
    ],
)
def test_the_regex_reader(pattern: str, text: str, answer: str | None) -> None:
    reader = reader_for(FREE, AnswersConfig(reader="regex", pattern=pattern))
    assert reader.read(text, FREE).answer == answer


def test_a_gold_answer_need_not_match_the_pattern() -> None:
    reader = reader_for(FREE, AnswersConfig(reader="regex", pattern=r"is (\w+)"))
    gold = reader.normalise(" Yes ", FREE)
    assert gold == "Yes"
    assert reader.same("yes", gold)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"4, so \boxed{7}. Or 9?", "7"),
        ("The answer is 5 apples out of 10.", "5"),
        ("Answer: 3 + 4 = 7", "7"),
        ("6 - 1 = 5\n#### 5", "5"),
        ("The answer is unclear, perhaps 3", "3"),
        ("none", None),
    ],
)
def test_a_number_is_read(text: str, answer: str | None) -> None:
    assert read("number", text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is the  Eiffel\tTower.", "eiffel tower"),
        ("Answer: Paris\nQuestion: next", "paris"),
        ("**An Apple!**", "apple"),
        ("'tis", "tis"),
        ("A", "a"),
        ("the answer is", None),
        ("...", None),
        ("x" * 1001, None),
        ("\0", None),
        ("", None),
    ],
)
def test_a_text_is_read(text: str, answer: str | None) -> None:
    assert read("text", text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"$x$ so \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\left( 1, 2 \right)}.", r"\left( 1, 2 \right)"),
        (r"thus $x = \dfrac12$.", r"x = \dfrac12"),
        (r"$x=1$, $x=2$ or $x=3$", "x=1, x=2, x=3"),
        (r"\boxed{1\ 000\text{ m}}", r"1000\text{ m}"),
        ("The answer is 5.", "5"),
        ("no math here", None),
        (r"\boxed{}", None),
    ],
)
def test_latex_is_read(text: str, answer: str | None) -> None:
    assert read("latex", text) == answer


def test_a_bare_gold_expression_is_read() -> None:
    reader = reader_for(FREE, AnswersConfig(reader="latex"))
    gold = reader.normalise(r"\frac{1}{2}", FREE)
    assert gold is not None
    assert reader.same("0.5", gold)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_texts_are_read_quickly(text: str) -> None:
    for name in READERS:
        start = time.process_time()
        read(name, text)
        # Well under half a second; what is quadratic takes a minute.
        assert time.process_time() - start < 3.0, name


@given(st.sampled_from(sorted(READERS)), st.text())
def test_a_normalised_answer_is_not_empty_and_is_itself(name: str, text: str) -> None:
    reader = reader_for(CHOICE, settings(name))
    answer = reader.read(text, CHOICE).answer
    if answer is not None:
        assert answer
        assert reader.same(answer, answer)


@given(st.text())
def test_a_gold_text_is_read_as_it_is_in_a_completion(text: str) -> None:
    reader = reader_for(FREE, AnswersConfig(reader="text"))
    answer = reader.read(text, FREE).answer
    if answer is not None and "\n" not in text.strip() and "answer" not in answer:
        gold = reader.normalise(text, FREE)
        assert gold is not None
        assert reader.same(answer, gold)


def test_open_reasoning_has_no_answer_and_says_so() -> None:
    for name in READERS:
        reading = reader_for(CHOICE, settings(name)).read(None, CHOICE)
        assert reading.answer is None
        assert reading.why == "reasoning is not closed"


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("number", "The answer is 12", None),
        ("number", "The answer is 12. Indeed", "12"),
        ("number", "We have 12 and 13 of", None),
        ("number", r"\boxed{12} and", "12"),
        ("choice-letter", "The answer is B. Option", "yes"),
        ("choice-letter", "I think B suits", None),
        ("choice-letter", "Option B may", None),
        ("choice-text", "Perhaps yes, but", None),
        ("text", "Paris, the capit", "paris, the capit"),
        ("text", "Paris\nis the capit", "paris"),
        ("latex", "so $x$ is", None),
    ],
)
def test_a_cut_completion_has_only_a_clear_answer(
    name: str, text: str, answer: str | None
) -> None:
    reader = reader_for(CHOICE, settings(name))
    assert reader.read(text, CHOICE, finished=False).answer == answer


BLOOD = Question("blood", (Message("user", "Which?"),), ("O", "A", "B", "AB"))


@pytest.mark.parametrize("name", ["choice-letter", "choice-text"])
@pytest.mark.parametrize("choice", BLOOD.choices)
def test_a_gold_choice_stays_what_it_is(name: str, choice: str) -> None:
    reader = reader_for(BLOOD, settings(name))
    assert reader.normalise(choice, BLOOD) == choice


def test_a_gold_letter_is_that_of_its_choice() -> None:
    reader = reader_for(BLOOD, settings("choice-letter"))
    assert reader.normalise("D", BLOOD) == "AB"
    assert reader.normalise("E", BLOOD) is None


@pytest.mark.parametrize("name", ["text", "number", "latex", "regex"])
def test_a_worked_gold_answer_counts_by_its_mark(name: str) -> None:
    reader = reader_for(FREE, settings(name))
    gold = reader.normalise("3 * 12 = <<3*12=36>>36 beads.\n#### 36", FREE)
    assert gold == "36"


def test_a_gold_text_of_several_lines_cannot_be_matched() -> None:
    reader = reader_for(FREE, AnswersConfig())
    assert reader.normalise("First add.\nThen halve: 36", FREE) is None


def test_a_reading_says_what_it_was_read_from() -> None:
    letter = reader_for(CHOICE, settings("choice-letter"))
    assert letter.read("The answer is B. A is not.", CHOICE).why == "announced"
    assert letter.read(r"\boxed{B}", CHOICE).why == "boxed"
    assert letter.read("I think B fits", CHOICE).why == "only mention"
    assert letter.read("A or B", CHOICE).why == "two choices are given"
    assert letter.read(" ", CHOICE).why == "nothing is written"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("42.0", "42", True),
        ("1,000", "1000", True),
        ("42", "43", False),
        ("42", "42%", False),
        ("paris", "rome", False),
    ],
)
def test_texts_that_are_plain_numbers_compare_as_such(
    one: str, other: str, same: bool
) -> None:
    assert reader_for(FREE, AnswersConfig()).same(one, other) is same
