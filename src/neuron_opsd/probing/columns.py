"""Teachers' answers as columns: one number per question, averaged over draws.

Axes: Q questions, C answers to one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from neuron_opsd.method.beliefs import entropy_of
from neuron_opsd.method.probing import Views, consensus, stability
from neuron_opsd.method.statistics import FloatArray
from neuron_opsd.probing.arms import Arm
from neuron_opsd.results import probe
from neuron_opsd.stages.probing import Heard, Subject, views_of

Judge: TypeAlias = Callable[[Subject], FloatArray]
"""Marks ``(C,)`` answers as right (1) or wrong (0)."""

Columns: TypeAlias = Mapping[str, FloatArray]
"""``(Q,)`` by the names of `results.probe`."""


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """What one context rule's teachers answer to some questions."""

    views: tuple[tuple[Views, ...], ...]
    """By draw, then by question."""
    columns: Columns

    def answers(self) -> list[FloatArray]:
        """Return the teachers' mean answer ``(C,)`` to each question."""
        return [
            consensus([draw[q].teacher for draw in self.views])
            for q in range(len(self.views[0]))
        ]


def look_at(
    arm: Arm,
    subjects: Sequence[Subject],
    student: Mapping[str, Heard],
    judge: Judge | None = None,
) -> Teacher:
    """Return an arm's answers and measures on some questions."""
    views = tuple(views_in(draw, subjects, student) for draw in arm.draws)
    drawn = [measured(draw) for draw in views]
    columns = {name: np.mean([one[name] for one in drawn], axis=0) for name in drawn[0]}
    if all(s.question.id in other for s in subjects for other in arm.others):
        others = [views_in(other, subjects, student) for other in arm.others]
        first = [[one.teacher for one in draw] for draw in others]
        columns[probe.STABILITY] = stability(first)
    if judge is not None:
        right = [judge(subject) for subject in subjects]
        columns[probe.ACCURACY] = np.mean(
            [correct([v.teacher for v in draw], right) for draw in views], axis=0
        )
    return Teacher(views, columns)


def views_in(
    heard: Mapping[str, Heard],
    subjects: Sequence[Subject],
    student: Mapping[str, Heard],
) -> tuple[Views, ...]:
    """Return the answers of student and one teacher."""
    return tuple(
        views_of(subject, student[subject.question.id], heard[subject.question.id])
        for subject in subjects
    )


def measured(views: Sequence[Views]) -> dict[str, FloatArray]:
    """Measure one draw without labels."""
    readers: Mapping[str, Callable[[Views], float]] = {
        probe.AGREEMENT: lambda one: one.agreement,
        probe.ENTROPY: lambda one: entropy_of(one.teacher),
        probe.SHIFT: lambda one: one.shift,
        probe.FIX: lambda one: one.towards,
        probe.BREAK: lambda one: one.away,
        probe.DIVERGENCE: lambda one: one.divergence,
    }
    return {
        name: np.array([read(one) for one in views]) for name, read in readers.items()
    }


def correct(answers: Sequence[FloatArray], right: Sequence[FloatArray]) -> FloatArray:
    """Return ``(Q,)`` the probability of a right answer."""
    pairs = zip(answers, right, strict=True)
    return np.array([float(one @ of) for one, of in pairs])


def student_columns(
    views: Sequence[Views], subjects: Sequence[Subject], judge: Judge | None
) -> dict[str, FloatArray]:
    """Measure the student; any teacher's views will do."""
    found = {
        probe.AGREEMENT: np.array([one.student_agreement for one in views]),
        probe.ENTROPY: np.array([entropy_of(one.student) for one in views]),
    }
    if judge is not None:
        right = [judge(subject) for subject in subjects]
        found[probe.ACCURACY] = correct([one.student for one in views], right)
    return found


def support(teacher: Teacher, others: Sequence[FloatArray]) -> FloatArray:
    """Return ``(Q,)`` the probability of others' top answer, averaged over draws.

    Args:
        teacher: The teacher to measure.
        others: Everybody else's mean answer ``(C,)`` to each question.
    """
    places = [int(one.argmax()) for one in others]
    drawn = [
        [view.teacher[place] for view, place in zip(draw, places, strict=True)]
        for draw in teacher.views
    ]
    return np.asarray(np.mean(drawn, axis=0), dtype=np.float64)


def score(columns: Columns) -> FloatArray:
    """Return ``(Q,)`` the label-free score of a teacher."""
    return columns[probe.FIX] - columns[probe.BREAK]
