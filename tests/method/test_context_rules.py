"""Every rule for demonstrations on signals that can be worked out by hand."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.method.contexts import (
    CONTEXT_RULES,
    ContextRule,
    drawn,
    find_demonstrations,
    overlap,
    states,
)
from neuron_opsd.method.contexts.search import (
    FIELDS,
    Certainty,
    Found,
    Known,
    Neighbour,
    Search,
    Signal,
    jaccard_distance,
    medoid_of,
)
from neuron_opsd.method.contexts.words import words_of
from neuron_opsd.records import NeuronSet
from neuron_sets import ids_of


def entry(name: str, *neurons: int) -> NeuronSet:
    ids = ids_of(*neurons)
    return NeuronSet(name, ids.size, ids, np.ones(ids.size, np.float32), 1)


def names(found: Sequence[Neighbour]) -> list[str]:
    return [one.question_id for one in found]


def find(rule: str, search: Search) -> Found:
    return find_demonstrations(rule, search)


IDS = ("asked", "ant", "bee", "cow", "dog", "eel")
POOL = Known(
    neurons=[
        entry("asked", 1, 2, 3, 4),
        entry("ant", 1, 2, 3, 4),  # distance 0
        entry("bee", 1, 2, 3, 4, 5),  # 1/5
        entry("cow", 1, 2, 8, 9),  # 1 - 2/6
        entry("dog", 7, 8),  # 1
        entry("eel", 1, 2, 3, 9),  # 1 - 3/5
    ],
    question_neurons=[
        entry("asked", 20, 21),
        entry("ant", 30),
        entry("bee", 31),
        entry("cow", 20, 21),
        entry("dog", 20),
        entry("eel", 32),
    ],
    states=[
        np.array(values, np.float32)
        for values in ([3, 4], [-3, -4], [4, 3], [4, -3], [30, 40], [0, 0])
    ],
    texts=[
        "Which gas do plants breathe?",
        "Which gas do animals breathe?",
        "Who sings?",
        "gas GAS gas",
        "What is the capital of Peru?",
        "Do plants breathe which gas?",
    ],
    answers=["yes", "no", "yes", "no", "yes", None],
    certainty=[
        Certainty(1.0, -0.5),
        Certainty(0.75, -0.5),
        Certainty(0.75, -0.1),
        Certainty(1.0, -0.9),
        Certainty(0.5, -0.1),
        Certainty(0.25, -0.1),
    ],
)
ASKED = POOL.of({"asked"})
NOBODY: dict[str, frozenset[str]] = {}


def search(count: int, *out: str, seed: int = 0) -> Search:
    excluded = {"asked": frozenset(out)} if out else NOBODY
    return Search(ASKED, POOL, count, excluded, seed)


def known(*ids: str) -> Known:
    """Return questions of whose answers hardly anything is known."""
    answers, certainty = [None] * len(ids), [Certainty(0.0, 0.0)] * len(ids)
    return Known(list(map(entry, ids)), answers=answers, certainty=certainty)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("nearest", [("ant", 0.0), ("bee", 1 / 5), ("eel", 2 / 5), ("cow", 4 / 6)]),
        ("question-neurons", [("cow", 0.0), ("dog", 1 / 2), ("ant", 1), ("bee", 1)]),
        (
            "hidden-state",
            [("dog", 0.0), ("bee", 1 / 25), ("cow", 1.0), ("eel", 1.0), ("ant", 2.0)],
        ),
        ("farthest", [("dog", 1.0), ("cow", 4 / 6), ("eel", 2 / 5), ("bee", 1 / 5)]),
    ],
)
def test_a_rule_orders_by_its_own_distance(
    rule: str, expected: list[tuple[str, float]]
) -> None:
    found = find(rule, search(len(expected)))["asked"]
    assert names(found) == [name for name, _ in expected]
    assert [one.distance for one in found] == pytest.approx(
        [far for _, far in expected], abs=1e-7
    )
    assert found[0].reason.startswith(
        f"{'farthest' if rule == 'farthest' else 'nearest'} 1 of 5: "
    )


def bm25(query: str, text: str) -> float:
    """Score by the formula, with k1 1.5 and b 0.75, over `POOL`."""
    texts = [words_of(one) for one in POOL.texts]
    mean = sum(map(len, texts)) / len(texts)
    own, total = words_of(text), 0.0
    for word in words_of(query):
        holding = sum(word in one for one in texts)
        idf = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
        times = own.count(word)
        total += idf * times / (times + 1.5 * (0.25 + 0.75 * len(own) / mean))
    return total


def test_words_are_scored_by_bm25() -> None:
    found = find("words", search(5))["asked"]
    scores = {
        name: bm25(POOL.texts[0], text)
        for name, text in zip(IDS, POOL.texts, strict=True)
        if name != "asked"
    }
    assert scores["eel"] > scores["ant"] > scores["cow"] > scores["bee"] == 0.0
    # Of two that share no word the earlier one comes first.
    assert names(found) == ["eel", "ant", "cow", "bee", "dog"]
    for rank, one in enumerate(found, start=1):
        score = scores[one.question_id]
        assert one.reason == f"nearest {rank} of 5: BM25 {score:.2f}"
    # The distance is that of the answers' neurons, where these were read.
    assert found[0].distance == pytest.approx(2 / 5)


def test_words_are_told_apart_in_scripts_without_spaces() -> None:
    assert words_of("Which gas, 42?") == ["which", "gas", "42"]
    assert words_of("東京 Tokyo") == ["東", "京", "tokyo"]


@pytest.mark.parametrize("texts", [["?", "!"], ["", "..."]])
def test_texts_without_words_are_found_in_the_order_of_the_pool(
    texts: list[str],
) -> None:
    pool = Known([entry("a"), entry("b")], texts=texts)
    found = find("words", Search(pool, pool, 1, NOBODY, 0))
    assert {name: names(own) for name, own in found.items()} == {"a": ["b"], "b": ["a"]}


def test_a_question_of_unknown_words_is_answered_all_the_same() -> None:
    asked = Known([entry("new")], texts=["Zzz?"])
    assert names(find("words", Search(asked, POOL, 2, NOBODY, 0))["new"]) == [
        "asked",
        "ant",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_the_same_answer_is_drawn_and_want_of_it_is_said(seed: int) -> None:
    found = find("same-answer", search(4, seed=seed))["asked"]
    alike, others = found[:2], found[2:]
    assert sorted(names(alike)) == ["bee", "dog"]
    assert [one.reason for one in alike] == [
        f"drawn at random among 2 with the same own answer, place {p}" for p in (1, 2)
    ]
    assert set(names(others)) < {"ant", "cow", "eel"}
    assert {one.reason for one in others} == {f"drawn at random {drawn.FILLED}"}
    assert len(set(names(found))) == 4


def test_same_answers_are_drawn_evenly_by_seed_and_question_alone() -> None:
    pool = Known(
        [entry(f"q{i}", i) for i in range(30)],
        answers=["yes" if i % 2 else "no" for i in range(30)],
    )
    whole = find("same-answer", Search(pool, pool, 5, NOBODY, 3))
    for name, own in whole.items():
        odd = int(name[1:]) % 2
        assert {int(one.question_id[1:]) % 2 for one in own} == {odd}
        assert name not in names(own)
        assert len(set(names(own))) == 5
        alone = Search(pool.of({name}), pool, 5, NOBODY, 3)
        assert find("same-answer", alone)[name] == own
    other = find("same-answer", Search(pool, pool, 5, NOBODY, 4))
    assert sum(other[name] == own for name, own in whole.items()) < 3
    asked = Known([entry(f"a{i}") for i in range(1500)], answers=["yes"] * 1500)
    drawn_once = find("same-answer", Search(asked, pool, 1, NOBODY, 0)).values()
    shown = [one.question_id for (one,) in drawn_once]
    counts = np.array([shown.count(f"q{i}") for i in range(1, 30, 2)])
    # 99.9 % of the chi-square distribution with 14 degrees of freedom lie below 36.1.
    assert ((counts - 100) ** 2 / 100).sum() < 36.1


@given(st.frozensets(st.integers(0, 12)), st.frozensets(st.integers(0, 12)))
def test_places_of_rows_among_others(
    some: frozenset[int], rows: frozenset[int]
) -> None:
    listed = sorted(rows)
    found = drawn.places_of(np.array(sorted(some), int), np.array(listed, int))
    assert found.tolist() == [listed.index(row) for row in sorted(some & rows)]


def test_a_question_without_an_answer_is_shown_any() -> None:
    asked = Known([entry("new")], answers=[None])
    found = find("same-answer", Search(asked, POOL, 6, NOBODY, 0))["new"]
    assert sorted(names(found)) == sorted(IDS)
    assert all(one.reason.endswith(drawn.FILLED) for one in found)


def test_same_answers_of_the_same_text_are_barred() -> None:
    found = find("same-answer", search(2, "bee"))["asked"]
    assert names(found)[0] == "dog"
    assert "among 1 with" in found[0].reason
    assert found[1].question_id in {"ant", "cow", "eel"}


def test_the_fixed_set_takes_the_surest_of_every_answer_in_turn() -> None:
    asked = known("new", "cow", "ant")
    found = find("fixed", Search(asked, POOL, 4, NOBODY, 0))
    # The surest yes (votes, then log-probability), the surest no, the one without; and
    # again.
    assert names(found["new"]) == ["asked", "cow", "eel", "bee"]
    assert found["new"][1].reason == (
        "the same for all questions, place 2: 100% of its votes agree, "
        "-0.90 nats a token"
    )
    # One of the set is given the next in its place.
    assert names(found["cow"]) == ["asked", "eel", "bee", "ant"]
    assert names(found["ant"]) == names(found["new"])


def test_the_fixed_set_holds_no_text_twice_and_shows_none_to_its_own() -> None:
    twins = frozenset({"asked", "bee"})
    excluded = {"asked": twins, "bee": twins}
    asked = known("new", "bee")
    found = find("fixed", Search(asked, POOL, 5, excluded, 0))
    assert names(found["new"]) == ["asked", "cow", "eel", "ant", "dog"]
    assert names(found["bee"]) == ["cow", "eel", "ant", "dog"]
    # A twin is shown where nothing else is left.
    found = find("fixed", Search(asked, POOL, 6, excluded, 0))
    assert names(found["new"]) == ["asked", "cow", "eel", "ant", "dog", "bee"]


def test_diverse_ones_are_near_but_unlike_those_chosen_before() -> None:
    """By hand: s(asked, d) / 2 - max s(d, d') / 2, after the nearest one."""
    pool = Known(
        [
            entry("near", 1, 2, 3, 4),  # 1 of the question
            entry("copy", 1, 2, 3, 4, 5),  # 4/5 of it, and of near
            entry("part", 1, 2),  # 2/4 of both
            entry("other", 3, 9),  # 1/5 of both
        ]
    )
    asked = Known([entry("asked", 1, 2, 3, 4)])
    found = find("diverse", Search(asked, pool, 3, NOBODY, 0))["asked"]
    # All but near gain nothing beside near: ties go to the nearer one. Beside near and
    # copy, part loses 0 (1/2 - 1/2), other 0 as well.
    assert names(found) == ["near", "copy", "part"]
    asked = Known([entry("asked", 1, 2, 3, 4, 9)])
    found = find("diverse", Search(asked, pool, 3, NOBODY, 0))["asked"]
    # Beside near (4/5): copy 4/6 - 4/5 < 0, part 2/5 - 2/4 < 0, other 2/5 - 1/5 > 0.
    assert names(found)[:2] == ["near", "other"]
    # Beside both: copy 4/6 - 4/5 = -.13, part 2/5 - 1/2 = -.10.
    assert names(found)[2] == "part"
    assert found[1].distance == pytest.approx(1 - 2 / 5)
    assert found[1].reason == "unlike 2, nearest 4 of 3: Jaccard distance 0.600"


def slow_marginal(asked: NeuronSet, pool: Sequence[NeuronSet], count: int) -> list[str]:
    """Choose by the formula, one by one."""

    def like(one: NeuronSet, other: NeuronSet) -> float:
        return 1 - jaccard_distance(one.neuron_ids, other.neuron_ids)

    left = sorted(pool, key=lambda one: -like(asked, one))[: 10 * count]
    chosen: list[NeuronSet] = []
    while left and len(chosen) < count:
        best = max(
            left,
            key=lambda one: (
                like(asked, one) / 2
                - max((like(one, other) for other in chosen), default=0.0) / 2
            ),
        )
        chosen.append(best)
        left.remove(best)
    return [one.question_id for one in chosen]


@given(st.lists(st.frozensets(st.integers(0, 8)), min_size=2, max_size=14))
def test_diverse_ones_equal_those_chosen_slowly(sets: list[frozenset[int]]) -> None:
    entries = [entry(f"q{i}", *ids) for i, ids in enumerate(sets)]
    pool, asked = Known(entries), entry("asked", 0, 1, 2, 3)
    found = find("diverse", Search(Known([asked]), pool, 3, NOBODY, 0))["asked"]
    assert names(found) == slow_marginal(asked, entries, 3)


def test_diverse_ones_are_looked_for_among_ten_times_as_many() -> None:
    asked = Known([entry("asked", *range(40))])
    pool = Known(
        [
            *(entry(f"q{i}", *range(39)) for i in range(20)),
            entry("far", 39, 200),  # shares with the question what no other does
        ]
    )
    two, three = (
        find("diverse", Search(asked, pool, count, NOBODY, 0))["asked"]
        for count in (2, 3)
    )
    assert names(two) == ["q0", "q1"]  # as the 21st of 20 candidates it is out of sight
    assert names(three)[:2] == ["q0", "far"]


def test_the_farthest_of_a_huge_pool_are_those_of_a_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Known([entry(f"q{i}", i, i + 1) for i in range(50)])
    monkeypatch.setattr(overlap, "EXACT_PAIRS", 50 * 10)
    found = find("farthest", Search(pool, pool, 3, NOBODY, 0))
    shown = {one.question_id for own in found.values() for one in own}
    assert len(shown) <= 10
    assert all("of 10 drawn: Jaccard" in own[0].reason for own in found.values())
    assert found == find("farthest", Search(pool, pool, 3, NOBODY, 0))
    assert all(len(own) == 3 and name not in names(own) for name, own in found.items())


@pytest.mark.parametrize("blocks", [(1, 1), (2, 3), (1000, 1000)])
def test_hidden_states_are_compared_in_blocks_with_the_same_result(
    blocks: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((60, 5)).astype(np.float32)
    table[40] = table[7] * 2  # as near as the earlier one
    pool = Known([entry(f"q{i}") for i in range(60)], states=list(table))
    units = table / np.linalg.norm(table, axis=1, keepdims=True)
    far = 1 - units.astype(np.float64) @ units.T
    np.fill_diagonal(far, np.inf)
    far[3, 5] = np.inf
    monkeypatch.setattr(states, "ASKED_AT_ONCE", blocks[0])
    monkeypatch.setattr(states, "COMPARED_AT_ONCE", blocks[1])
    monkeypatch.setattr(states, "MORE", 2)
    found = find("hidden-state", Search(pool, pool, 4, {"q3": frozenset({"q5"})}, 0))
    for i in range(60):
        order = np.argsort(np.round(far[i], 6), kind="stable")[:4]
        assert names(found[f"q{i}"]) == [f"q{j}" for j in order]


EVERY = sorted(CONTEXT_RULES)


@pytest.mark.parametrize("rule", EVERY)
@given(count=st.integers(0, 5), out=st.frozensets(st.sampled_from(IDS), max_size=2))
def test_every_rule_finds_as_many_as_there_are_and_none_that_is_barred(
    rule: str, count: int, out: frozenset[str]
) -> None:
    excluded = {"asked": out}
    found = find(rule, Search(POOL, POOL, count, excluded, 1))
    assert list(found) == list(IDS)
    for name, own in found.items():
        barred = {name} | (out if name == "asked" else set())
        assert len(own) == len(set(names(own))) == min(count, 6 - len(barred))
        assert not barred & set(names(own))
    assert found == find(rule, Search(POOL, POOL, count, excluded, 1))


@pytest.mark.parametrize("rule", EVERY)
def test_every_rule_reads_what_it_says_and_nothing_else(rule: str) -> None:
    """Without all other signals it finds the same; without its own it cannot."""
    reads = CONTEXT_RULES[rule].reads
    unread = [
        NeuronSet(name, None, ids_of(), np.empty(0, np.float32), 0) for name in IDS
    ]
    bare = replace(
        POOL, **{field: () for signal, field in FIELDS.items() if signal not in reads}
    )
    if Signal.ANSWER_NEURONS not in reads:
        bare = replace(bare, neurons=unread)
    whole = find(rule, Search(POOL, POOL, 3, NOBODY, 0))
    found = find(rule, Search(bare, bare, 3, NOBODY, 0))
    assert {n: names(own) for n, own in found.items()} == {
        n: names(own) for n, own in whole.items()
    }
    for signal in reads:
        without = replace(POOL, neurons=unread)
        if signal in FIELDS:
            without = replace(POOL, **{FIELDS[signal]: ()})
        for one, other in ((without, POOL), (POOL, without)):
            with pytest.raises(ValueError, match=f"reads {signal}, which nobody read"):
                find(rule, Search(one, other, 3, NOBODY, 0))


def test_a_rule_is_told_in_words() -> None:
    assert len({rule.help for rule in CONTEXT_RULES.values()}) == len(CONTEXT_RULES)
    neurons = {name for name, rule in CONTEXT_RULES.items() if rule.reads_neurons}
    assert neurons == {"nearest", "question-neurons", "diverse", "farthest"}


def test_the_rule_of_the_guide_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = Path(__file__).parents[2] / "docs/how-to/add-a-context-rule.md"
    blocks = guide.read_text("utf-8").split("```python\n")[1:]
    written, entry_text, _ = (block.partition("```")[0] for block in blocks)
    file = tmp_path / "lengths.py"
    file.write_text(written, "utf-8")
    spec = importlib.util.spec_from_file_location("lengths", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert "by_length" in entry_text
    rule = ContextRule(module.by_length, "", frozenset({Signal.TEXTS}))
    monkeypatch.setitem(CONTEXT_RULES, "length", rule)
    found = find("length", search(2))["asked"]
    assert names(found) == ["dog", "eel"]
    assert found[0].reason == "0 characters apart"


def test_the_medoid_is_the_set_that_is_nearest_to_the_others() -> None:
    sets = [ids_of(1, 2, 3, 4), ids_of(1, 2, 3), ids_of(1, 2), ids_of(9)]
    # 0: 1/4, 1/2, 1.  1: 1/4, 1/3, 1.  2: 1/2, 1/3, 1.  3: 1, 1, 1.
    means = [1.75 / 3, (1 / 4 + 1 / 3 + 1) / 3, (1 / 2 + 1 / 3 + 1) / 3, 1.0]
    cases = [([one == place for one in range(4)], place) for place in range(4)]
    for allowed, place in (
        *cases,
        ([True] * 4, 1),
        ([True, False, False, True], 0),
    ):
        found = medoid_of(sets, allowed)
        assert found is not None
        assert found[0] == place
        assert found[1] == pytest.approx(means[place])
    assert medoid_of(sets, [False] * 4) is None
    assert medoid_of([ids_of(1)], [True]) == (0, 0.0)
    assert medoid_of([ids_of(1), ids_of(2)], [True, True]) == (0, 1.0)  # the earlier
