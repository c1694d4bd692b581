"""Decide which side of a split a question falls on: pool or test.

A hash of the first row of its group decides, so appended rows move no others, unless
one joins two groups or nearly equals one of the test, which then moves to the pool.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.data.overlap import TestTexts, words_of
from neuron_opsd.data.passages import Passages, shared_passages
from neuron_opsd.data.rows import digest_of
from neuron_opsd.records import Question
from neuron_opsd.seeds import derive_seed

PURPOSE: Final = "split"


@dataclass(frozen=True, slots=True)
class Rule:
    """How questions are divided."""

    seed: int
    test_share: float
    """Share of the groups, in (0, 1), and about that of the questions."""
    passage_words: int
    """Words in a row that make a passage; 0 for none."""
    max_overlap: float
    """Share of a question's word runs above which another is nearly equal."""


@dataclass(frozen=True, slots=True)
class Sides:
    """The two sides, and what changed the random split."""

    in_test: NDArray[np.bool_]
    """``(Q,)``."""
    group_of: NDArray[np.int64]
    """``(Q,)`` the first row of each one's group."""
    passages: Passages
    near: int = 0
    """Questions moved to the pool as nearly equal to one there."""
    unlabelled: int = 0
    """Questions put in the pool as their group has one without an answer."""
    unsure: int = 0
    """Pool questions not compared with all similar ones."""


def divide(
    questions: Sequence[Question],
    groups: Sequence[str],
    labelled: Iterable[str],
    rule: Rule,
) -> Sides:
    """Divide questions into pool and test.

    `groups` has each question's group, empty for none; `labelled` the ids with an
    answer.
    """
    passages = Passages(np.empty((0, 2), np.int64))
    if rule.passage_words:
        passages = shared_passages((q.text for q in questions), rule.passage_words)
    keys = [
        f"group {group}" if group else f"text {' '.join(words_of(question.text))}"
        for question, group in zip(questions, groups, strict=True)
    ]
    group_of = joined([*same_key(keys), *passages.pairs.tolist()], len(keys))
    drawn = {
        first: derive_seed(rule.seed, PURPOSE, keys[first]) < rule.test_share * 2**63
        for first in set(group_of.tolist())
    }
    in_test = np.array([drawn[first] for first in group_of.tolist()], bool)
    known = set(labelled)
    lacks = np.array([question.id not in known for question in questions], bool)
    lacking = np.isin(group_of, group_of[lacks]) & in_test
    in_test &= ~lacking
    near, unsure = settle_near(questions, group_of, in_test, rule.max_overlap)
    unlabelled = int(lacking.sum())
    return Sides(in_test, group_of, passages, near, unlabelled, unsure)


def same_key(keys: Sequence[str]) -> list[tuple[int, int]]:
    """Return pairs of rows with equal keys, each with the first such row."""
    first: dict[bytes, int] = {}
    pairs = []
    for row, key in enumerate(keys):
        before = first.setdefault(digest_of(key), row)
        if before != row:
            pairs.append((before, row))
    return pairs


def joined(pairs: Iterable[Sequence[int]], count: int) -> NDArray[np.int64]:
    """Return for each row the first that it is joined to, maybe itself."""
    above = list(range(count))

    def top(row: int) -> int:
        while above[row] != row:
            above[row] = row = above[above[row]]
        return row

    for one, other in pairs:
        first, last = sorted((top(one), top(other)))
        above[last] = first
    return np.array([top(row) for row in range(count)], np.int64)


def settle_near(
    questions: Sequence[Question],
    group_of: NDArray[np.int64],
    in_test: NDArray[np.bool_],
    max_overlap: float,
) -> tuple[int, int]:
    """Move groups out of the test until nothing in it nearly equals a pool question.

    A run measures similarity the same way, so none refuses the split.

    Returns:
        Questions moved, and pool questions not fully compared.
    """
    row_of = {question.id: row for row, question in enumerate(questions)}
    tests = {"": [questions[row] for row in np.flatnonzero(in_test).tolist()]}
    index = TestTexts(tests, max_overlap)
    moved = unsure = 0
    fresh = np.flatnonzero(~in_test)
    while fresh.size:
        unsure += sum(not index.look(row, questions[row]) for row in fresh.tolist())
        found = [row_of[name] for _, name, _ in index.found()]
        leaving = np.isin(group_of, group_of[found]) & in_test
        in_test &= ~leaving
        fresh = np.flatnonzero(leaving)
        moved += fresh.size
    return moved, unsure
