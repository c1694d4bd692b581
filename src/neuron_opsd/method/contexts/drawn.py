"""Demonstrations chosen without similarity: random ones, or the same for all."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from sys import intern
from typing import Final

import numpy as np

from neuron_opsd.method.contexts.search import Found, Search, as_found
from neuron_opsd.method.retrieval.exact import Rows
from neuron_opsd.seeds import generator

MOST_PERMUTED: Final = 2**15
"""Largest pool that is permuted to sample from it."""

FILLED: Final = "for want of others with the same own answer"
"""Marks demonstrations without the answer that the rule wants."""


def at_random(search: Search) -> Found:
    """Return random questions of the pool for each question, the paper's control."""
    reasons = [f"drawn at random, place {p}" for p in range(1, search.count + 1)]
    size = len(search.pool.neurons)
    rngs = (generator(search.seed, "contexts", name) for name in search.questions.ids)
    each = zip(rngs, search.barred, strict=True)
    drawn = (drawn_rows(rng, size, barred, search.count) for rng, barred in each)
    return as_found(search, ((rows, reasons) for rows in drawn))


def with_same_answer(search: Search) -> Found:
    """Return random questions with the same own answer as the question.

    Where these run out, as for a question without an answer, others are added.
    """
    rows_of: dict[str | None, list[int]] = {}
    for row, answer in enumerate(search.pool.answers):
        rows_of.setdefault(answer, []).append(row)
    groups = {answer: np.array(rows, np.int64) for answer, rows in rows_of.items()}
    groups[None] = nobody = np.empty(0, np.int64)
    asked = search.questions

    def each() -> Iterator[tuple[list[int], list[str]]]:
        known = zip(asked.ids, asked.answers, search.barred, strict=True)
        for name, answer, barred in known:
            rng = generator(search.seed, "contexts-same-answer", name)
            alike = groups.get(answer, nobody)
            yield same_answer_rows(rng, search, alike, barred)

    return as_found(search, each())


def same_answer_rows(
    rng: np.random.Generator, search: Search, alike: Rows, barred: Rows
) -> tuple[list[int], list[str]]:
    """Sample `alike` rows, then others, none barred, with the reason for each."""
    inside = places_of(barred, alike)
    rows = alike[drawn_rows(rng, alike.size, inside, search.count)].tolist()
    among = f"among {alike.size - inside.size} with the same own answer"
    reasons = [
        intern(f"drawn at random {among}, place {p}") for p in range(1, len(rows) + 1)
    ]
    lacking = search.count - len(rows)
    if lacking:
        out = np.union1d(alike, barred)
        others = drawn_rows(rng, len(search.pool.neurons), out, lacking)
        rows += others
        reasons += [f"drawn at random {FILLED}"] * len(others)
    return rows, reasons


def one_set(search: Search) -> Found:
    """Return the same questions for all: those with the surest answers.

    Each round takes the surest question of every own answer, by the share of votes for
    it, then by log-probability. No two have the same text. A question in the set, or
    with a text in it, gets the next one instead.
    """
    order = spread_order(search)
    pool = search.pool
    reasons = {
        row: intern(
            f"the same for all questions, place {place}: "
            f"{pool.certainty[row].agreement:.0%} of its votes agree, "
            f"{pool.certainty[row].logprob:.2f} nats a token"
        )
        for place, row in enumerate(islice(order, 2 * search.count + 1), start=1)
    }

    def each() -> Iterator[tuple[list[int], list[str]]]:
        for barred in search.barred:
            free = (row for row in order if not places_of(np.array([row]), barred).size)
            rows = list(islice(free, search.count))
            yield rows, [reasons.get(row, "the same for all questions") for row in rows]

    return as_found(search, each())


def spread_order(search: Search) -> list[int]:
    """Return the pool's rows in the order in which they enter the set.

    Rows that repeat a text come at the end.
    """
    sure, answers = search.pool.certainty, search.pool.answers
    surest = sorted(
        range(len(sure)), key=lambda row: (-sure[row].agreement, -sure[row].logprob)
    )
    rounds: Counter[str | None] = Counter()
    in_round = []
    for row in surest:
        in_round.append((rounds[answers[row]], row))
        rounds[answers[row]] += 1
    in_round.sort(key=lambda one: one[0])
    ids = search.pool.ids
    met: set[str] = set()
    order: list[int] = []
    again: list[int] = []
    for _, row in in_round:
        (again if ids[row] in met else order).append(row)
        met |= search.excluded.get(ids[row], frozenset())
    return order + again


def places_of(some: Rows, rows: Rows) -> Rows:
    """Return the places in `rows` of those in `some`, both sorted.

    Fast even if there are many `rows`.
    """
    places = np.searchsorted(rows, some)
    known = places < rows.size
    known[known] = rows[places[known]] == some[known]
    return places[known]


def drawn_rows(
    rng: np.random.Generator, num_rows: int, barred: Rows, count: int
) -> list[int]:
    """Sample distinct rows of a pool, in random order.

    Barred rows are sorted; if fewer than `count` others are left, all are taken.
    """
    num_free = num_rows - barred.size
    if num_free <= MOST_PERMUTED:
        places = rng.permutation(num_free)[:count]
    else:
        places = rng.choice(num_free, min(count, num_free), replace=False)
    return [free_row(place, barred) for place in places.tolist()]


def free_row(place: int, barred: Rows) -> int:
    """Return the row at a place, from 0, among those not barred (sorted)."""
    num_before = bisect_right(
        range(barred.size), place, key=lambda i: int(barred[i]) - i
    )
    return place + num_before
