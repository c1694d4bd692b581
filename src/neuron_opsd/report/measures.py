"""Every measure of a test set before and after, and what its difference shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from neuron_opsd.records.scores import Interval
from neuron_opsd.report import wording
from neuron_opsd.results.run import Least


@dataclass(frozen=True, slots=True)
class MetricKind:
    """How one metric is called, written and judged."""

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
    MetricKind("top_answer_share", "Most frequent answer, its share", "share", ""),
    MetricKind("ece", "ECE, calibration error", "number", "lower"),
    MetricKind("adaptive_ece", "ECE with equal-count bins", "number", "lower"),
    MetricKind("brier", "Brier score", "number", "lower"),
    MetricKind("auroc", "AUROC, vote share against right", "number", "higher"),
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
    """How a measure is called and scaled on an axis."""

    noun: str
    unit: str
    """Of its differences."""
    level: str
    """Of the measure itself."""
    factor: float
    digits: int

    def scaled(self, interval: Interval | None) -> Interval | None:
        """Return a difference in units of the axis."""
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
"""The measures that are drawn."""


def written(kind: MetricKind, value: float | None) -> str:
    """Write a metric in its unit."""
    if kind.unit == "share":
        return wording.percent(value)
    return wording.number(value, 1 if kind.unit == "length" else 3)


def written_change(kind: MetricKind, interval: Interval) -> tuple[str, str]:
    """Write a metric's difference and the ends of its interval."""
    write: wording.Write = wording.points
    if kind.unit != "share":
        write = partial(wording.signed, digits=1 if kind.unit == "length" else 3)
    return write(interval.value), wording.ends(interval, write)


def in_words(interval: Interval | None, metric: str) -> str:
    """Write a metric's difference with its interval in brackets."""
    if not wording.finite(interval):
        return "not measured"
    change, span = written_change(KINDS[metric], interval)
    return f"{change} ({span})"


def judged(kind: MetricKind, interval: Interval | None, least: Least) -> str:
    """Say what a difference shows, without praise where none of the two is better."""
    if not wording.finite(interval):
        return "not measured"
    if kind.better:
        enough = least.calibration if kind.name in ERRORS else least.accuracy
        better = kind.better == "higher"
        return wording.verdict(interval, higher_is_better=better, least=enough)
    if interval.holds_zero:
        return wording.NO_DIFFERENCE
    return "rose" if interval.low > 0 else "fell"
