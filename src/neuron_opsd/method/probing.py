"""What a teacher's answers say about it before it teaches, per question.

Pure NumPy. Axes: C answers of one question, Q questions, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuron_opsd.method.beliefs import jensen_shannon
from neuron_opsd.method.statistics import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """What student and teacher answer to one question."""

    student: FloatArray
    """``(C,)`` probabilities; unreadable counts as an answer."""
    teacher: FloatArray
    """``(C,)`` of the same answers."""
    voted: int | None
    """Place of the answer with most votes; `None` without a vote."""
    divergence: float
    """KL(student || teacher) in nats, of the choice or per token of a free answer."""

    @property
    def student_agreement(self) -> float:
        """Probability in [0, 1] that the student gives the voted answer."""
        return 0.0 if self.voted is None else float(self.student[self.voted])

    @property
    def agreement(self) -> float:
        """The same for the teacher."""
        return 0.0 if self.voted is None else float(self.teacher[self.voted])

    @property
    def towards(self) -> float:
        """Least share of answers in [0, 1] that move to the vote."""
        return max(0.0, self.agreement - self.student_agreement)

    @property
    def away(self) -> float:
        """Least share of answers that move away from it."""
        return max(0.0, self.student_agreement - self.agreement)

    @property
    def shift(self) -> float:
        """Jensen-Shannon divergence of the two, in nats, at most ln 2."""
        with np.errstate(divide="ignore"):  # for answers that only one gives
            return jensen_shannon(np.log(self.student), np.log(self.teacher))


def reweighted(
    shares: FloatArray, places: Sequence[int], log_ratios: Sequence[float]
) -> FloatArray:
    """Return a teacher's answers ``(C,)``, from how it scores the student's own.

    A completion weighs ``exp(r / t)``, where r is its log-probability under the
    teacher's prompt less that under the student's, in nats, and t the standard
    deviation of these, at least 1. t = 1 is importance sampling; over thousands of
    tokens, one completion would then take it all. An answer takes the mean of its
    completions, or of all if it has none.

    Args:
        shares: ``(C,)`` of the student's answers.
        places: The answer of each scored completion.
        log_ratios: r of each of them.
    """
    if not places:
        return shares
    ratios = np.asarray(log_ratios, dtype=np.float64)
    scaled = np.exp((ratios - ratios.max()) / max(1.0, float(ratios.std())))
    weights = np.full(shares.size, scaled.mean())
    for place in set(places):
        weights[place] = scaled[np.equal(places, place)].mean()
    moved = shares * weights
    return np.asarray(moved / moved.sum(), dtype=np.float64)


def stability(draws: Sequence[Sequence[FloatArray]]) -> FloatArray:
    """Return ``(Q,)`` how often two draws of a teacher give the same top answer.

    Takes two or more draws of answers ``(C,)`` to Q questions; ties go to the earlier
    answer.
    """
    first = np.array([[int(one.argmax()) for one in draw] for draw in draws])
    count = len(first)
    alike = [first[i] == first[j] for i in range(count) for j in range(i)]
    return np.asarray(np.mean(alike, axis=0), dtype=np.float64)


def consensus(draws: Sequence[FloatArray]) -> FloatArray:
    """Return the mean ``(C,)`` of several answers to one question."""
    return np.asarray(np.mean(draws, axis=0), dtype=np.float64)
