"""Selection: hand cases of the percentile rule, then what holds for every pool."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.config import SelectionConfig
from neuron_opsd.method.selection import RULES, select_questions
from neuron_opsd.records import NeuronSet, SelectionEntry

RuleName: TypeAlias = Literal["fewest-neurons", "most-neurons", "random", "all"]

RANKING: Final[tuple[RuleName, ...]] = ("fewest-neurons", "most-neurons", "random")

counts = st.lists(st.integers(0, 9), min_size=1, max_size=30)
fractions = st.sampled_from([0.01, 0.1, 0.2, 0.25, 0.5, 0.9, 1.0])


def pool_of(*neuron_counts: int) -> list[NeuronSet]:
    """Return a pool whose questions q0, q1, ... use this many neurons."""
    none = np.empty(0, dtype=np.uint32)
    scores = np.empty(0, dtype=np.float32)
    return [
        NeuronSet(f"q{i}", count, none, scores, 1)
        for i, count in enumerate(neuron_counts)
    ]


def select(
    pool: list[NeuronSet], rule: RuleName, keep_fraction: float = 0.2, seed: int = 0
) -> tuple[SelectionEntry, ...]:
    return select_questions(
        pool, SelectionConfig(rule=rule, keep_fraction=keep_fraction), seed
    )


def kept_ids(entries: tuple[SelectionEntry, ...]) -> list[str]:
    return [entry.question_id for entry in entries if entry.kept]


def test_a_fifth_of_ten_questions_is_the_two_with_fewest_neurons() -> None:
    pool = pool_of(70, 20, 90, 50, 10, 60, 80, 40, 100, 30)
    entries = select(pool, "fewest-neurons")
    assert kept_ids(entries) == ["q1", "q4"]
    assert [entry.rank for entry in entries] == [6, 1, 8, 4, 0, 5, 7, 3, 9, 2]
    assert entries[4].reason == "10 neurons, place 1 of 10 from the fewest"


def test_most_neurons_is_the_other_end() -> None:
    entries = select(pool_of(7, 2, 9, 5, 1), "most-neurons", 0.4)
    assert kept_ids(entries) == ["q0", "q2"]
    assert entries[2].reason == "9 neurons, place 1 of 5 from the most"


def test_all_that_tie_with_the_last_are_kept() -> None:
    assert kept_ids(select(pool_of(1, 2, 2, 2, 3), "fewest-neurons", 0.4)) == [
        "q0",
        "q1",
        "q2",
        "q3",
    ]


def test_a_share_of_less_than_one_question_keeps_one() -> None:
    assert kept_ids(select(pool_of(3, 1, 2), "fewest-neurons", 0.01)) == ["q1"]


def test_a_share_is_not_rounded_up_by_the_last_bit_of_a_product() -> None:
    # 0.55 * 100 is 55.00000000000001 in floating point.
    assert len(kept_ids(select(pool_of(*range(100)), "fewest-neurons", 0.55))) == 55


def test_all_keeps_all() -> None:
    entries = select(pool_of(3, 1, 2), "all", 0.01)
    assert kept_ids(entries) == ["q0", "q1", "q2"]
    assert {entry.reason for entry in entries} == {"every question is kept"}


def test_an_empty_pool_selects_nothing() -> None:
    for rule in RANKING:
        assert select([], rule) == ()


def test_every_rule_of_the_settings_is_known() -> None:
    assert set(RULES) == {*RANKING, "all"}


@pytest.mark.parametrize("rule", RANKING)
@given(counts, fractions)
def test_enough_are_kept_and_none_that_is_worse_than_one_left_out(
    rule: RuleName, neuron_counts: list[int], fraction: float
) -> None:
    entries = select(pool_of(*neuron_counts), rule, fraction)
    kept = [entry.rank for entry in entries if entry.kept]
    left = [entry.rank for entry in entries if not entry.kept]
    assert sorted(kept + left) == list(range(len(neuron_counts)))
    assert len(kept) >= math.ceil(fraction * len(neuron_counts))
    assert max(kept) < min(left, default=len(neuron_counts))
    assert [entry.neuron_count for entry in entries] == neuron_counts


@given(counts, fractions)
def test_the_paper_rule_is_the_percentile_rule(
    neuron_counts: list[int], fraction: float
) -> None:
    # S = {x : s(x) <= b-th percentile}, the percentile a value that occurs.
    percentile = np.quantile(neuron_counts, fraction, method="inverted_cdf")
    entries = select(pool_of(*neuron_counts), "fewest-neurons", fraction)
    assert [entry.kept for entry in entries] == [
        count <= percentile for count in neuron_counts
    ]


@given(counts, fractions)
def test_equal_counts_are_treated_alike_in_any_order(
    neuron_counts: list[int], fraction: float
) -> None:
    there = select(pool_of(*neuron_counts), "fewest-neurons", fraction)
    back = select(pool_of(*neuron_counts[::-1]), "fewest-neurons", fraction)
    assert [e.kept for e in there] == [e.kept for e in back][::-1]


def test_a_random_place_depends_on_seed_and_id_alone() -> None:
    pool = pool_of(*range(40))
    entries = select(pool, "random", 0.5)
    assert kept_ids(entries) == kept_ids(select(pool, "random", 0.5))
    assert kept_ids(entries) != kept_ids(select(pool, "random", 0.5, seed=1))
    assert len(kept_ids(entries)) == 20
    turned = select(pool[::-1], "random", 0.5)
    assert set(kept_ids(turned)) == set(kept_ids(entries))
    # The order of two questions does not hang on which others there are.
    order = [e.question_id for e in sorted(entries, key=lambda e: e.rank)]
    few = sorted(select(pool[:7], "random"), key=lambda e: e.rank)
    assert [e.question_id for e in few] == [
        question_id for question_id in order if int(question_id[1:]) < 7
    ]


def named(ids: list[str]) -> list[NeuronSet]:
    """Return a pool of these questions, the first with the fewest neurons."""
    pool = pool_of(*range(1, len(ids) + 1))
    return [replace(one, question_id=name) for one, name in zip(pool, ids, strict=True)]


def kept_of(answers: dict[str, str | None], **fields: Any) -> list[str]:
    neurons = named(list(answers))
    config = SelectionConfig(balance=True, **fields)
    entries = select_questions(neurons, config, 0, answers)
    return [entry.question_id for entry in entries if entry.kept]


def test_balance_keeps_the_share_of_every_answer() -> None:
    # Without it the first four would be kept, all of one answer.
    answers: dict[str, str | None] = {f"p{n}": "positive" for n in range(12)}
    answers |= {f"n{n}": "negative" for n in range(8)}
    assert kept_of(answers) == ["p0", "p1", "p2", "n0", "n1"]


def test_answers_that_few_questions_have_are_one_group() -> None:
    answers: dict[str, str | None] = {f"q{n}": f"answer {n}" for n in range(9)}
    answers |= {"unread": None}
    assert kept_of(answers) == ["q0", "q1"]


def test_balance_changes_nothing_where_every_answer_is_another() -> None:
    answers: dict[str, str | None] = {f"q{n}": f"answer {n}" for n in range(30)}
    neurons = named(list(answers))
    plain = select_questions(neurons, SelectionConfig(), 0)
    balanced = select_questions(neurons, SelectionConfig(balance=True), 0, answers)
    assert plain == balanced
