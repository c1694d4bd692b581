"""A test set's measures before and after, and what differences show.

If gold answers repeat, also a comparison with a constant answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from neuron_opsd.records.scores import Interval
from neuron_opsd.report import wording
from neuron_opsd.results.run import Least, TestComparison


@dataclass(frozen=True, slots=True)
class MetricKind:
    """How a metric is named, written and judged."""

    name: str
    label: str
    unit: str
    """``share``, ``number`` or ``length``."""
    better: str
    """``higher``, ``lower`` or neither."""


METRIC_KINDS = (
    MetricKind("avg_at_k", "Avg@k, mean accuracy", "share", "higher"),
    MetricKind("maj_at_k", "Maj@k, accuracy of the vote", "share", "higher"),
    MetricKind("pass_at_k", "Pass@k, any rollout right", "share", ""),
    MetricKind("balanced_accuracy", "Balanced accuracy", "share", "higher"),
    MetricKind("macro_f1", "Macro F1", "share", "higher"),
    MetricKind("baseline", "Baseline, most frequent gold answer", "share", ""),
    MetricKind("top_answer_share", "Share of the most frequent answer", "share", ""),
    MetricKind("ece", "ECE, calibration error", "number", "lower"),
    MetricKind("adaptive_ece", "ECE with equal-count bins", "number", "lower"),
    MetricKind("brier", "Brier score", "number", "lower"),
    MetricKind("auroc", "AUROC of the vote share", "number", "higher"),
    MetricKind("overconfidence", "Over-confidence", "number", ""),
    MetricKind("unanimity", "Unanimous questions", "share", ""),
    MetricKind("parse_failure", "Answers not read", "share", "lower"),
    MetricKind("truncation", "Completions cut off", "share", "lower"),
    MetricKind("mean_length", "Tokens per completion", "length", ""),
)

KINDS = {kind.name: kind for kind in METRIC_KINDS}
ACCURACY, ERROR = KINDS["avg_at_k"], KINDS["ece"]

ERRORS = frozenset({"ece", "adaptive_ece", "brier"})
"""Measures of calibration."""


@dataclass(frozen=True, slots=True)
class Charted:
    """A measure's names and scale on an axis."""

    noun: str
    unit: str
    """Unit of its differences."""
    level: str
    """Label of the measure itself."""
    factor: float
    digits: int

    def scaled(self, interval: Interval | None) -> Interval | None:
        """Return a difference in axis units."""
        if interval is None:
            return None
        numbers = (interval.value, interval.low, interval.high)
        return Interval(*(self.factor * one for one in numbers))


CHARTED: Mapping[str, Charted] = {
    "avg_at_k": Charted(
        "accuracy", "points of accuracy", "accuracy in-domain, %", 100.0, 1
    ),
    "ece": Charted(
        "calibration error", "ECE, lower is better", "ECE in-domain", 1.0, 3
    ),
}

NEARLY_ALL = 0.9
"""Share of answers from which one counts as nearly all."""
AT_BASELINE = "at the baseline"

LONGEST_ANSWER = 40

BASELINE_NOTE = (
    "Where gold answers repeat, as labels do, the baseline is the accuracy of giving "
    "the most frequent one to every question. A model that gives one answer to nearly "
    "everything and is right no more often than that is at the baseline, and has not "
    "got better. Balanced accuracy is the mean accuracy over gold answers, macro F1 "
    "the mean of their F1; every sampled answer counts."
)

LABEL_MEASURES: Mapping[str, str] = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "top_answer_share": "most frequent answer",
}
"""Shown if gold answers repeat, as accuracy hides them."""


def written(kind: MetricKind, value: float | None) -> str:
    """Format a metric in its unit."""
    if kind.unit == "share":
        return wording.percent(value)
    return wording.number(value, 1 if kind.unit == "length" else 3)


def written_change(kind: MetricKind, interval: Interval) -> tuple[str, str]:
    """Format a metric's difference and its interval's ends."""
    write: wording.Write = wording.points
    if kind.unit != "share":
        write = partial(wording.signed, digits=1 if kind.unit == "length" else 3)
    return write(interval.value), wording.ends(interval, write)


def in_words(interval: Interval | None, metric: str) -> str:
    """Format a metric's difference with its interval in brackets."""
    if not wording.finite(interval):
        return "not measured"
    change, span = written_change(KINDS[metric], interval)
    return f"{change} ({span})"


def judged(kind: MetricKind, interval: Interval | None, least: Least) -> str:
    """Judge a difference, neutrally if neither direction is better."""
    if not wording.finite(interval):
        return "not measured"
    if kind.better:
        enough = least.calibration if kind.name in ERRORS else least.accuracy
        better = kind.better == "higher"
        return wording.verdict(interval, higher_is_better=better, least=enough)
    if interval.holds_zero:
        return wording.NO_DIFFERENCE
    return "rose" if interval.low > 0 else "fell"


def difference_note(least: Least) -> str:
    """Say from what size a difference counts."""
    return (
        "A difference counts as better or worse if its interval excludes zero and it "
        f"is at least {100 * least.accuracy:g} points of accuracy or "
        f"{least.calibration:g} of calibration error."
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """Models before and after training against a test set's baseline."""

    answer: str
    """The most frequent gold answer."""
    share: float
    """Accuracy of giving it to every question."""
    top_before: float
    """Of the model's most frequent answer."""
    top_after: float
    at_before: bool
    at_after: bool
    not_above: str
    """How the trained model compares with the baseline, if not above it."""


def at_baseline(above: Interval | None, top_share: float, least: float) -> bool:
    """Say whether a model merely gives one answer to everything.

    True if `above`, its lead over the baseline, is less than matters and its most
    frequent answer takes nearly all.
    """
    if not wording.finite(above) or not top_share >= NEARLY_ALL:
        return False
    return above.holds_zero or abs(above.value) < least


def standing(test: TestComparison, least: float) -> Standing | None:
    """Compare models with the baseline; `None` if answers do not repeat."""
    if test.baseline is None:
        return None
    before, after = test.before.top_answer_share, test.after.top_answer_share
    above = test.above_baseline
    return Standing(
        answer=test.baseline.answer,
        share=test.baseline.share,
        top_before=before,
        top_after=after,
        at_before=at_baseline(above.get("before"), before, least),
        at_after=at_baseline(above.get("after"), after, least),
        not_above=not_above(above.get("after")),
    )


def no_gain_at_baseline(said: str, found: Standing | None) -> str:
    """Withdraw a gain if the model says one answer to everything."""
    if said == wording.GOT_BETTER and found is not None and found.at_after:
        return AT_BASELINE
    return said


def not_above(above: Interval | None) -> str:
    """Place an accuracy relative to the baseline; empty if above."""
    if not wording.finite(above) or above.low > 0:
        return ""
    return "below" if above.high < 0 else "not above"


def baseline_clause(found: Standing | None) -> str:
    """Say that a model is at or below the baseline; empty if above."""
    if found is None or not (found.at_before or found.at_after or found.not_above):
        return ""
    spelled = repr(wording.one_line(found.answer, LONGEST_ANSWER))
    what = f"{wording.percent(found.share)}, {spelled} to every question"
    shares = (
        "the model's most frequent answer takes "
        f"{wording.percent(found.top_before)} of its answers before and "
        f"{wording.percent(found.top_after)} after"
    )
    if found.at_before or found.at_after:
        models = "the trained model" if found.at_after else "the untrained model"
        if found.at_before and found.at_after:
            models = "the model, both untrained and trained,"
        return f"{models} is at the baseline ({what}; {shares})"
    return f"the trained model is {found.not_above} the baseline ({what}; {shares})"


def label_pairs(test: TestComparison) -> list[tuple[str, str]]:
    """Format the `LABEL_MEASURES` before and after, in their order."""
    pairs = map(test.both, LABEL_MEASURES)
    return [
        (wording.percent(before), wording.percent(after)) for before, after in pairs
    ]


def label_texts(test: TestComparison) -> tuple[str, ...]:
    """Format baseline and label measures, dashes if no answer repeats."""
    if test.baseline is None:
        return (wording.NOT_MEASURED,) * (1 + len(LABEL_MEASURES))
    pairs = (f"{before} to {after}" for before, after in label_pairs(test))
    return wording.percent(test.baseline.share), *pairs
