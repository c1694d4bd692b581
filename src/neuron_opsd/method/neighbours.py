"""Which questions of the pool are nearest to a question, or drawn for it.

Axes: Q questions asked for, P questions of the pool.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from sys import intern
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.retrieval.approximate import approximate_nearest, measure_width
from neuron_opsd.method.retrieval.exact import Ranking, make_index, nearest_rows
from neuron_opsd.records import NeuronIds, NeuronSet
from neuron_opsd.seeds import generator

WORD: Final = re.compile(r"\w+")

BY_SKETCHES: Final = "by sketches, recall"
"""Stands in the reason for a demonstration that was not found by counting all."""

EXACT_PAIRS = 10**10
"""A hundred thousand questions of a pool of as many: some minutes on two cores."""

MOST_PERMUTED: Final = 2**15
"""Questions of a pool up to which random ones are the first of a permutation of all."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A question of the pool and how far its neurons are."""

    question_id: str
    distance: float | None
    """Jaccard distance in [0, 1]; `None` where no neurons were read."""
    reason: str


def jaccard_distance(a: NeuronIds, b: NeuronIds) -> float:
    """Return the share in [0, 1] of the neurons used by either but not by both.

    It is 0 for equal sets, two empty ones included. Source: Eq. 5 of arXiv:2607.02460.
    """
    num_shared = np.intersect1d(a, b, assume_unique=True).size
    num_used = a.size + b.size - num_shared
    return 1.0 - num_shared / num_used if num_used else 0.0


def distance_between(one: NeuronSet, other: NeuronSet) -> float | None:
    """Return the distance of two entries, `None` where their neurons were not read."""
    if one.neuron_count is None or other.neuron_count is None:
        return None
    return jaccard_distance(one.neuron_ids, other.neuron_ids)


def nearest(
    questions: Sequence[NeuronSet],
    pool: Sequence[NeuronSet],
    count: int,
    excluded: Mapping[str, frozenset[str]],
) -> dict[str, tuple[Neighbour, ...]]:
    """Return by question id the nearest of the pool, nearest first.

    All distances are counted up to `EXACT_PAIRS` of a question and one of the pool.
    Beyond, candidates are found by sketches and their distances counted; the reasons
    then say so, and what share of the true nearest a sample shows to be found.

    The arguments are those of a `contexts.Search`; a question is never its own
    demonstration, and `excluded` bars others, such as questions of the same text. Ties
    go to the question that stands earlier in the pool.
    """
    sets = [entry.neuron_ids for entry in questions]
    others = [entry.neuron_ids for entry in pool]
    barred = barred_rows(questions, pool, excluded)
    note = ""
    if len(sets) * len(others) <= EXACT_PAIRS:
        rankings = nearest_rows(make_index(others), sets, count, barred)
    else:
        width, sketches = measure_width(others, sets, barred, count)
        rankings = approximate_nearest(
            sketches, others, sets, barred, count, width.num_candidates
        )
        note = f" ({BY_SKETCHES} {width.recall:.3f})"
    place = f"of {len(pool) - 1}{note}"
    return {
        entry.question_id: tuple(neighbours(ranking, pool, place))
        for entry, ranking in zip(questions, rankings, strict=True)
    }


def stated_recall(reason: str) -> float | None:
    """Return the recall that a reason states of a search by sketches, if it was one.

    Version 0.1 called sketches signatures.
    """
    found = re.search(r"\(by (?:sketches|signatures), recall ([01]\.\d+)\)", reason)
    return float(found[1]) if found else None


def word_sets(texts: Mapping[str, str]) -> dict[str, NeuronIds]:
    """Return the words of texts as sets of numbers, by the id of the question.

    So the same search finds the questions with the most similar words, as a control of
    the search by neurons. Words are compared without case, and those of all texts are
    numbered together.
    """
    met: dict[str, int] = {}
    found = {
        name: np.array(
            [met.setdefault(word, len(met)) for word in words_of(text)], np.uint32
        )
        for name, text in texts.items()
    }
    # The number of a word is its place among all words, whatever text is first.
    places = np.empty(len(met), np.uint32)
    places[[met[word] for word in sorted(met)]] = np.arange(len(met), dtype=np.uint32)
    return {name: np.sort(places[ids]) for name, ids in found.items()}


def words_of(text: str) -> set[str]:
    """Return the words of a text without case."""
    return set(WORD.findall(text.lower()))


def with_words(
    entries: Sequence[NeuronSet], sets: Mapping[str, NeuronIds]
) -> list[NeuronSet]:
    """Return entries whose sets are those of their questions' words."""
    return [replace(entry, neuron_ids=sets[entry.question_id]) for entry in entries]


def barred_rows(
    questions: Sequence[NeuronSet],
    pool: Sequence[NeuronSet],
    excluded: Mapping[str, frozenset[str]],
) -> list[NDArray[np.int64]]:
    """Return for every question the rows of the pool that it may not be shown."""
    asked = [entry.question_id for entry in questions]
    return rows_barred(asked, [other.question_id for other in pool], excluded)


def rows_barred(
    asked: Sequence[str], pool: Sequence[str], excluded: Mapping[str, frozenset[str]]
) -> list[NDArray[np.int64]]:
    """Return for every id its own rows in a pool and those of the ids it excludes.

    Rows are sorted. Ids that exclude one set, as all questions of one text do, share
    their rows as well: a million lists of a million would fill memory.
    """
    groups = {group for name in asked if (group := excluded.get(name))}
    rows_of: dict[str, list[int]] = {name: [] for name in {*asked}.union(*groups)}
    for row, name in enumerate(pool):
        if name in rows_of:
            rows_of[name].append(row)

    def rows(barred: Iterable[str]) -> NDArray[np.int64]:
        return np.array(
            sorted(row for name in barred for row in rows_of[name]), np.int64
        )

    shared = {group: rows(group) for group in groups}

    def rows_for(name: str) -> NDArray[np.int64]:
        group = excluded.get(name) or frozenset()
        return shared[group] if name in group else rows(group | {name})

    return [rows_for(name) for name in asked]


def neighbours(
    ranking: Ranking, pool: Sequence[NeuronSet], place: str
) -> Iterator[Neighbour]:
    """Yield the found rows of the pool as records; `place` says among how many."""
    for rank, (row, distance) in enumerate(zip(*ranking, strict=True), start=1):
        # Millions of neighbours share a few thousand reasons.
        reason = intern(f"nearest {rank} {place}: Jaccard distance {distance:.3f}")
        yield Neighbour(pool[int(row)].question_id, float(distance), reason)


def random_neighbours(
    questions: Sequence[NeuronSet],
    pool: Sequence[NeuronSet],
    count: int,
    excluded: Mapping[str, frozenset[str]],
    seed: int,
) -> dict[str, tuple[Neighbour, ...]]:
    """Return random questions of the pool for every question, the paper's control."""
    found = {}
    barred = barred_rows(questions, pool, excluded)
    reasons = [f"drawn at random, place {place}" for place in range(1, count + 1)]
    for entry, out in zip(questions, barred, strict=True):
        rng = generator(seed, "contexts", entry.question_id)
        rows = drawn_rows(rng, len(pool), out, count)
        found[entry.question_id] = tuple(
            Neighbour(pool[row].question_id, distance_between(entry, pool[row]), reason)
            for row, reason in zip(rows, reasons, strict=False)
        )
    return found


def drawn_rows(
    rng: np.random.Generator, num_rows: int, barred: NDArray[np.int64], count: int
) -> list[int]:
    """Draw different rows of a pool, in random order.

    Up to `MOST_PERMUTED` rows are permuted and the first taken. Of more, which would
    take as long for each question as there are rows, only those asked for are drawn.
    Barred rows are sorted; all others are drawn if they are fewer than `count`.
    """
    num_free = num_rows - barred.size
    if num_free <= MOST_PERMUTED:
        places = rng.permutation(num_free)[:count]
    else:
        places = rng.choice(num_free, min(count, num_free), replace=False)
    return [free_row(place, barred) for place in places.tolist()]


def free_row(place: int, barred: NDArray[np.int64]) -> int:
    """Return the row at a place, from 0, among those that are not barred (sorted)."""
    num_before = bisect_right(
        range(barred.size), place, key=lambda i: int(barred[i]) - i
    )
    return place + num_before
