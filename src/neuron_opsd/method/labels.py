"""Measures of sets whose gold answers repeat, such as labels. Pure NumPy.

There, a model that always gives the most frequent answer scores well, which accuracy
alone hides.

Axes: Q questions, R rows of weights, C distinct gold answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from neuron_opsd.method.statistics import FloatArray, means
from neuron_opsd.records.scores import QuestionScore

OF_LABELS: Final = frozenset(
    {"balanced_accuracy", "macro_f1", "baseline", "top_answer_share"}
)
"""Measures in `calibration.METRICS` that only some test sets have."""

LEAST_REPEATS: Final = 5
"""Fewest questions per distinct gold answer for labels, or of one for a baseline."""

LEAST_SHARE: Final = 0.1
"""Share of the questions that makes an answer a baseline even without labels."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelColumns:
    """What the measures need; what a set lacks is NaN, or C = 0."""

    gold: FloatArray
    """``(Q, C)``, 1 at the gold answer."""
    given: FloatArray
    """``(Q, C)``, each answer's share of rollouts."""
    baseline: FloatArray
    """``(Q,)``, 1 where the gold answer is the most frequent one."""
    top: FloatArray
    """``(Q,)``, the share of rollouts with the model's most frequent answer."""


def label_columns(scores: Sequence[QuestionScore]) -> LabelColumns:
    """Turn scores into columns; all NaN without gold answers."""
    count = len(scores)
    unknown = np.full(count, np.nan)
    none = np.empty((count, 0))
    if not knows_gold(scores):
        return LabelColumns(none, none, unknown, unknown)
    top, _ = top_answer(scores)
    known = gold_counts(scores)
    classes = list(known) if count >= LEAST_REPEATS * len(known) else []
    answer = baseline_answer(scores)
    return LabelColumns(
        gold=np.array([[s.gold_answer == c for c in classes] for s in scores], float),
        given=np.array([[share_of(s, c) for c in classes] for s in scores]),
        baseline=unknown
        if answer is None
        else np.array([s.gold_answer == answer for s in scores], float),
        top=np.array([share_of(s, top) for s in scores]),
    )


def knows_gold(scores: Sequence[QuestionScore]) -> bool:
    """Tell whether every score has its gold answer."""
    return bool(scores) and all(score.gold_answer for score in scores)


def gold_counts(scores: Sequence[QuestionScore]) -> Counter[str]:
    """Count the questions of each gold answer."""
    return Counter(score.gold_answer for score in scores)


def baseline_answer(scores: Sequence[QuestionScore]) -> str | None:
    """Return the most frequent gold answer, `None` if answers do not repeat."""
    if not knows_gold(scores):
        return None
    known = gold_counts(scores)
    ((answer, count),) = known.most_common(1)
    has_labels = len(scores) >= LEAST_REPEATS * len(known)
    repeats = count >= max(LEAST_REPEATS, LEAST_SHARE * len(scores))
    return answer if has_labels or repeats else None


def top_answer(scores: Sequence[QuestionScore]) -> tuple[str, float]:
    """Return the model's most frequent answer and its share of rollouts."""
    given: Counter[str] = Counter()
    for score in scores:
        given.update(dict(score.answers))
    ((answer, count),) = given.most_common(1) or [("", 0)]
    return answer, count / sum(score.num_rollouts for score in scores)


def share_of(score: QuestionScore, answer: str) -> float:
    """Return the share of a question's rollouts that gave an answer."""
    return dict(score.answers).get(answer, 0) / score.num_rollouts


def balanced_accuracy(columns: LabelColumns, weights: FloatArray) -> FloatArray:
    """Return the mean over gold answers of their questions' accuracy, ``(R,)``.

    Weights are ``(R, Q)``; rows leave out answers without questions. NaN without
    labels.

    Source: mean recall of the classes, Brodersen et al. 2010.
    """
    present = weights @ columns.gold
    right = weights @ (columns.gold * columns.given)
    return over_present(right, present, present)


def macro_f1(columns: LabelColumns, weights: FloatArray) -> FloatArray:
    """Return the mean over gold answers of their F1; see `balanced_accuracy`."""
    present = weights @ columns.gold
    right = weights @ (columns.gold * columns.given)
    return over_present(2.0 * right, present + weights @ columns.given, present)


def known_measures(columns: LabelColumns, weights: FloatArray) -> dict[str, FloatArray]:
    """Return the measures of labels that the questions have, each ``(R,)``, by name."""
    found = {}
    if columns.gold.shape[1]:
        found["balanced_accuracy"] = balanced_accuracy(columns, weights)
        found["macro_f1"] = macro_f1(columns, weights)
    shares = {"baseline": columns.baseline, "top_answer_share": columns.top}
    for name, values in shares.items():
        if np.isfinite(values).all():
            found[name] = means(values, weights)
    return found


def over_present(
    above: FloatArray, below: FloatArray, present: FloatArray
) -> FloatArray:
    """Return the mean ratio ``(R,)`` over the answers that have questions."""
    ratio = np.zeros_like(above)
    np.divide(above, below, out=ratio, where=present > 0)
    mean = np.full(len(above), np.nan)
    count = (present > 0).sum(axis=1)
    total = (ratio * (present > 0)).sum(axis=1)
    np.divide(total, count, out=mean, where=count > 0)
    return mean
