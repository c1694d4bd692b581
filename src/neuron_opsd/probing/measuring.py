"""Measures of what teachers said, over questions, with intervals.

Axes: Q questions, R rows of weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from neuron_opsd.method.association import Measures as Measure
from neuron_opsd.method.association import measure_resamples
from neuron_opsd.method.contexts import CONTEXT_RULES
from neuron_opsd.method.selection import SELECTION_RULES
from neuron_opsd.method.statistics import BoolArray, FloatArray, means
from neuron_opsd.probing.columns import Columns
from neuron_opsd.records import Vote
from neuron_opsd.records.scores import Interval
from neuron_opsd.results.probe import (
    ACCURACY,
    LEAD,
    ContextResult,
    Measures,
    PairResult,
    SelectionResult,
)
from neuron_opsd.seeds import generator

NUM_RESAMPLES: Final = 2000
RANDOM: Final = "random"
"""The rule that others are compared with."""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Which questions a selection rule keeps."""

    draws: tuple[BoolArray, ...]
    """``(Q,)`` each; one if the rule draws nothing."""

    def mean(self, column: FloatArray, weights: FloatArray) -> FloatArray:
        """Average ``(Q,)`` values over kept questions and draws, ``(R,)``."""
        found = [means(column, weights * kept) for kept in self.draws]
        return np.asarray(np.mean(found, axis=0), dtype=np.float64)

    def at(self, places: Sequence[int]) -> Kept:
        """Restrict to the questions in some places."""
        return Kept(tuple(kept[list(places)] for kept in self.draws))

    @property
    def num_kept(self) -> float:
        """Kept questions, averaged over draws."""
        return float(np.mean([kept.sum() for kept in self.draws]))


def intervals_of(
    columns: Mapping[str, tuple[FloatArray, Kept | None]], pool: str
) -> dict[str, Interval]:
    """Return means of ``(Q,)`` columns with intervals, on the same resamples.

    Args:
        columns: By name, each with the questions to average over; `None` for all.
        pool: Hash of the questions; seeds the draws.
    """
    size = len(next(iter(columns.values()))[0])

    def measures(weights: FloatArray) -> dict[str, FloatArray]:
        return {
            name: means(one, weights) if kept is None else kept.mean(one, weights)
            for name, (one, kept) in columns.items()
        }

    return on_resamples(measures, size, pool)


def on_resamples(measures: Measure, size: int, pool: str) -> dict[str, Interval]:
    """Return measures with intervals on resamples of `size` questions."""
    rng = generator(0, "probe", "bootstrap", pool)
    return measure_resamples(measures, size, NUM_RESAMPLES, rng).intervals()


def named(prefix: str, found: Mapping[str, Interval]) -> Measures:
    """Select intervals by a name prefix, and strip it."""
    return {
        name.removeprefix(prefix): interval
        for name, interval in found.items()
        if name.startswith(prefix)
    }


def context_results(
    teachers: Mapping[str, tuple[Columns, int]], student: Columns, pool: str
) -> tuple[Measures, tuple[ContextResult, ...]]:
    """Measure the student, and each context rule's teachers.

    Args:
        teachers: Columns and number of draws by rule.
        student: The student's columns.
        pool: As in `intervals_of`.
    """
    wanted = {f"student/{name}": column for name, column in student.items()}
    reference = teachers[RANDOM][0] if RANDOM in teachers else {}
    for rule, (columns, _) in teachers.items():
        for name, column in columns.items():
            wanted[f"{rule}/{name}"] = column
            if name in student:
                wanted[f"{rule}-student/{name}"] = column - student[name]
            if name in reference and rule != RANDOM:
                wanted[f"{rule}-random/{name}"] = column - reference[name]
    found = intervals_of({name: (one, None) for name, one in wanted.items()}, pool)
    results = tuple(
        ContextResult(
            rule=rule,
            help=CONTEXT_RULES[rule].help,
            num_draws=num_draws,
            measures=named(f"{rule}/", found),
            over_student=named(f"{rule}-student/", found),
            over_random=named(f"{rule}-random/", found),
            settings=(f"contexts.rule={rule}",),
        )
        for rule, (_, num_draws) in teachers.items()
    )
    return named("student/", found), results


def selection_results(
    kept: Mapping[str, Kept],
    teacher: Columns,
    student: Columns,
    votes: Sequence[Vote],
    pool: str,
) -> tuple[SelectionResult, ...]:
    """Measure one teacher on the questions that each selection rule keeps.

    Args:
        kept: By rule.
        teacher: The teacher's columns on all questions that rules chose among.
        student: The student's.
        votes: On the same questions.
        pool: As in `intervals_of`.
    """
    columns = dict(teacher)
    if ACCURACY in student:
        columns[LEAD] = teacher[ACCURACY] - student[ACCURACY]
    wanted = {
        f"{rule}/{name}": (column, own)
        for rule, own in kept.items()
        for name, column in columns.items()
    }
    found = intervals_of(wanted, pool)
    return tuple(
        SelectionResult(
            rule=rule,
            help=SELECTION_RULES[rule].help,
            num_kept=round(own.num_kept),
            num_draws=len(own.draws),
            top_answer_share=top_answer_share(own, votes),
            measures=named(f"{rule}/", found),
            over_random=differences(rule, kept, columns, pool),
            settings=(f"selection.rule={rule}",),
        )
        for rule, own in kept.items()
    )


def differences(
    rule: str, kept: Mapping[str, Kept], columns: Columns, pool: str
) -> Measures:
    """Return a selection's lead over the random one, on shared resamples."""
    if rule == RANDOM or RANDOM not in kept:
        return {}
    size = len(next(iter(columns.values())))

    def measures(weights: FloatArray) -> dict[str, FloatArray]:
        return {
            name: kept[rule].mean(one, weights) - kept[RANDOM].mean(one, weights)
            for name, one in columns.items()
        }

    return on_resamples(measures, size, pool)


def top_answer_share(kept: Kept, votes: Sequence[Vote]) -> float:
    """Return the commonest vote's share of kept questions, over draws."""
    shares = []
    for mask in kept.draws:
        labels = [v.pseudo_label for v, own in zip(votes, mask, strict=True) if own]
        count = max(Counter(labels).values(), default=0)
        shares.append(count / max(1, len(labels)))
    return float(np.mean(shares))


def pair_results(
    kept: Mapping[str, Kept], scores: Mapping[str, FloatArray], pool: str
) -> tuple[PairResult, ...]:
    """Return the score of each selection rule with each context rule.

    Args:
        kept: By selection rule, of the questions that context rules were tried on.
        scores: ``(Q,)`` of these, by context rule.
        pool: As in `intervals_of`.
    """
    pairs = list(pairs_of(kept, scores))
    found = intervals_of({f"{s}/{c}": (scores[c], kept[s]) for s, c in pairs}, pool)
    return tuple(
        PairResult(
            selection=selection,
            contexts=contexts,
            num_questions=kept[selection].num_kept,
            score=found[f"{selection}/{contexts}"],
        )
        for selection, contexts in pairs
    )


def pairs_of(
    kept: Mapping[str, Kept], scores: Mapping[str, FloatArray]
) -> Iterator[tuple[str, str]]:
    """Yield selection rules that keep anything with each context rule."""
    for selection, own in kept.items():
        if own.num_kept:
            yield from ((selection, contexts) for contexts in scores)
