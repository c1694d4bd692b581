"""How a model answered its tests: scores, summaries and intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from neuron_opsd.records import Brief

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class QuestionScore:
    """How one test question was answered; shares are of its rollouts."""

    question_id: str
    num_correct: int
    num_rollouts: int
    majority_answer: str | None
    majority_correct: bool
    agreement: float
    num_unread: int
    num_truncated: int
    mean_length: float
    """Completion tokens, end token included."""
    gold_answer: str = ""
    """Normalised; empty if unknown. Training never sees a score."""
    answers: tuple[tuple[str, int], ...] = ()
    """Each answer and its number of rollouts; a correct one is spelled as gold."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference with its 95 % bootstrap interval over questions."""

    value: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Whether no difference was seen; also true without a number."""
        return not (self.low > 0.0 or self.high < 0.0)


@dataclass(frozen=True, slots=True, repr=False)
class TestResult(Brief):
    """One model on one test set."""

    __test__ = False  # pytest would take it for a test class

    name: str
    metrics: Mapping[str, float]
    """Keyed by `method.calibration.METRICS`."""
    scores: tuple[QuestionScore, ...] = field(repr=False)
    num_unsettled: int = 0  # unresolved comparisons, which count as different


@dataclass(frozen=True, slots=True)
class Bin:
    """The questions with confidence in (low, high]."""

    low: float
    high: float
    confidence: float
    """Mean of its questions."""
    accuracy: float
    """Share of its questions whose majority answer is correct."""
    num_questions: int
