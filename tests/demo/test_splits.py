"""How a benchmark becomes a pool and a test set."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_opsd.data.overlap import check_overlap
from neuron_opsd.demo.benchmarks import (
    POOL_SHARE,
    Item,
    SplitSizes,
    in_pool,
    near_duplicates,
    split_items,
)

LARGE = SplitSizes(pool=10_000, test=10_000)


def item(key: str, text: str, *choices: str, gold: int = 0, group: str = "") -> Item:
    return Item(key, text, choices or ("yes", "no"), gold, group)


def numbered(count: int) -> list[Item]:
    return [item(f"{n}", f"is number {n} of this list even?") for n in range(count)]


def test_every_question_is_on_one_side_and_keeps_its_answer() -> None:
    split = split_items("n", numbered(200), LARGE)

    ids = [question.id for question in split.pool + split.test]
    assert sorted(ids) == sorted(f"n-{n}" for n in range(200))
    assert split.gold.answer_of == dict.fromkeys(ids, "yes")
    assert not split.dropped


def test_a_side_holds_the_share_that_it_should() -> None:
    share = sum(map(in_pool, numbered(2000))) / 2000

    assert share == pytest.approx(POOL_SHARE, abs=0.04)


def test_the_side_depends_on_the_text_alone() -> None:
    alone = item("a", "What colour is the sky?")
    elsewhere = item("b", "what colour is  THE SKY", "red", "blue", gold=1)

    assert in_pool(alone) == in_pool(elsewhere)


def test_the_side_of_some_questions_never_changes() -> None:
    assert in_pool(item("", "a fine film ."))
    assert in_pool(item("", "Which gas do plants take in?"))
    assert not in_pool(item("", "a dull film ."))
    assert not in_pool(item("", "How do bees see?"))


def test_questions_about_one_passage_stay_together() -> None:
    items = [item(f"{n}", f"{n}?", group="the passage") for n in range(20)]

    split = split_items("p", items, LARGE)

    assert {len(split.pool), len(split.test)} == {0, 20}


@settings(max_examples=20)
@given(st.permutations(range(30)), st.integers(0, 30))
def test_order_and_company_change_no_side(order: list[int], count: int) -> None:
    whole = split_items("n", numbered(30), LARGE)
    items = numbered(30)

    part = split_items("n", [items[n] for n in order[:count]], LARGE)

    assert set(part.pool) <= set(whole.pool)
    assert set(part.test) <= set(whole.test)


def test_the_order_of_the_file_does_not_matter() -> None:
    items = numbered(50)

    assert split_items("n", items, LARGE) == split_items("n", items[::-1], LARGE)


def test_sizes_cut_each_side_and_the_rest_is_counted() -> None:
    split = split_items("n", numbered(100), SplitSizes(pool=10, test=20))

    assert (len(split.pool), len(split.test)) == (10, 20)
    assert split.dropped == {"beyond the sizes": 70}
    assert len(split.gold.answer_of) == 30


def test_without_a_pool_all_questions_are_for_the_test() -> None:
    split = split_items("n", numbered(40), SplitSizes(pool=0, test=100))

    assert (len(split.pool), len(split.test)) == (0, 40)


def test_what_cannot_be_asked_is_left_out_with_its_reason() -> None:
    items = [
        item("good", "Which gas do plants take in?"),
        item("again", "which gas do plants take in", "no", "yes"),
        item("alike", "Is it so?", "Yes", "yes"),
        item("one", "Is there a choice?", "yes"),
        item("empty", "Is there a text?", "yes", ""),
        item("code", "Which code?", "a\nb", "c"),
        item("bare", "Which of the following statements is true?"),
        item("void", ""),
    ]

    split = split_items("x", items, LARGE)

    assert [question.id for question in split.pool + split.test] == ["x-good"]
    assert split.dropped == {
        "repeated": 1,
        "empty, equal or many-line choices": 4,
        "asks nothing without its choices": 2,
    }


def test_one_text_with_other_choices_is_another_question_on_the_same_side() -> None:
    items = [item("a", "dresser", "p", "q"), item("b", "dresser", "r", "s")]

    split = split_items("x", items, LARGE)

    assert {len(split.pool), len(split.test)} == {0, 2}


def test_a_test_question_that_a_pool_question_holds_is_near_it() -> None:
    stem = "the red fox ran over the hill and"
    pool = [item("p", f"{stem} then it slept")]
    tests = [
        item("same", f"{stem} then he slept"),
        item("other", "a grey wolf went down to the river and drank"),
    ]

    # Of the 7 five-word runs of "same" the pool has 4 up to "and" and 1 with "then".
    assert near_duplicates(pool, tests) == {"same"}


def test_a_short_text_is_near_one_that_holds_it_whole() -> None:
    pool = [item("p", "boil an egg")]

    assert near_duplicates(pool, [item("t", "Boil an egg!")]) == {"t"}
    assert not near_duplicates(pool, [item("t", "boil an")])


def test_a_run_never_finds_a_test_question_in_the_pool() -> None:
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    items = [
        item(f"{a}{b}", f"take {a} and {b} from the box and then put them back again")
        for a in words
        for b in words
    ]

    split = split_items("w", items, LARGE)

    assert split.pool
    assert split.dropped
    check_overlap(split.pool, {"w": split.test}, 0.9)


def test_choices_are_shuffled_alike_every_time_and_evenly() -> None:
    items = [item(f"{n}", f"is {n} prime?", "a", "b", "c") for n in range(600)]

    split = split_items("s", items, LARGE)

    assert split == split_items("s", items, LARGE)
    firsts = Counter(question.choices[0] for question in split.pool + split.test)
    assert all(firsts[choice] == pytest.approx(200, abs=50) for choice in "abc")
