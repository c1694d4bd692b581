"""Where the final answer stands, and how texts are made comparable."""

from __future__ import annotations

import pytest

from neuron_opsd.answers.spans import (
    all_math,
    announcements,
    collapse,
    hashed,
    last_boxed,
    own_part,
    plain,
    whole_words,
)


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("The answer is 5.", ["5."]),
        ("**Answer:** 5\nmore", ["5"]),
        ("Answer: 4\nFinal answer: 5", ["5", "4"]),
        ("The answer is:\n\n5", ["5"]),
        ("## Final Answer\n\n5", ["5"]),
        ("the answer to the question is 5", ["5"]),
        ("The answer, therefore, is 5", ["5"]),
        ("If the answer is 5, then", []),
        ("The answer is clear.", []),
        ("The answer isn't 5", []),
        ("<answer>5</answer> and 6", ["5"]),
        ('{"answer": 5}', ["5}"]),
        ("\u7b54\u6848\u662f5", ["5"]),
        ("my answers vary", []),
        ("the answer is", []),
    ],
)
def test_announcements_come_last_first(text: str, spans: list[str]) -> None:
    assert [one.span for one in announcements(text)] == spans


def test_what_takes_an_announcement_back_is_kept() -> None:
    (announced,) = announcements("The answer is 5. Wait, it is 6.")
    assert announced.after == "it is 6."


def test_the_mark_of_gsm8k_is_found_at_the_start_of_a_line() -> None:
    assert hashed("so 6 - 1\n#### 5\n#### 6 \n7") == ["6", "5"]
    assert hashed("a #### 5") == []


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("#### 72\nQuestion: 5+6?\n#### 11", "#### 72\n"),
        ("72\n\nQ: 5+6?\nA: 11", "72\n\n"),
        ("The answer is 72.\nUser: more", "The answer is 72.\n"),
        ("Question: 5+6?\nAnswer: 11", "Question: 5+6?\nAnswer: 11"),
        ("First, this.\nThen\nQuestion: x\n5", "First, this.\nThen\nQuestion: x\n5"),
    ],
)
def test_a_question_that_the_model_asks_itself_ends_its_answer(
    text: str, own: str
) -> None:
    assert own_part(text, str.isdigit) == own


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{5}", "5"),
        (r"\boxed{1} or \boxed{2}", "1, 2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{\{1\}}", r"\{1\}"),
        (r"\boxed {5}", "5"),
        (r"\boxed{1} then \boxed{2", "1"),
        (r"\boxed{1} then \boxed{}", "1"),
        (r"}}\boxed{5}", "5"),
        (r"\boxed{5", None),
        ("5", None),
    ],
)
def test_the_last_box_is_found(text: str, content: str | None) -> None:
    assert last_boxed(text) == content


@pytest.mark.parametrize(
    ("text", "contents"),
    [
        ("$a$ and $b$", ["a", "b"]),
        ("$$a$$", ["a"]),
        (r"\(a\), \[ b \]", ["a", "b"]),
        (r"costs \$5, $b$", ["b"]),
        ("costs $5 and $6", []),
        ("$a$ and $b", ["a"]),
        ("$ $", []),
        ("a", []),
    ],
)
def test_math_is_found(text: str, contents: list[str]) -> None:
    assert [content for _, _, content in all_math(text)] == contents


def test_control_characters_and_lone_surrogates_become_spaces() -> None:
    assert collapse(" a\0\ud800b\n\tc ") == "a b c"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("caf\u00e9", "cafe\u0301", True),
        ("don\u2019t", "don't", True),
        ("\u201cno\u201d", '"no"', True),
        ("co\u2011op", "co-op", True),
        ("\uff30\uff41\uff52\uff49\uff53", "paris", True),
        ("\ufb01sh", "fish", True),
        ("a\u200bb", "ab", True),
        ("stra\u00dfe", "STRASSE", True),
        ("x\u00b2", "x2", False),
        ("\u00bd", "1/2", False),
        ("na\u00efve", "naive", False),
    ],
)
def test_texts_have_one_spelling(one: str, other: str, same: bool) -> None:
    assert (plain(one) == plain(other)) is same


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The answer is 12", "The answer is "),
        ("The answer is 12.", "The answer is "),
        ("The answer is yes.", "The answer is yes."),
        (r"\boxed{12}", r"\boxed{12}"),
        ("a ", "a "),
        ("", ""),
    ],
)
def test_half_a_word_is_not_read(text: str, left: str) -> None:
    assert whole_words(text) == left
