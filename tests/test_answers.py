"""Readers: which one is meant, what each reads, and hostile texts."""

from __future__ import annotations

import time
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.answers import READERS, reader_for, readers_for
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
}


def settings(name: str) -> AnswersConfig:
    """Return settings with one reader, and a pattern in case it needs one."""
    return AnswersConfig.model_validate({"reader": name, "pattern": r"([a-z])!"})


def read(name: str, text: str) -> str | None:
    """Read a text with one reader."""
    return reader_for(CHOICE, settings(name)).read(text, CHOICE)


def test_every_reader_that_settings_name_exists() -> None:
    names = get_args(AnswersConfig.model_fields["reader"].annotation)
    assert set(names) == {"auto", *READERS}


def test_auto_reads_choices_where_there_are_any() -> None:
    auto = AnswersConfig()
    assert reader_for(CHOICE, auto).read("B", CHOICE) is None
    assert reader_for(CHOICE, auto, "texts").read("B", CHOICE) is None
    assert reader_for(CHOICE, auto, "letters").read("B", CHOICE) == "yes"
    assert reader_for(FREE, auto, "letters").read("B", FREE) == "b"


def test_every_question_has_a_reader() -> None:
    assert list(readers_for([FREE, CHOICE], AnswersConfig())) == ["free", "choice"]


def test_a_choice_reader_needs_choices() -> None:
    with pytest.raises(ConfigError, match="'free' has no choices"):
        reader_for(FREE, AnswersConfig(reader="choice-text"))


def test_the_regex_reader_needs_a_pattern() -> None:
    with pytest.raises(ConfigError, match=r"answers\.pattern is empty"):
        reader_for(FREE, AnswersConfig(reader="regex"))


def test_a_pattern_that_does_not_compile_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'\(' *.*no regular expression"):
        reader_for(FREE, AnswersConfig(reader="regex", pattern="("))


@pytest.mark.parametrize(
    ("pattern", "text", "answer"),
    [
        pytest.param(r"is (\w+)", "it is A; it is B", "B", id="last-match"),
        pytest.param(r"\d+", "1 22 x", "22", id="whole-match-without-group"),
        pytest.param(r"a(b)?", "a", None, id="group-that-took-no-part"),
        pytest.param(r"x", "y", None, id="no-match"),
        pytest.param(r"\w+", "<think>x", None, id="still-reasoning"),
    ],
)
def test_the_regex_reader(pattern: str, text: str, answer: str | None) -> None:
    reader = reader_for(FREE, AnswersConfig(reader="regex", pattern=pattern))
    assert reader.read(text, FREE) == answer


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
        ("8</think>", None),
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
        (r"\boxed{\left( 1, 2 \right)}.", "( 1, 2 )"),
        (r"thus $x = \dfrac12$.", r"x = \frac12"),
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
    answer = reader.read(text, CHOICE)
    if answer is not None:
        assert answer
        assert reader.same(answer, answer)


@given(st.text())
def test_reading_a_text_answer_again_changes_nothing(text: str) -> None:
    answer = read("text", text)
    if answer is not None and not answer.startswith(("the ", "a ", "an ")):
        assert read("text", answer) == answer or "answer" in answer
