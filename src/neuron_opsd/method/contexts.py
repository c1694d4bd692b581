"""Which questions of the pool become a question's demonstrations.

Axes: Q questions asked for, P questions of the pool.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from sys import intern
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.candidates import measure_width, nearest_candidates
from neuron_opsd.method.neighbours import (
    Ranking,
    distance_rows,
    make_index,
    nearest_rows,
)
from neuron_opsd.records import NeuronIds, NeuronSet
from neuron_opsd.seeds import generator

WORD: Final = re.compile(r"\w+")

EXACT_PAIRS = 10**10
"""A hundred thousand questions of a pool of as many: some minutes on two cores."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A question of the pool and how far its neurons are."""

    question_id: str
    distance: float | None
    """Jaccard distance in [0, 1]; `None` where no neurons were read."""
    reason: str


def jaccard_distance(a: NeuronIds, b: NeuronIds) -> float:
    """Return the share of the neurons used by either completion but not by both.

    Returns:
        A distance in [0, 1]; 0 for equal sets, two empty ones included.

    Source: Eq. 5 of arXiv:2607.02460.
    """
    num_shared = np.intersect1d(a, b, assume_unique=True).size
    num_used = a.size + b.size - num_shared
    return 1.0 - num_shared / num_used if num_used else 0.0


def distance_between(one: NeuronSet, other: NeuronSet) -> float | None:
    """Return the distance of two entries, `None` where their neurons were not read."""
    if one.neuron_count is None or other.neuron_count is None:
        return None
    return jaccard_distance(one.neuron_ids, other.neuron_ids)


def jaccard_distances(
    rows: Sequence[NeuronIds], columns: Sequence[NeuronIds]
) -> NDArray[np.float64]:
    """Return the distances ``(Q, P)`` between two lists of sets.

    Equal to `jaccard_distance` of every pair, bit for bit.
    """
    found = list(distance_rows(make_index(columns), rows))
    return np.array(found).reshape(len(rows), len(columns))


def nearest(
    questions: Sequence[NeuronSet],
    pool: Sequence[NeuronSet],
    count: int,
    excluded: Mapping[str, frozenset[str]],
) -> dict[str, tuple[Neighbour, ...]]:
    """Return for every question the nearest of the pool, nearest first.

    All distances are counted up to `EXACT_PAIRS` of a question and one of the pool.
    Beyond, candidates are found by signatures and their distances counted; the reasons
    then say so, and what share of the true nearest a sample shows to be found.

    Args:
        questions: Those that need demonstrations.
        pool: Those that may become one.
        count: Demonstrations for each question.
        excluded: For a question's id the ids that may not be its demonstrations, such
            as questions of the same text; the question itself never may.

    Returns:
        By question id; ties go to the question that stands earlier in the pool.
    """
    sets = [entry.neuron_ids for entry in questions]
    library = [entry.neuron_ids for entry in pool]
    barred = barred_rows(questions, pool, excluded)
    note = ""
    if len(sets) * len(library) <= EXACT_PAIRS:
        rankings = nearest_rows(make_index(library), sets, count, barred)
    else:
        width, signatures = measure_width(library, sets, barred, count)
        rankings = nearest_candidates(
            signatures, library, sets, barred, count, width.num_candidates
        )
        note = f" (by signatures, recall {width.recall:.3f})"
    place = f"of {len(pool) - 1}{note}"
    return {
        entry.question_id: tuple(neighbours(ranking, pool, place))
        for entry, ranking in zip(questions, rankings, strict=True)
    }


def by_words(entries: Sequence[NeuronSet], texts: Mapping[str, str]) -> list[NeuronSet]:
    """Return entries whose sets are those of their questions' words.

    So the same search finds the questions with the most similar words, as a control of
    the search by neurons. Words are compared without case.

    Args:
        entries: Of questions, each of whose ids has a text.
        texts: Question id to what is asked; the words of all are numbered together.
    """
    words = {name: set(WORD.findall(text.lower())) for name, text in texts.items()}
    number = {word: i for i, word in enumerate(sorted(set().union(*words.values())))}
    return [
        replace(
            entry,
            neuron_ids=np.array(
                sorted(number[word] for word in words[entry.question_id]), np.uint32
            ),
        )
        for entry in entries
    ]


def barred_rows(
    questions: Sequence[NeuronSet],
    pool: Sequence[NeuronSet],
    excluded: Mapping[str, frozenset[str]],
) -> list[NDArray[np.int64]]:
    """Return for every question the rows of the pool that it may not be shown."""
    barred = [
        excluded.get(entry.question_id, frozenset()) | {entry.question_id}
        for entry in questions
    ]
    rows_of: dict[str, list[int]] = {name: [] for names in barred for name in names}
    for row, other in enumerate(pool):
        if other.question_id in rows_of:
            rows_of[other.question_id].append(row)
    return [
        np.array(sorted(row for name in names for row in rows_of[name]), np.int64)
        for names in barred
    ]


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
    for entry in questions:
        barred = excluded.get(entry.question_id, frozenset()) | {entry.question_id}
        allowed = [other for other in pool if other.question_id not in barred]
        order = generator(seed, "contexts", entry.question_id).permutation(len(allowed))
        drawn = [allowed[int(i)] for i in order[:count]]
        found[entry.question_id] = tuple(
            Neighbour(
                other.question_id,
                distance_between(entry, other),
                f"drawn at random, place {place}",
            )
            for place, other in enumerate(drawn, start=1)
        )
    return found
