"""Where the final answer stands."""

from __future__ import annotations

import pytest

from neuron_opsd.passages import answer_passage, collapse, final_part


@pytest.mark.parametrize(
    ("text", "final"),
    [
        pytest.param("Paris", "Paris", id="no-reasoning"),
        pytest.param("<think>x</think> Paris", " Paris", id="closed"),
        pytest.param("x</think>Paris", "Paris", id="opened-by-the-prompt"),
        pytest.param("<think>Paris", None, id="cut-while-reasoning"),
        pytest.param("a</think>b<think>c", None, id="opened-again"),
    ],
)
def test_reasoning_is_cut(text: str, final: str | None) -> None:
    assert final_part(text) == final


@pytest.mark.parametrize(
    ("text", "passage"),
    [
        ("The answer is 5.", "5."),
        ("**Answer:** 5\nmore", "5"),
        ("Answer: 4\nFinal answer: 5", "5"),
        ("The answer is:\n\n5", "5"),
        ("so 6 - 1\n#### 5", "5"),
        ("my answers vary", None),
        ("the answer is", None),
    ],
)
def test_the_passage_follows_the_last_announcement(
    text: str, passage: str | None
) -> None:
    assert answer_passage(text) == passage


def test_control_characters_and_lone_surrogates_become_spaces() -> None:
    assert collapse(" a\0\ud800b\n\tc ") == "a b c"
