"""Tests that a test question in the pool is found, and another one is not."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.data import near_texts
from neuron_opsd.data.overlap import TestTexts, check_overlap, duplicates_of, words_of
from neuron_opsd.errors import DataError
from neuron_opsd.records import Message, Question


def ask(text: str, question_id: str = "q1", choices: Sequence[str] = ()) -> Question:
    return Question(question_id, (Message("user", text),), tuple(choices))


LONG = "the quick brown fox jumps over the lazy dog and then it sleeps all day"


def overlaps(pool: Question, test: Question, max_overlap: float = 0.9) -> bool:
    try:
        check_overlap([pool], {"exam": [test]}, max_overlap)
    except DataError:
        return True
    return False


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Is it so?", "is  it SO", True),
        ("Is it so?", "Is it not so?", False),
        ("Fill ____ in.", "Fill in", True),
        ("What is 3 + 2?", "What is 3 - 2?", False),
        ("What is 3-2?", "what is 3 - 2", True),
        ("What is x = 2*3?", "What is x = 2/3?", False),
        ("a well-known man", "a well known man", True),
        ("\uff21\uff22 ?", "ab", True),
        ("???", "!!!", False),
        ("?!", " ?! ", True),
    ],
)
def test_texts_are_compared_by_words(one: str, other: str, *, same: bool) -> None:
    assert overlaps(ask(one), ask(other, "t1")) is same
    assert (words_of(one) == words_of(other)) is same


def test_like_texts_with_other_choices_are_other_questions() -> None:
    for text in ("Which one?", LONG):
        pool = ask(text, "p", ["a", "b"])
        assert overlaps(pool, ask(text, "t", ["B", "a."]))
        assert overlaps(pool, ask(text, "t"))
        assert overlaps(ask(text, "p"), ask(text, "t", ["a", "b"]))
        assert not overlaps(pool, ask(text, "t", ["a", "c"]))
    assert overlaps(ask(LONG, "p", ["a", "b"]), ask(LONG + " x", "t", ["a", "b"]))


def test_nearly_equal_texts_overlap_from_the_share_on() -> None:
    # 15 words have 11 runs of five; another last word changes one of them.
    other = ask(LONG.replace("day", "night"), "t")
    assert overlaps(ask(LONG), other, 10 / 11)
    assert not overlaps(ask(LONG), other, 0.92)
    # The share is of the test question's runs: a longer pool question holds them all.
    assert overlaps(ask(f"once upon a time {LONG} long"), ask(LONG, "t"), 1.0)
    assert not overlaps(ask(LONG, "t"), ask(f"once upon a time {LONG} long"), 0.9)


def test_texts_below_eight_words_overlap_only_when_equal() -> None:
    pool = "one two three four five six seven eight"
    assert not overlaps(ask(pool), ask("one two three four five six seven", "t"), 0.1)
    assert overlaps(ask(pool), ask("one two three four five six seven 8", "t"), 0.5)


def test_the_first_five_of_all_overlaps_are_named() -> None:
    pool = [ask(f"question {n}?", f"p{n}") for n in range(9)]
    first = [ask("new?", "t0"), ask("Question 3", "t1")]
    second = [ask(f"QUESTION {n}", f"u{n}") for n in range(6)]
    with pytest.raises(DataError) as caught:
        check_overlap(pool, {"arc": first, "boolq": second}, 0.9)
    assert str(caught.value) == (
        "7 test questions are in the pool, so the test would measure memory: 't1' of "
        "arc is 'p3' of the pool; 'u0' of boolq is 'p0' of the pool; 'u1' of boolq is "
        "'p1' of the pool; 'u2' of boolq is 'p2' of the pool; 'u3' of boolq is 'p3' of "
        "the pool; and 2 more; remove them from the pool or from the test set"
    )
    with pytest.raises(DataError, match="1 test question is in the pool"):
        check_overlap(pool, {"arc": first}, 0.9)


def slow_overlaps(pool: Question, test: Question, max_overlap: float) -> bool:
    """Compare two questions without choices by the letter of the rule."""
    a, b = words_of(pool.text), words_of(test.text)
    if a == b:
        return True
    if min(len(a), len(b)) < 8:
        return False
    grams = {b[i : i + 5] for i in range(len(b) - 4)}
    held = sum(any(a[i : i + 5] == gram for i in range(len(a) - 4)) for gram in grams)
    return held / len(grams) >= max_overlap - 1e-9


@pytest.mark.parametrize("max_overlap", [0.05, 0.3, 0.5, 0.9, 1.0])
def test_the_index_finds_what_comparing_each_pair_finds(max_overlap: float) -> None:
    draw = random.Random(0)
    found = 0
    for _ in range(60):
        base = draw.choices("abcd", k=draw.randint(1, 16))
        pool = [ask(" ".join(varied(base, draw)), f"p{n}") for n in range(6)]
        test = ask(" ".join(varied(base, draw)), "t")
        slow = any(slow_overlaps(item, test, max_overlap) for item in pool)
        try:
            check_overlap(pool, {"exam": [test]}, max_overlap)
            fast = False
        except DataError:
            fast = True
        assert fast is slow
        found += fast
    assert 0 < found < 60


texts = st.lists(st.sampled_from("aab"), max_size=18).map(" ".join)
some_choices = st.sampled_from([(), ("x", "y"), ("Y!", "x"), ("x", "z")])
asked = st.lists(st.tuples(texts, some_choices), max_size=12)


@given(asked, asked, st.sampled_from([0.05, 0.4, 0.8, 0.9, 1.0]), st.integers(0, 3))
def test_all_test_questions_are_found_that_comparing_each_pair_finds(
    pool_texts: list[tuple[str, tuple[str, ...]]],
    test_texts: list[tuple[str, tuple[str, ...]]],
    max_overlap: float,
    few: int,
) -> None:
    """With an equal question first, and then the first that is nearly so."""
    pool = [ask(text, f"p{n}", own) for n, (text, own) in enumerate(pool_texts)]
    tests = [ask(text, f"t{n}", own) for n, (text, own) in enumerate(test_texts)]
    expected = []
    for test in tests:
        fits = [item for item in pool if may_equal(item, test)]
        equal = [item for item in fits if words_of(item.text) == words_of(test.text)]
        near = [item for item in fits if slow_overlaps(item, test, max_overlap)]
        if near:
            expected.append(("exam", test.id, pool.index((equal or near)[0])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_texts, "FEW", few)
        found = TestTexts({"exam": tests}, max_overlap)
        assert all(found.look(place, item) for place, item in enumerate(pool))
    assert list(found.found()) == expected


def may_equal(one: Question, other: Question) -> bool:
    """Say whether the choices of two questions allow that they are the same."""
    own, others = ({words_of(choice) for choice in q.choices} for q in (one, other))
    return not own or not others or own == others


def test_runs_with_the_same_hash_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(near_texts, "hash", lambda run: run[0] % 3, raising=False)
    pool = [ask(f"{LONG} {n}", f"p{n}") for n in range(40)]
    check_overlap(pool, {"exam": [ask(LONG[::-1] + " " + LONG[::-1], "t")]}, 0.5)
    with pytest.raises(DataError, match=r"'t' of exam is 'p0' of the pool"):
        check_overlap(pool, {"exam": [ask(LONG, "t")]}, 0.9)


def test_what_was_not_compared_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_texts, "LEAST_STEPS", 20)
    monkeypatch.setattr(near_texts, "STEPS_PER_RUN", 0)
    draw = random.Random(0)

    def slots(seen: str) -> str:
        return " ".join(
            f"the {draw.choice(seen)} word of slot {n} is" for n in range(9)
        )

    tests = {"exam": [ask(slots("abcd"), f"t{n}") for n in range(200)]}
    pool = [ask("short", "p0"), *(ask(slots("abcd"), f"p{n}") for n in range(1, 9))]
    (told,) = check_overlap(pool, tests, 0.95)
    assert told == (
        "8 of the pool's questions, 'p1' first, resemble so many test questions that "
        "each was compared with some of these only: no test question equals one of the "
        "pool, but one that nearly does (evaluation.max_overlap) may have been missed"
    )
    # An equal one is found however little is compared.
    with pytest.raises(DataError, match=r"'t7' of exam is 'p9' of the pool"):
        check_overlap([*pool, ask(tests["exam"][7].text, "p9")], tests, 0.95)


def varied(words: Sequence[str], draw: random.Random) -> list[str]:
    """Return the words with a few of them changed or more put after them."""
    changed = [draw.choice("abcd") if draw.random() < 0.1 else word for word in words]
    return changed + draw.choices("abcd", k=draw.randint(0, 3))


def test_duplicates_are_found_whatever_their_choices() -> None:
    pool = [
        ask("Why?", "a", ["yes", "no"]),
        ask("why", "b"),
        ask("How?", "c"),
        ask("WHY", "d"),
    ]
    found = duplicates_of(pool)
    assert found == dict.fromkeys("abd", frozenset("abd"))
    assert found["a"] is found["b"]  # or a text of a million questions fills memory
