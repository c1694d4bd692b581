"""What a probe advises, and when it advises nothing."""

from __future__ import annotations

from collections.abc import Sequence

from neuron_opsd.records.scores import Interval
from neuron_opsd.report.wording import ends, points, signed_two_digits
from neuron_opsd.results.probe import (
    ACCURACY,
    ContextResult,
    PairResult,
    Recommendation,
    Validity,
)

WITH_ANSWERS = "With --answers, a hundred answered questions say which teacher is right"


def recommend(
    contexts: Sequence[ContextResult], pairs: Sequence[PairResult], validity: Validity
) -> Recommendation:
    """Return what to do: by right answers where there are some, else by the score.

    By the score only if that is known to predict what training gains.
    """
    if any(ACCURACY in one.measures for one in contexts):
        return by_accuracy(contexts)
    if validity.predicts and pairs:
        return by_score(pairs, validity)
    return Recommendation(f"{why_not(validity)}. {WITH_ANSWERS}.")


def why_not(validity: Validity) -> str:
    """Say why the score recommends nothing."""
    if validity.correlation is None:
        return (
            "No rule is recommended: whether the score predicts what training gains "
            "has not been measured yet"
        )
    found = validity.correlation
    return (
        "No rule is recommended: the score was not seen to predict what training "
        f"gains (rank correlation {signed_two_digits(found.value)}, "
        f"{ends(found, signed_two_digits)}, over {validity.num_arms} arms of "
        f"{validity.num_sources} sources)"
    )


def by_accuracy(contexts: Sequence[ContextResult]) -> Recommendation:
    """Recommend the context rule whose teacher is right most often, if it is seen."""
    best = max(contexts, key=lambda one: one.measures[ACCURACY].value)
    above = best.over_student[ACCURACY]
    said = (
        f"The teacher with demonstrations {best.help} is right most often, "
        f"{points_above(above)} above the student"
    )
    if ACCURACY in best.over_random:
        said += f" and {points_above(best.over_random[ACCURACY])} above random ones"
    said += f"; it is the best of {len(contexts)}, which flatters it."
    if above.low <= 0.0:
        return Recommendation(
            f"{said} No teacher is seen to be better than the student, so training "
            "towards one is not expected to make it right more often.",
            by="accuracy",
        )
    reference = best.over_random.get(ACCURACY)
    if reference is not None and reference.holds_zero:
        said += " No rule is seen to be better than random demonstrations."
    return Recommendation(said, best.settings, "accuracy")


def points_above(interval: Interval) -> str:
    """Write a difference of shares in points with its interval."""
    return f"{points(interval.value)} points ({ends(interval, points)})"


def by_score(pairs: Sequence[PairResult], validity: Validity) -> Recommendation:
    """Recommend the rules with the highest score."""
    best = max(pairs, key=lambda one: one.score.value)
    found = validity.correlation
    known = (
        ""
        if found is None
        else (
            f" (rank correlation with the gain {signed_two_digits(found.value)}, "
            f"{ends(found, signed_two_digits)}, over {validity.num_arms} arms)"
        )
    )
    return Recommendation(
        f"By the score{known}, take the selection rule {best.selection} with "
        f"demonstrations by the rule {best.contexts}.",
        (f"selection.rule={best.selection}", f"contexts.rule={best.contexts}"),
        "score",
    )
