"""Questions of the pool by neuron overlap: near, far, near but unlike each other.

Axes: Q questions asked for, P questions of the pool, C candidates of one question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.contexts.search import (
    Found,
    Neighbour,
    Search,
    neighbours,
    rows_barred,
)
from neuron_opsd.method.retrieval.approximate import approximate_nearest, measure_width
from neuron_opsd.method.retrieval.exact import (
    distance_rows,
    first,
    make_index,
    nearest_rows,
)
from neuron_opsd.records import NeuronIds, NeuronSet
from neuron_opsd.seeds import generator

DISTANCE: Final = "Jaccard distance"

BY_SKETCHES: Final = "by sketches, recall"
"""Marks demonstrations found without counting all."""

EXACT_PAIRS = 10**10
"""A pool of a hundred thousand with itself: some minutes on two cores."""

CANDIDATES: Final = 10
"""Nearest questions per demonstration to choose unlike ones from."""

RELEVANCE: Final = 0.5
"""Weight of similarity to the question; the rest is for dissimilarity to others."""


def by_answers(search: Search) -> Found:
    """Return the questions whose answers used similar neurons. Source: Algorithm 1."""
    asked, pool = search.questions.neurons, search.pool.neurons
    return nearest(asked, pool, search.count, search.excluded)


def by_questions(search: Search) -> Found:
    """Return the questions whose own tokens used similar neurons."""
    asked, pool = search.questions.question_neurons, search.pool.question_neurons
    return nearest(asked, pool, search.count, search.excluded)


def nearest(
    questions: Sequence[NeuronSet],
    pool: Sequence[NeuronSet],
    count: int,
    excluded: Mapping[str, frozenset[str]],
) -> Found:
    """Return the nearest of the pool by question id, nearest first.

    Beyond `EXACT_PAIRS` pairs, candidates come from sketches; the reasons then give the
    recall on a sample.

    `count` and `excluded` are as in `Search`; a question is never its own
    demonstration. Ties go to the earlier in the pool.
    """
    sets = [entry.neuron_ids for entry in questions]
    others = [entry.neuron_ids for entry in pool]
    barred = rows_barred(ids_of(questions), ids_of(pool), excluded)
    note = ""
    if len(sets) * len(others) <= EXACT_PAIRS:
        rankings = nearest_rows(make_index(others), sets, count, barred)
    else:
        width, sketches = measure_width(others, sets, barred, count)
        rankings = approximate_nearest(
            sketches, others, sets, barred, count, width.num_candidates
        )
        note = f" ({BY_SKETCHES} {width.recall:.3f})"
    said = f"of {len(pool) - 1}{note}: {DISTANCE}"
    return {
        entry.question_id: neighbours(ranking, pool, "nearest", said)
        for entry, ranking in zip(questions, rankings, strict=True)
    }


def farthest(search: Search) -> Found:
    """Return the questions with the least similar neurons, farthest first.

    Beyond `EXACT_PAIRS` pairs, only a sample of the pool is compared; the reasons give
    its size.
    """
    questions, pool = search.questions.neurons, list(search.pool.neurons)
    most = max(search.count + 1, EXACT_PAIRS // max(1, len(questions)))
    place = f"of {len(pool) - 1}"
    if len(pool) > most:
        rng = generator(search.seed, "contexts-farthest")
        rows = np.sort(rng.choice(len(pool), most, replace=False))
        pool, place = [pool[row] for row in rows], f"of {most} drawn"
    sets = [entry.neuron_ids for entry in questions]
    barred = rows_barred(ids_of(questions), ids_of(pool), search.excluded)
    distances = distance_rows(make_index([e.neuron_ids for e in pool]), sets)
    found = {}
    for entry, row, out in zip(questions, distances, barred, strict=True):
        row[out] = -np.inf
        rows, near = first(-row, search.count)
        said = f"{place}: {DISTANCE}"
        found[entry.question_id] = neighbours((rows, -near), pool, "farthest", said)
    return found


def diverse(search: Search) -> Found:
    """Return near questions unlike each other, by maximal marginal relevance.

    From `CANDIDATES` times as many nearest, it repeatedly takes the one with the
    highest ``r s(x, d) - (1 - r) max s(d, d')``, where s is 1 less the Jaccard
    distance, d' are those already chosen, and r is `RELEVANCE`.

    Source: Carbonell and Goldstein, "The use of MMR, diversity-based reranking for
    reordering documents and producing summaries", SIGIR 1998.
    """
    pool = search.pool.neurons
    near = nearest(
        search.questions.neurons, pool, CANDIDATES * search.count, search.excluded
    )
    set_of = {entry.question_id: entry.neuron_ids for entry in pool}
    found = {}
    for name, candidates in near.items():
        sets = [set_of[one.question_id] for one in candidates]
        distances = np.array([one.distance for one in candidates], np.float64)
        order = marginal_order(distances, sets, search.count)
        found[name] = tuple(
            Neighbour(one.question_id, one.distance, f"unlike {rank}, {one.reason}")
            for rank, one in enumerate((candidates[i] for i in order), start=1)
        )
    return found


def marginal_order(
    distances: NDArray[np.float64], sets: Sequence[NeuronIds], count: int
) -> list[int]:
    """Return the places of at most `count` chosen candidates, in order.

    Candidates come nearest first, with distances ``(C,)`` and neurons.
    """
    between = np.array(list(distance_rows(make_index(sets), sets)))
    relevance = RELEVANCE * (1.0 - distances)
    likeness = np.zeros(len(sets))
    order: list[int] = []
    for _ in repeat(None, min(count, len(sets))):
        gains = relevance - (1.0 - RELEVANCE) * likeness
        gains[order] = -np.inf
        best = int(np.argmax(gains))
        order.append(best)
        likeness = np.maximum(likeness, 1.0 - between[best])
    return order


def stated_recall(reason: str) -> float | None:
    """Return the recall stated in a reason, if the search used sketches.

    Version 0.1 called sketches signatures.
    """
    found = re.search(r"\(by (?:sketches|signatures), recall ([01]\.\d+)\)", reason)
    return float(found[1]) if found else None


def ids_of(entries: Sequence[NeuronSet]) -> list[str]:
    """Return the question ids of some neuron sets."""
    return [entry.question_id for entry in entries]
