"""What a pool of a million questions takes: counted in steps and memory, not seconds.

Each is measured on an input and on one four times as large of the kind that is worst
for it: questions of one text, sets that are all alike or have nothing in common.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, overload

import numpy as np
import pytest

from neuron_opsd.config import ContextsConfig, SelectionConfig
from neuron_opsd.data import near_texts
from neuron_opsd.data.near_texts import Sought, Walk
from neuron_opsd.data.overlap import TestTexts, check_overlap, duplicates_of
from neuron_opsd.method import schedule, selection
from neuron_opsd.method.contexts.drawn import drawn_rows
from neuron_opsd.method.contexts.overlap import nearest
from neuron_opsd.method.contexts.search import Known, rows_barred
from neuron_opsd.method.retrieval import (
    approximate,
    bitsets,
    sketches,
)
from neuron_opsd.method.retrieval.bitsets import count_sets
from neuron_opsd.method.schedule import batch_at
from neuron_opsd.method.selection import ranking
from neuron_opsd.records import Message, NeuronSet, Question
from neuron_opsd.seeds import generator
from neuron_opsd.stages.teaching import DemonstrationPool, check_enough
from neuron_opsd.storage.codecs import read_listing, write_listing
from neuron_sets import ids_of, random_neighbours

LINEAR = 5.0
"""At most, of four times the input; what grows with its square takes sixteen times."""
CONSTANT = 1.5


def peak_of(call: Callable[[], object]) -> int:
    """Return the most bytes held meanwhile, the result with them."""
    call()  # what is made once only
    gc.collect()
    tracemalloc.start()
    try:
        held = call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        del held


def growth_of(call: Callable[[int], object], size: int) -> float:
    """Return how many times as much memory four times the input takes."""
    return peak_of(lambda: call(4 * size)) / peak_of(lambda: call(size))


def ask(number: int, text: str, choices: Sequence[str] = ()) -> Question:
    return Question(f"q{number}", (Message("user", text),), tuple(choices))


def entry(name: str, *neurons: int) -> NeuronSet:
    ids = ids_of(*neurons)
    return NeuronSet(name, ids.size, ids, np.ones(ids.size, np.float32), 1)


def stems(count: int) -> list[Question]:
    """Return questions of one text with choices of their own."""
    text = "Which of the following statements about plants and light is true?"
    return [ask(n, text, [f"{n} a", f"{n} b"]) for n in range(count)]


def filled_in(count: int, seed: int = 0, first: int = 0) -> list[Question]:
    """Return questions from one template with three numbers."""
    rng = np.random.default_rng(seed)
    return [
        ask(
            first + n,
            "A baker makes {} loaves in the morning and sells {} of them before noon. "
            "In the afternoon he makes {} more. How many are left?".format(
                *rng.integers(10, 99, 3)
            ),
        )
        for n in range(count)
    ]


def test_questions_of_one_text_do_not_each_list_all_others() -> None:
    assert growth_of(lambda size: duplicates_of(stems(size)), 150) < LINEAR


def test_rows_barred_for_questions_of_one_text_are_listed_once() -> None:
    def barred(size: int) -> object:
        pool = [f"q{n}" for n in range(size)]
        return rows_barred(pool, pool, duplicates_of(stems(size)))

    assert growth_of(barred, 150) < LINEAR


def test_looking_for_test_questions_holds_one_question_of_the_pool_at_a_time() -> None:
    tests = {"exam": filled_in(20, seed=1, first=9000)}

    def look(size: int) -> list[str]:
        return check_overlap(pools[size], tests, 1.0)

    pools = {size: filled_in(size) for size in (100, 400)}
    assert growth_of(look, 100) < CONSTANT


def steps_of(texts: TestTexts, pool: list[Question]) -> list[int]:
    """Return how many comparisons each question of a pool took."""
    taken = []
    look = Walk.below

    def counted(walk: Walk, *arguments: Any) -> Iterator[Sought]:
        first = walk.steps
        yield from look(walk, *arguments)
        taken.append(first - walk.steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Walk, "below", counted)
        assert all(texts.look(place, question) for place, question in enumerate(pool))
    return taken


def test_a_question_meets_few_of_the_test_questions_from_its_template() -> None:
    pool = filled_in(20)
    few, many = (
        max(steps_of(TestTexts({"exam": filled_in(size, 1)}, 0.9), pool))
        for size in (1500, 6000)
    )
    assert 0 < few < 200
    assert many <= CONSTANT * few


def test_what_is_found_is_not_met_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """All texts of one stem are near all others; each is found once."""
    monkeypatch.setattr(near_texts, "LEAST_STEPS", 10**6)
    stem = "one two three four five " * 8
    pool = [ask(n, f"x {n} {stem}") for n in range(3)]
    texts = TestTexts({"exam": [ask(n, f"{n} {stem}") for n in range(400)]}, 0.5)
    first, _, last = steps_of(texts, pool)
    assert len(list(texts.found())) == 400
    assert first >= 400
    assert last < 40


class Counted(Sequence[NeuronSet]):
    """A pool that counts how often one of its entries is looked at."""

    def __init__(self, entries: Sequence[NeuronSet]) -> None:
        self.entries = entries
        self.looks = 0

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, place: int) -> NeuronSet: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[NeuronSet]: ...
    def __getitem__(self, place: int | slice) -> NeuronSet | Sequence[NeuronSet]:
        self.looks += 1
        return self.entries[place]


def test_random_contexts_do_not_go_through_the_pool_for_each_question() -> None:
    pool = Counted([entry(f"q{n}", n) for n in range(400)])
    random_neighbours(pool.entries[:50], pool, 3, {}, 0)
    assert pool.looks <= 400 + 1 + 50 * 3 * 2


def test_rows_are_drawn_from_a_pool_that_no_memory_holds() -> None:
    barred = np.array([0, 7, 10**12])
    rows = drawn_rows(generator("growth"), 10**15, barred, 10)
    assert len(set(rows)) == 10
    assert peak_of(lambda: drawn_rows(generator(0), 10**15, barred, 10)) < 10**5


def test_a_pass_over_the_examples_is_permuted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = []

    def counted(*parts: int | str) -> np.random.Generator:
        drawn.append(parts)
        return generator(*parts)

    monkeypatch.setattr(schedule, "generator", counted)
    batches = [batch_at(step, 100, 16, 12345) for step in range(13)]
    assert drawn == [(12345, "batch", epoch) for epoch in range(3)]
    rng = generator(12345, "batch", 0)
    assert batches[0] == rng.permutation(100)[:16].tolist()


class Group(AbstractSet[str]):
    """Ids that count how often they are compared with others."""

    def __init__(self, ids: frozenset[str]) -> None:
        self.ids = ids
        self.compared = 0

    def __contains__(self, name: object) -> bool:
        return name in self.ids

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __hash__(self) -> int:
        return 1

    def __rand__(self, other: Any) -> Any:
        self.compared += 1
        return other & self.ids

    def __rsub__(self, other: Any) -> Any:
        self.compared += 1
        return other - self.ids

    def __or__(self, other: Any) -> Any:
        self.compared += 1
        return self.ids | other


def test_questions_of_one_text_are_counted_out_once() -> None:
    names = [f"q{n}" for n in range(60)]
    group: Any = Group(frozenset(names[:50]))
    library = DemonstrationPool(
        {},
        {},
        Known([entry(name, 1) for name in names]),
        dict.fromkeys(names, group),
    )
    check_enough(names, library, ContextsConfig(num_demonstrations=9))
    assert group.compared == 1


class Told(str):
    """An answer that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Told.compared += 1
        return str.__eq__(self, other)

    def __hash__(self) -> int:
        return str.__hash__(self)


def test_balancing_compares_each_answer_a_few_times() -> None:
    answers = [Told(f"answer {n % 200}") for n in range(1000)]
    Told.compared = 0
    groups = ranking.groups_of(answers, 0.2, balance=True)
    assert [group.size for group in groups] == [5] * 200
    assert Told.compared <= 5 * 1000


class Watched(np.ndarray[Any, Any]):
    """Marks of a whole pool that count how often they are gone through."""

    looks = 0

    def __invert__(self) -> Any:
        Watched.looks += 1
        return ~np.asarray(self)


def test_the_place_of_a_question_is_told_without_counting_the_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unread = np.zeros(50, np.bool_).view(Watched)
    monkeypatch.setattr(ranking, "unread_questions", lambda *_: unread)
    pool = [entry(f"q{n}", *range(n + 1)) for n in range(50)]
    Watched.looks = 0
    found = selection.select_questions(
        selection.PoolSignals(pool), SelectionConfig(), 0
    )
    assert found[3].reason == "4 neurons, place 4 of 50 from the fewest"
    assert Watched.looks == 3


def test_neurons_that_few_sets_share_are_merged_a_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bitsets, "SETS_PER_CHUNK", 2)
    sorted_names = 0
    unique = np.unique

    def counted(values: Any, **options: Any) -> Any:
        nonlocal sorted_names
        sorted_names += len(values)
        return unique(values, **options)

    monkeypatch.setattr(np, "unique", counted)

    def count(size: int) -> int:
        nonlocal sorted_names
        sorted_names = 0
        names, counts = count_sets([ids_of(n, n + 1) for n in range(size)])
        assert names.tolist() == list(range(size + 1))
        assert counts.sum() == 2 * size
        return sorted_names

    assert count(800) < LINEAR * count(200)


def test_questions_of_one_text_ask_for_no_more_candidates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    search = sketches.nearest_sketches

    def counted(cut: Any, sets: Any, count: int, *rest: Any) -> Any:
        asked.append(count)
        return search(cut, sets, count, *rest)

    monkeypatch.setattr(approximate, "nearest_sketches", counted)
    monkeypatch.setattr("neuron_opsd.method.contexts.overlap.EXACT_PAIRS", 0)
    pool = [entry(f"q{n}", n % 7, n % 11) for n in range(900)]
    found = nearest(pool[:2], pool, 3, duplicates_of(stems(800)))
    assert all(int(n.question_id[1:]) >= 800 for n in found["q0"])
    assert max(asked) <= max(approximate.NUM_CANDIDATES)


def test_listings_are_written_and_read_record_by_record(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    line = b'{"id": "a question", "reason": "a long enough reason for this one"}'

    def write_and_read(size: int) -> int:
        write_listing((line for _ in range(size)), path)
        return sum(1 for _ in read_listing(path))

    assert write_and_read(10) == 10
    assert growth_of(write_and_read, 1000) < CONSTANT
