"""Each rule on pools with values worked out by hand, and what it knows nothing of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from neuron_opsd.method.selection import (
    SELECTION_RULES,
    PoolSignals,
    SelectionConfig,
    rank_questions,
    select_questions,
    selection_warnings,
)
from neuron_opsd.method.selection.orders import counts_nearer, line_residuals
from neuron_opsd.records import NeuronSet, SelectionEntry, StoredSummary, Vote
from neuron_opsd.records.beliefs import Belief

NAMES = ("q0", "q1", "q2", "q3", "q4")


def sets(*neurons: tuple[int, ...], tokens: tuple[int, ...] = ()) -> list[NeuronSet]:
    """Return neuron sets with these ids, and as many neurons counted."""
    return [
        NeuronSet(
            f"q{i}",
            len(ids),
            np.array(ids, dtype=np.uint32),
            np.ones(len(ids), dtype=np.float32),
            tokens[i] if tokens else 1,
        )
        for i, ids in enumerate(neurons)
    ]


def counted(*counts: int, tokens: tuple[int, ...] = ()) -> list[NeuronSet]:
    """Return neuron sets of these sizes, each the first neurons."""
    return sets(*(tuple(range(count)) for count in counts), tokens=tokens)


def entries_for(
    rule: str, pool: PoolSignals, keep: float = 0.4, **fields: Any
) -> tuple[SelectionEntry, ...]:
    config = SelectionConfig(rule=rule, keep_fraction=keep, **fields)
    return select_questions(pool, config, 0)


def kept(entries: tuple[SelectionEntry, ...]) -> list[str]:
    return [entry.question_id for entry in entries if entry.kept]


def belief(name: str, student: float, teacher: float, **more: Any) -> Belief:
    """Return a belief in yes or no, by the probability of yes."""
    own, other = ((math.log(p), math.log1p(-p)) for p in (student, teacher))
    return Belief(name, ("yes", "no"), own, other, **more)


def believing(*pairs: tuple[float, float], **more: Any) -> PoolSignals:
    """Return a pool of which there are beliefs, and perhaps more."""
    beliefs = {f"q{i}": belief(f"q{i}", *pair) for i, pair in enumerate(pairs)}
    return PoolSignals(counted(*[1] * len(pairs)), beliefs=beliefs, **more)


def test_length_free_is_the_count_net_of_length() -> None:
    # Ten neurons more for each doubling of the length, but of q3 there are 6 fewer than
    # that, of q4 4 more.
    tokens = tuple(2**n for n in range(9))
    counts = [10 + 10 * n for n in range(9)]
    counts[3] -= 6
    counts[4] += 4
    pool = PoolSignals(counted(*counts, tokens=tokens))
    entries = entries_for("length-free", pool, 0.1)
    assert kept(entries) == ["q3"]
    assert kept(entries_for("fewest-neurons", pool, 0.1)) == ["q0"]
    by_rank = [e.question_id for e in sorted(entries, key=lambda e: e.rank)]
    assert by_rank[-1] == "q4"
    assert entries[3].reason == (
        "-6 neurons beside others of its length, place 1 of 9 from the fewest"
    )
    assert entries[4].reason.startswith("+4 neurons")


def test_one_far_point_does_not_turn_the_line() -> None:
    x = np.arange(12.0)
    y = 3.0 * x + 1.0
    y[11] += 1000.0
    left = line_residuals(x, y)
    assert np.abs(left[:11]).max() < 1.0
    assert left[11] == pytest.approx(1000.0, abs=1.0)
    plain = y - np.polyval(np.polyfit(x, y, 1), x)
    assert np.abs(plain[:11]).max() > 100.0


def test_one_length_for_all_leaves_the_count_itself() -> None:
    pool = PoolSignals(counted(5, 3, 9, 1, 7, tokens=(4,) * 5))
    assert kept(entries_for("length-free", pool)) == ["q1", "q3"]


def test_a_line_through_one_point_leaves_nothing() -> None:
    assert line_residuals(np.array([2.0]), np.array([5.0])).tolist() == [0.0]


def test_low_entropy_keeps_what_is_answered_with_little_doubt() -> None:
    entropies = dict(zip(NAMES, (0.5, 0.125, 2.0, 0.25, 1.0), strict=True))
    pool = PoolSignals(counted(1, 1, 1, 1, 1), entropies=entropies)
    entries = entries_for("low-entropy", pool)
    assert kept(entries) == ["q1", "q3"]
    assert entries[3].reason == "0.25 nats of entropy, place 2 of 5 from the lowest"


def votes_of(**counts: dict[str, int]) -> dict[str, Vote]:
    """Return votes of eight samples, some of which may hold no answer."""
    return {
        name: Vote(name, max(given, key=given.__getitem__, default=None), given, 8)
        for name, given in counts.items()
    }


def test_high_vote_keeps_what_the_samples_agree_on() -> None:
    votes = votes_of(
        q0={"a": 5, "b": 3}, q1={"a": 8}, q2={"a": 4}, q3={"b": 7, "a": 1}, q4={}
    )
    pool = PoolSignals(counted(1, 1, 1, 1, 1), votes=votes)
    entries = entries_for("high-vote", pool)
    assert kept(entries) == ["q1", "q3"]
    assert entries[1].reason == "100% of its samples agree, place 1 of 4 from the most"
    # Half of the samples of q2 hold no answer, and stay in the denominator.
    assert entries[2].reason == "50% of its samples agree, place 4 of 4 from the most"
    assert entries[4].reason == (
        "left out: none of its samples holds an answer that can be read"
    )


def test_belief_shift_keeps_what_the_demonstrations_change() -> None:
    pool = believing((0.5, 0.5), (0.5, 0.9), (0.9, 0.1), (0.8, 0.9), (0.1, 0.1))
    entries = entries_for("belief-shift", pool)
    assert kept(entries) == ["q1", "q2"]
    # ln 2 less the entropy of nine to one: both are as far from even odds.
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert math.log(2.0) - entropy == pytest.approx(0.368, abs=5e-4)
    assert entries[2].reason == (
        "0.368 nats between its answers with and without demonstrations, place 1 of 5 "
        "from the largest"
    )


def test_the_shift_does_not_ask_which_answer_is_right() -> None:
    there = believing((0.2, 0.7), (0.5, 0.5))
    back = believing((0.7, 0.2), (0.5, 0.5))
    for pool in (there, back):
        assert kept(entries_for("belief-shift", pool, 0.5)) == ["q0"]


def test_divergence_keeps_what_the_loss_takes_most_from() -> None:
    beliefs = {
        name: Belief(name, divergence=value)
        for name, value in zip(NAMES, (0.1, 2.0, 0.0, 0.5, 0.25), strict=True)
    }
    pool = PoolSignals(counted(1, 1, 1, 1, 1), beliefs=beliefs)
    entries = entries_for("divergence", pool)
    assert kept(entries) == ["q1", "q3"]
    assert entries[3].reason == (
        "0.5 nats from student to teacher, place 2 of 5 from the largest"
    )


def test_reliable_and_teachable_takes_the_worse_of_two_ranks() -> None:
    shifts = ((0.5, 0.95), (0.5, 0.9), (0.5, 0.8), (0.5, 0.7), (0.5, 0.6))
    entropies = dict(zip(NAMES, (5.0, 2.0, 1.0, 3.0, 0.5), strict=True))
    entries = entries_for(
        "reliable-and-teachable", believing(*shifts, entropies=entropies), 0.2
    )
    # By shift q0 to q4 are first to fifth, by entropy 5th, 3rd, 2nd, 4th and 1st.
    # The worse ranks are 5, 3, 3, 4 and 5; of q1 and q2 both have one rank of 2.
    order = sorted(entries, key=lambda e: e.rank)
    assert {order[0].question_id, order[1].question_id} == {"q1", "q2"}
    assert order[2].question_id == "q3"
    # The better rank decides between equals: q0 and q4 have a first each.
    assert {order[3].question_id, order[4].question_id} == {"q0", "q4"}
    entropies["q1"], entropies["q4"] = 0.5, 2.0  # q1 is first by entropy, q4 third
    moved = entries_for(
        "reliable-and-teachable", believing(*shifts, entropies=entropies), 0.2
    )
    assert kept(moved) == ["q1"]


def test_neither_signal_makes_up_for_the_other() -> None:
    # q0 is by far the most teachable and the least reliable; q1 is second in both.
    shifts = ((0.5, 0.999), (0.5, 0.8), (0.5, 0.51))
    entropies = {"q0": 9.0, "q1": 0.2, "q2": 0.1}
    pool = believing(*shifts, entropies=entropies)
    assert kept(entries_for("reliable-and-teachable", pool, 0.3)) == ["q1"]
    assert kept(entries_for("belief-shift", pool, 0.3)) == ["q0"]
    assert kept(entries_for("low-entropy", pool, 0.3)) == ["q2"]


UNKNOWN = {
    "low-entropy": PoolSignals(counted(1, 1), entropies={"q1": 0.5}),
    "high-vote": PoolSignals(counted(1, 1), votes=votes_of(q0={}, q1={"a": 1})),
    "belief-shift": PoolSignals(
        counted(1, 1), beliefs={"q0": Belief("q0"), "q1": belief("q1", 0.5, 0.5)}
    ),
    "divergence": PoolSignals(
        counted(1, 1),
        beliefs={"q0": belief("q0", 0.1, 0.9), "q1": Belief("q1", divergence=0.0)},
    ),
    "reliable-and-teachable": PoolSignals(
        counted(1, 1),
        entropies={"q0": 0.0, "q1": 9.0},
        beliefs={"q1": belief("q1", 0.5, 0.5)},
    ),
}


@pytest.mark.parametrize("rule", UNKNOWN)
@pytest.mark.parametrize("include_unread", [True, False])
def test_what_a_rule_knows_nothing_of_is_left_out_and_said(
    rule: str, include_unread: bool
) -> None:
    """It is no zero, which would put it first or last in silence."""
    config = SelectionConfig(
        rule=rule, keep_fraction=1.0, include_unread=include_unread
    )
    ranking = rank_questions(UNKNOWN[rule], config, 0)
    assert ranking.kept.tolist() == [False, True]
    assert ranking.num_free == 1
    first, _ = select_questions(UNKNOWN[rule], config, 0)
    assert first.reason == f"left out: {SELECTION_RULES[rule].unknown}"
    assert first.rank == 1
    (warning,) = selection_warnings(ranking, config)
    assert warning == (
        f"1 of 2 questions could not be selected, since selection.rule={rule} knows "
        f"nothing of them ({SELECTION_RULES[rule].unknown}); the selection has 1, "
        "fewer than the 2 that selection.keep_fraction=1 asks for; raise "
        "rollouts.max_new_tokens"
    )


def test_rules_are_told_only_of_what_may_be_kept() -> None:
    """A trace that was cut is long and far from others, and would turn the line."""
    own = {
        "q0": StoredSummary("q0", 0, 0.6, None, 5, False, True, -1.0, 0.5, 0)  # noqa: FBT003
    }
    seen: list[list[str]] = []

    def order(pool: PoolSignals, seed: int) -> Any:
        del seed
        seen.append(pool.question_ids)
        assert pool.num_asked == 1
        return np.zeros(len(pool.neurons))

    entry = SELECTION_RULES["random"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            SELECTION_RULES, "random", type(entry)(order, entry.help, entry.reason)
        )
        entries_for("random", PoolSignals(counted(1, 2, 3), own), 0.2)
    assert seen == [["q1", "q2"]]


CLUSTERED = sets(
    *[(1, 2, 3, 4, i) for i in range(10, 14)],
    (1, 2, 3, 4),
    *[(51, 52, 53, 54, i) for i in range(60, 64)],
    (51, 52, 53, 54),
)


def test_k_medoids_keeps_the_middle_of_every_cluster() -> None:
    entries = entries_for("k-medoids", PoolSignals(CLUSTERED), 0.2)
    assert kept(entries) == ["q4", "q9"]
    assert entries[4].reason.startswith(
        "0 of its cluster are nearer to the middle, place "
    )


def test_clusters_take_turns() -> None:
    entries = entries_for("k-medoids", PoolSignals(CLUSTERED), 0.2)
    turns = [entry.reason.split()[0] for entry in entries]
    # The four around a middle are as far from it.
    assert turns == ["1", "1", "1", "1", "0"] * 2


def test_equals_share_their_turn() -> None:
    turns = counts_nearer(
        np.array([0, 1, 0, 0, 1, 0]), np.array([0.5, 0.0, 0.0, 0.5, 0.25, 0.75])
    )
    assert turns.tolist() == [1.0, 0.0, 0.0, 1.0, 1.0, 3.0]
