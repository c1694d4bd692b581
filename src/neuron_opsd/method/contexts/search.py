"""Searches for demonstrations: what is known without labels, and what is found.

Axes: Q questions, D residual width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import compress
from sys import intern
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.retrieval.exact import Ranking, Rows
from neuron_opsd.records import NeuronIds, NeuronSet


class Signal(StrEnum):
    """What a rule may need to know about questions."""

    ANSWER_NEURONS = "neurons of the answers"
    QUESTION_NEURONS = "neurons of the questions"
    HIDDEN_STATES = "hidden states of the questions"
    TEXTS = "texts"
    OWN_ANSWERS = "own answers"
    CERTAINTY = "certainty"


OF_NEURONS: Final = frozenset({Signal.ANSWER_NEURONS, Signal.QUESTION_NEURONS})
"""Signals that need a model with readable neurons."""

OF_ANSWERS: Final = frozenset(
    {Signal.ANSWER_NEURONS, Signal.OWN_ANSWERS, Signal.CERTAINTY}
)
"""Signals that need the questions' answers."""


@dataclass(frozen=True, slots=True)
class Certainty:
    """How sure a model is of its own answer."""

    agreement: float
    """Share of the question's rollouts with that answer."""
    logprob: float
    """Log-probability of its own rollout, in nats per token."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of questions without labels; empty where no rule asks."""

    neurons: Sequence[NeuronSet]
    """``(Q,)`` of the questions' own answers; without ids if not read."""
    question_neurons: Sequence[NeuronSet] = ()
    """``(Q,)`` of the questions' own tokens."""
    states: Sequence[NDArray[np.float32]] = ()
    """``(Q, D)`` means of a middle layer's hidden states over a question's tokens."""
    texts: Sequence[str] = ()
    """``(Q,)`` question texts."""
    answers: Sequence[str | None] = ()
    """``(Q,)`` own answers as the model writes them; `None` if unreadable."""
    certainty: Sequence[Certainty] = ()
    """``(Q,)``."""

    @property
    def ids(self) -> list[str]:
        """``(Q,)``."""
        return [entry.question_id for entry in self.neurons]

    def lacks(self, signal: Signal) -> bool:
        """Whether a signal is missing for any question."""
        if signal is Signal.ANSWER_NEURONS:
            return any(entry.neuron_count is None for entry in self.neurons)
        return len(getattr(self, FIELDS[signal])) != len(self.neurons)

    def of(self, ids: AbstractSet[str]) -> Known:
        """Select some questions, in the same order."""
        kept = [name in ids for name in self.ids]
        values: dict[str, Any] = {}
        for field in fields(self):
            values[field.name] = tuple(compress(getattr(self, field.name), kept))
        return Known(**values)


FIELDS: Final = {
    Signal.QUESTION_NEURONS: "question_neurons",
    Signal.HIDDEN_STATES: "states",
    Signal.TEXTS: "texts",
    Signal.OWN_ANSWERS: "answers",
    Signal.CERTAINTY: "certainty",
}


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """What demonstrations are searched for, and where."""

    questions: Known
    pool: Known
    count: int
    excluded: Mapping[str, frozenset[str]]
    """By question id, the ids that may not be its demonstrations."""
    seed: int

    @property
    def barred(self) -> list[Rows]:
        """For each question, the pool rows it may not be shown, sorted."""
        return rows_barred(self.questions.ids, self.pool.ids, self.excluded)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A question of the pool found for another, and why."""

    question_id: str
    distance: float | None
    """As in a `Demonstration`."""
    reason: str


Found: TypeAlias = "dict[str, tuple[Neighbour, ...]]"
"""By question id, in order: the one to keep longest first."""


def jaccard_distance(a: NeuronIds, b: NeuronIds) -> float:
    """Return the share in [0, 1] of the neurons used by either but not by both.

    0 for equal sets, even empty ones. Source: Eq. 5 of arXiv:2607.02460.
    """
    num_shared = np.intersect1d(a, b, assume_unique=True).size
    num_used = a.size + b.size - num_shared
    return 1.0 - num_shared / num_used if num_used else 0.0


def medoid_of(
    sets: Sequence[NeuronIds], allowed: Sequence[bool]
) -> tuple[int, float] | None:
    """Return the place of the set nearest to all others, and its mean distance.

    Only `allowed` ones qualify; `None` if none is. Ties go to the earlier one.

    Source: NAD, arXiv:2510.26277, which takes the answer of such a sample.
    """
    table = np.zeros((len(sets), len(sets)))
    for i, one in enumerate(sets):
        for j in range(i):
            table[i, j] = table[j, i] = jaccard_distance(one, sets[j])
    means = table.sum(axis=1) / max(1, len(sets) - 1)
    distances = np.where(allowed, means, np.inf)
    if not np.isfinite(distances).any():
        return None
    place = int(np.argmin(distances))
    return place, float(distances[place])


def neighbours(
    ranking: Ranking, pool: Sequence[NeuronSet], what: str, said: str
) -> tuple[Neighbour, ...]:
    """Return ranked rows of the pool; `said` names how many and which distance.

    Millions of neighbours share a few thousand reasons.
    """
    return tuple(
        Neighbour(pool[row].question_id, far, intern(f"{what} {rank} {said} {far:.3f}"))
        for rank, (row, far) in enumerate(
            zip(ranking[0].tolist(), ranking[1].tolist(), strict=True), start=1
        )
    )


def as_found(
    search: Search, chosen: Iterable[tuple[Sequence[int], Iterable[str]]]
) -> Found:
    """Turn the rows chosen for each question, with reasons, into what is found."""
    pool = search.pool.neurons
    return {
        entry.question_id: tuple(
            Neighbour(pool[row].question_id, distance_between(entry, pool[row]), reason)
            for row, reason in zip(rows, reasons, strict=False)
        )
        for entry, (rows, reasons) in zip(search.questions.neurons, chosen, strict=True)
    }


def distance_between(one: NeuronSet, other: NeuronSet) -> float | None:
    """Return the distance of two entries; `None` if neurons were not read."""
    if one.neuron_count is None or other.neuron_count is None:
        return None
    return jaccard_distance(one.neuron_ids, other.neuron_ids)


def rows_barred(
    asked: Sequence[str], pool: Sequence[str], excluded: Mapping[str, frozenset[str]]
) -> list[Rows]:
    """Return each id's own rows in a pool and those it excludes, sorted.

    Ids that exclude the same set share rows: a million lists of a million would fill
    memory.
    """
    groups = {group for name in asked if (group := excluded.get(name))}
    rows_of: dict[str, list[int]] = {name: [] for name in {*asked}.union(*groups)}
    for row, name in enumerate(pool):
        if name in rows_of:
            rows_of[name].append(row)

    def rows(barred: Iterable[str]) -> Rows:
        return np.array(
            sorted(row for name in barred for row in rows_of[name]), np.int64
        )

    shared = {group: rows(group) for group in groups}

    def rows_for(name: str) -> Rows:
        group = excluded.get(name) or frozenset()
        return shared[group] if name in group else rows(group | {name})

    return [rows_for(name) for name in asked]
