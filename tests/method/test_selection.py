"""Selection: hand cases of the percentile rule, then what holds for every pool."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.config import SelectionConfig
from neuron_opsd.method.selection import (
    LEFT_OUT,
    SELECTION_RULES,
    PoolSignals,
    SelectionRule,
    Values,
    num_left_out,
    rank_questions,
    select_questions,
    selection_warnings,
)
from neuron_opsd.records import NeuronSet, SelectionEntry, StoredSummary, Vote
from neuron_opsd.records.beliefs import Belief

RANKING: Final = tuple(n for n, one in SELECTION_RULES.items() if not one.keeps_all)

CUT = "its own completion was cut"
NO_ANSWER = "its own completion holds no answer that can be read"

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
    pool: list[NeuronSet], rule: str, keep_fraction: float = 0.2, seed: int = 0
) -> tuple[SelectionEntry, ...]:
    """Select by a rule, which may look at all that can be known of a pool."""
    config = SelectionConfig(rule=rule, keep_fraction=keep_fraction)
    return select_questions(all_known(pool), config, seed)


def all_known(pool: list[NeuronSet], answers: tuple[str, ...] = ("a",)) -> PoolSignals:
    """Return a pool of which everything is known, by its neuron counts."""
    counts = {entry.question_id: entry.neuron_count or 0 for entry in pool}
    given = {name: answers[n % len(answers)] for n, name in enumerate(counts)}
    return PoolSignals(
        pool,
        own={name: outline(name, given[name]) for name in counts},
        votes={
            name: Vote(name, given[name], {given[name]: 1 + n % 8}, 8)
            for name, n in counts.items()
        },
        entropies={name: float(n * 7 % 5) for name, n in counts.items()},
        beliefs={
            name: Belief(
                name,
                ("a", "b"),
                (np.log(0.5), np.log(0.5)),
                (np.log((1 + n) / (2 + n)), np.log(1 / (2 + n))),
                divergence=float(n * 3 % 7),
            )
            for name, n in counts.items()
        },
    )


def known(
    pool: list[NeuronSet],
    answers: dict[str, str | None] | dict[str, str] | None = None,
    unread: dict[str, str] | None = None,
) -> PoolSignals:
    """Return a pool with the model's own answers and why some give none."""
    why = unread or {}
    own = {
        name: outline(
            name,
            None if why.get(name) == NO_ANSWER else (answers or {}).get(name, "some"),
            finished=why.get(name) != CUT,
        )
        for name in {**(answers or {}), **why}
    }
    return PoolSignals(pool, own)


def outline(
    name: str,
    answer: str | None = "a",
    *,
    finished: bool = True,
    entropy: float = 0.5,
) -> StoredSummary:
    """Return what is known of a question's own completion of five tokens."""
    return StoredSummary(name, 0, 0.6, answer, 5, finished, True, -1.0, entropy, 0)  # noqa: FBT003


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


def tied_pool(num_below: int, num_tied: int, num_above: int) -> list[NeuronSet]:
    """Return questions with 1, 2 and 3 neurons, so many of each."""
    return pool_of(*[1] * num_below, *[2] * num_tied, *[3] * num_above)


def test_a_few_that_tie_with_the_last_are_kept_too() -> None:
    # 40 of 200 are asked for, and a twentieth of these are two more.
    entries = select(tied_pool(30, 12, 158), "fewest-neurons")
    assert kept_ids(entries) == [f"q{i}" for i in range(42)]
    assert not any("draw" in entry.reason for entry in entries)
    assert len(kept_ids(select(tied_pool(30, 13, 157), "fewest-neurons"))) == 40


def test_a_draw_decides_between_many_equals_and_says_so() -> None:
    pool = tied_pool(30, 100, 70)
    entries = select(pool, "fewest-neurons")
    assert len(kept_ids(entries)) == 40
    assert all(entry.kept for entry in entries[:30])
    drawn = [entry for entry in entries if "a draw among equals" in entry.reason]
    assert [entry.question_id for entry in drawn] == [f"q{i}" for i in range(30, 130)]
    assert sum(entry.kept for entry in drawn) == 10
    for entry in drawn:
        fate = "kept" if entry.kept else "not kept"
        assert entry.reason == (
            f"2 neurons, place {entry.rank + 1} of 200 from the fewest, {fate} by a "
            "draw among equals"
        )
    # By seed and id alone: another order of the pool keeps the same ones.
    assert {*kept_ids(entries)} == {*kept_ids(select(pool[::-1], "fewest-neurons"))}
    assert kept_ids(entries) != kept_ids(select(pool, "fewest-neurons", seed=1))
    # Not simply the first ones, of which a file may have one kind.
    places = [int(entry.question_id[1:]) - 30 for entry in drawn if entry.kept]
    assert max(places) > 50


def test_one_count_for_all_keeps_no_more_than_the_share() -> None:
    assert len(kept_ids(select(pool_of(*[7] * 500), "most-neurons"))) == 100
    assert len(kept_ids(select(pool_of(*[7] * 500), "random"))) == 100


def test_a_draw_decides_within_each_answer_too() -> None:
    pool = pool_of(*[5] * 100)
    answers = {f"q{i}": "yes" if i < 80 else "no" for i in range(100)}
    config = SelectionConfig(balance=True)
    kept = kept_ids(select_questions(known(pool, answers), config, 0))
    assert sum(answers[name] == "yes" for name in kept) == 16
    assert len(kept) == 20


def test_unread_questions_are_not_kept_and_the_share_is_still_of_the_pool() -> None:
    pool = pool_of(*range(10))
    unread = {"q0": CUT, "q2": NO_ANSWER}
    entries = select_questions(known(pool, unread=unread), SelectionConfig(), 0)
    assert kept_ids(entries) == ["q1", "q3"]
    assert entries[0].reason == "left out: its own completion was cut"
    assert entries[2].reason == f"left out: {NO_ANSWER}"
    assert entries[1].reason == "1 neurons, place 1 of 8 from the fewest"
    assert [entry.rank for entry in entries] == [8, 0, 9, 1, 2, 3, 4, 5, 6, 7]
    assert num_left_out(entries) == 2
    asked = SelectionConfig(include_unread=True)
    assert kept_ids(select_questions(known(pool, unread=unread), asked, 0)) == [
        "q0",
        "q1",
    ]


def test_where_too_few_can_be_read_all_of_them_are_kept() -> None:
    pool = pool_of(*range(10))
    unread = {f"q{i}": CUT for i in range(9)}
    entries = select_questions(known(pool, unread=unread), SelectionConfig(), 0)
    assert kept_ids(entries) == ["q9"]
    none = select_questions(
        known(pool, unread=unread | {"q9": CUT}), SelectionConfig(), 0
    )
    assert kept_ids(none) == []


def test_all_keeps_unread_questions_too() -> None:
    pool, unread = pool_of(3, 1), {"q0": CUT}
    config = SelectionConfig(rule="all")
    entries = select_questions(known(pool, unread=unread), config, 0)
    assert kept_ids(entries) == ["q0", "q1"]
    assert num_left_out(entries) == 0


def test_balance_takes_the_share_of_the_pool_from_what_can_be_read() -> None:
    pool = pool_of(*range(100))
    answers = {f"q{i}": "yes" if i % 2 else "no" for i in range(100)}
    unread = {f"q{i}": CUT for i in range(50)}
    config = SelectionConfig(balance=True)
    kept = kept_ids(select_questions(known(pool, answers, unread), config, 0))
    # Ten of each 25 that can be read.
    assert kept == [f"q{i}" for i in range(50, 70)]


def warned(unread: dict[str, str], *neuron_counts: int, **fields: Any) -> list[str]:
    pool, config = pool_of(*neuron_counts), SelectionConfig(**fields)
    ranking = rank_questions(known(pool, unread=unread), config, 0)
    return selection_warnings(ranking, config)


def test_what_is_warned_of() -> None:
    assert warned({}, *range(10)) == []
    assert warned({"q0": CUT}, *range(10)) == [
        "1 of 10 questions could not be selected, since their own completion was cut "
        "or holds no answer that can be read; the selection has 2"
    ]
    assert warned({"q0": CUT}, *range(10), include_unread=True) == []
    assert warned({"q0": CUT}, 1, 2, rule="all") == []
    assert warned({f"q{i}": CUT for i in range(9)}, *range(10)) == [
        "9 of 10 questions could not be selected, since their own completion was cut "
        "or holds no answer that can be read; the selection has 1, fewer than the 2 "
        "that selection.keep_fraction=0.2 asks for; raise rollouts.max_new_tokens"
    ]
    assert warned({}, 1, *[2] * 5, 3, 3, 3, 3) == [
        "5 questions tie for the last 1 of the 2 places in the selection; a seeded "
        "draw decided between them"
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


def test_a_rule_sees_answers_votes_lengths_and_entropies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new rule is one function and one entry; the settings take its name at once."""

    def surest(pool: PoolSignals, seed: int) -> Values:
        del seed
        return np.array(
            [
                pool.own[name].entropy * pool.own[name].num_tokens
                - pool.votes[name].agreement
                for name in pool.question_ids
            ]
        )

    entry = SelectionRule(surest, "the surest", "{value:.1f} nats, {place}")
    pool = known(pool_of(1, 2, 3), {"q0": "a", "q1": "b", "q2": "a"})
    own = {**pool.own, "q1": outline("q1", entropy=0.1)}
    votes = {name: Vote(name, "a", {"a": 2}, 8) for name in pool.question_ids}
    monkeypatch.setitem(SELECTION_RULES, "surest", entry)
    config = SelectionConfig(rule="surest")
    entries = select_questions(replace(pool, own=own, votes=votes), config, 0)
    assert kept_ids(entries) == ["q1"]
    assert [e.reason for e in entries][:2] == [
        "2.2 nats, place 2 of 3",
        "0.2 nats, place 1 of 3",
    ]


def test_the_settings_take_every_rule_and_say_what_it_does() -> None:
    text = SelectionConfig.model_fields["rule"].description or ""
    for name, rule in SELECTION_RULES.items():
        assert SelectionConfig(rule=name).rule == name
        assert f"`{name}`: {rule.help}" in text


@pytest.mark.parametrize("rule", RANKING)
@given(counts, fractions)
def test_enough_are_kept_and_none_that_is_worse_than_one_left_out(
    rule: str, neuron_counts: list[int], fraction: float
) -> None:
    entries = select(pool_of(*neuron_counts), rule, fraction)
    kept = [entry.rank for entry in entries if entry.kept]
    left = [entry.rank for entry in entries if not entry.kept]
    assert sorted(kept + left) == list(range(len(neuron_counts)))
    asked = math.ceil(fraction * len(neuron_counts))
    assert asked <= len(kept) <= 1.05 * asked
    assert not any(entry.reason.startswith(LEFT_OUT) for entry in entries)
    assert max(kept) < min(left, default=len(neuron_counts))
    assert [entry.neuron_count for entry in entries] == neuron_counts


@given(counts, fractions)
def test_the_paper_rule_is_the_percentile_rule_but_for_many_equals(
    neuron_counts: list[int], fraction: float
) -> None:
    # S = {x : s(x) <= b-th percentile}, the percentile a value that occurs.
    percentile = np.quantile(neuron_counts, fraction, method="inverted_cdf")
    entries = select(pool_of(*neuron_counts), "fewest-neurons", fraction)
    asked = math.ceil(fraction * len(neuron_counts))
    within = [count <= percentile for count in neuron_counts]
    kept = [entry.kept for entry in entries]
    if sum(within) <= 1.05 * asked:
        assert kept == within
        return
    assert sum(kept) == asked
    below = [count < percentile for count in neuron_counts]
    for is_below, is_kept, is_within in zip(below, kept, within, strict=True):
        assert is_below <= is_kept <= is_within


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
    entries = select_questions(known(neurons, answers), config, 0)
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
    plain = select_questions(known(neurons), SelectionConfig(), 0)
    balanced = select_questions(
        known(neurons, answers), SelectionConfig(balance=True), 0
    )
    assert plain == balanced


@pytest.mark.parametrize("rule", RANKING)
@given(st.lists(st.integers(0, 9), min_size=20, max_size=60), fractions)
def test_balance_keeps_the_share_of_each_answer_under_every_rule(
    rule: str, neuron_counts: list[int], fraction: float
) -> None:
    pool = pool_of(*neuron_counts)
    known = all_known(pool, ("yes", "yes", "no"))
    config = SelectionConfig(rule=rule, keep_fraction=fraction, balance=True)
    entries = select_questions(known, config, 0)
    for answer in ("yes", "no"):
        own = [e for e in entries if known.own[e.question_id].answer == answer]
        kept = [entry.rank for entry in own if entry.kept]
        asked = math.ceil(fraction * len(own) - 1e-9)
        if fraction * len(own) < 1.0:  # too few for a group of their own
            continue
        assert asked <= len(kept) <= 1.05 * asked
        left = [entry.rank for entry in own if not entry.kept]
        assert max(kept) < min(left, default=len(neuron_counts))


@pytest.mark.parametrize("rule", RANKING)
@given(counts, fractions)
def test_no_rule_hangs_on_the_order_of_the_pool(
    rule: str, neuron_counts: list[int], fraction: float
) -> None:
    pool = pool_of(*neuron_counts)
    there, back = (select(some, rule, fraction) for some in (pool, pool[::-1]))
    assert [e.kept for e in there] == [e.kept for e in back][::-1]
