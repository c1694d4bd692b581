"""What each section of the page shows, worked out before the template lays it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from markupsafe import Markup

from neuron_opsd.config import EvaluationConfig
from neuron_opsd.method.labels import OF_LABELS
from neuron_opsd.method.selection import num_left_out
from neuron_opsd.records import Fitness, Interval, SelectionEntry
from neuron_opsd.report.baseline import no_gain_at_baseline, standing
from neuron_opsd.report.data import (
    Case,
    Least,
    ReportData,
    StageCost,
    TestComparison,
    least_of,
)
from neuron_opsd.report.forest import interval_strip, share_bar
from neuron_opsd.report.outcome import accuracy_verdict, in_domain_test, net_verdict
from neuron_opsd.report.wording import (
    NO_DIFFERENCE,
    NOT_MEASURED,
    duration,
    finite,
    is_measured,
    number,
    one_line,
    percent,
    point_range,
    points,
    signed,
    signed_range,
    verdict,
)


@dataclass(frozen=True, slots=True)
class Stat:
    """One of the large numbers under the outcome."""

    label: str
    value: str
    unit: str
    said: str
    """What the interval allows to say."""
    note: str
    strip: Markup


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


ERRORS = frozenset({"ece", "adaptive_ece", "brier"})
"""Measures of calibration."""


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric before and after, in words."""

    label: str
    before: str
    after: str
    change: str
    span: str
    said: str


def stats(data: ReportData) -> list[Stat]:
    """Return the four numbers that a reader should take away."""
    test = in_domain_test(data)
    if test is None:
        return []
    others = sum(not one.in_domain for one in data.tests)
    config = data.config.evaluation
    cross = data.cross_domain.get("avg_at_k")
    said = verdict(cross, higher_is_better=True, least=config.min_difference)
    note = f"mean of {others} cross-domain test sets" if others else "no test set"
    return [
        accuracy_stat(test, config),
        net_stat(test, config),
        points_stat("other domains", cross, said, note, "after"),
        ece_stat(test, config),
    ]


def accuracy_stat(test: TestComparison, config: EvaluationConfig) -> Stat:
    """Return the in-domain difference in accuracy."""
    label = f"Avg@{config.num_samples} on {one_line(test.name, 40)}"
    before, after = (
        percent(result.metrics.get("avg_at_k")) for result in (test.before, test.after)
    )
    note = f"{before} before, {after} after"
    said = accuracy_verdict(test, config)
    return points_stat(label, test.delta.get("avg_at_k"), said, note, "after")


def net_stat(test: TestComparison, config: EvaluationConfig) -> Stat:
    """Return what is left when learning the form of an answer is taken off."""
    label = "net of form-only training"
    said = net_verdict(test, config)
    if test.net_of_form is None:
        return points_stat(label, None, said, "evaluation.form_only was off", "net")
    note = "against the same steps on random choices"
    return points_stat(label, test.net_of_form.get("avg_at_k"), said, note, "net")


def points_stat(
    label: str, interval: Interval | None, said: str, note: str, kind: str
) -> Stat:
    """Return a difference of shares as a large number."""
    if interval is None or not finite(interval):
        return Stat(label, NOT_MEASURED, "", said, note, Markup(""))
    note = f"95 % interval {point_range(interval)}; {note}"
    strip = interval_strip(interval, kind)
    return Stat(label, points(interval.value), "points", said, note, strip)


def ece_stat(test: TestComparison, config: EvaluationConfig) -> Stat:
    """Return the in-domain difference in calibration error."""
    interval = test.delta.get("ece")
    least = config.min_calibration_difference
    said = verdict(interval, higher_is_better=False, least=least)
    before, after = (
        number(result.metrics.get("ece")) for result in (test.before, test.after)
    )
    note = f"{before} before, {after} after; lower is better"
    if interval is None or not finite(interval):
        return Stat("calibration error (ECE)", NOT_MEASURED, "", said, note, Markup(""))
    note = f"95 % interval {signed_range(interval)}; {note}"
    strip = interval_strip(interval, "after")
    return Stat(
        "calibration error (ECE)", signed(interval.value), "", said, note, strip
    )


def metric_rows(test: TestComparison, config: EvaluationConfig) -> list[MetricRow]:
    """Return every metric that was measured on a test set."""
    known = [kind for kind in METRIC_KINDS if is_known(test, kind)]
    rows = [metric_row(kind, test, least_of(config)) for kind in known]
    k = config.num_samples
    return [replace(row, label=row.label.replace("@k", f"@{k}")) for row in rows]


def is_known(test: TestComparison, kind: MetricKind) -> bool:
    """Say whether a metric was measured; one of labels also has to be a number."""
    values = [one.metrics.get(kind.name) for one in (test.before, test.after)]
    if kind.name in OF_LABELS:
        return any(map(is_measured, values))
    return kind.name in test.before.metrics


def metric_row(kind: MetricKind, test: TestComparison, least: Least) -> MetricRow:
    """Write one metric before and after."""
    interval = test.delta.get(kind.name)
    before, after = (
        written(kind, result.metrics.get(kind.name))
        for result in (test.before, test.after)
    )
    if interval is None or not finite(interval):
        return MetricRow(kind.label, before, after, NOT_MEASURED, "", "")
    if kind.name == "baseline":  # of the questions, not of a model
        return MetricRow(kind.label, before, after, NOT_MEASURED, "", "")
    change, span = written_change(kind, interval)
    said = judged(kind, interval, least)
    if kind.name in ("avg_at_k", "maj_at_k"):
        said = no_gain_at_baseline(said, standing(test, least.accuracy))
    return MetricRow(kind.label, before, after, change, span, said)


def written(kind: MetricKind, value: float | None) -> str:
    """Write a metric in its unit."""
    if kind.unit == "share":
        return percent(value)
    return number(value, 1 if kind.unit == "length" else 3)


def written_change(kind: MetricKind, interval: Interval) -> tuple[str, str]:
    """Write a metric's difference and the ends of its interval."""
    if kind.unit == "share":
        return points(interval.value), point_range(interval)
    digits = 1 if kind.unit == "length" else 3
    return signed(interval.value, digits), signed_range(interval, digits)


def judged(kind: MetricKind, interval: Interval, least: Least) -> str:
    """Say what a difference shows, without praise where none of the two is better."""
    if kind.better:
        enough = least.calibration if kind.name in ERRORS else least.accuracy
        better = kind.better == "higher"
        return verdict(interval, higher_is_better=better, least=enough)
    if interval.holds_zero:
        return NO_DIFFERENCE
    return "rose" if interval.low > 0 else "fell"


def selection_facts(data: ReportData) -> list[tuple[str, str]]:
    """Return what can be said in numbers about the selected questions."""
    kept = [entry for entry in data.selection if entry.kept]
    rest = [entry for entry in data.selection if not entry.kept]
    facts = [("questions selected", f"{data.num_selected:,} of {data.pool_size:,}")]
    if left_out := num_left_out(data.selection):
        facts.append(("not selected, own completion cut or unread", f"{left_out:,}"))
    for name, entries in (("selected", kept), ("not selected", rest)):
        if not entries:
            continue
        counts = sorted(neuron_counts(entries))
        if counts:
            middle = counts[len(counts) // 2]
            spread = f"{counts[0]:,} to {counts[-1]:,}, median {middle:,}"
            facts.append((f"neurons counted, {name}", spread))
        votes = [data.votes.get(entry.question_id) for entry in entries]
        shares = [vote.agreement for vote in votes if vote is not None]
        if shares:
            mean = percent(sum(shares) / len(shares))
            facts.append((f"rollouts that agree, {name}", f"{mean} in the mean"))
    return facts


def neuron_counts(entries: Iterable[SelectionEntry]) -> list[int]:
    """Return the neuron counts of questions, without those that nobody read."""
    return [e.neuron_count for e in entries if e.neuron_count is not None]


def fitness_rows(fitness: Fitness) -> list[tuple[str, str, str]]:
    """Return what was asked of the teacher, for student and teacher."""
    return [
        (
            "probability of the voted answer",
            percent(fitness.student_agreement),
            percent(fitness.teacher_agreement),
        ),
        (
            "entropy of the answers, nats",
            number(fitness.student_entropy),
            number(fitness.teacher_entropy),
        ),
        (
            f"answer {one_line(fitness.top_answer, 40)!r}, share of questions",
            percent(fitness.top_answer_share_student),
            percent(fitness.top_answer_share),
        ),
        (
            "divergence of the student from the teacher, nats",
            number(fitness.divergence),
            NOT_MEASURED,
        ),
        (
            f"answer {one_line(fitness.pool_answer, 40)!r}, share in the pool",
            percent(fitness.pool_answer_share),
            NOT_MEASURED,
        ),
        ("same answer with another context", NOT_MEASURED, percent(fitness.stability)),
    ]


@dataclass(frozen=True, slots=True)
class CostRow:
    """Time and tokens of one stage, in words."""

    name: str
    time: str
    share: str
    bar: Markup
    tokens: str
    rate: str


def cost_rows(costs: tuple[StageCost, ...]) -> list[CostRow]:
    """Return what each stage took, and all of them together."""
    seconds = sum(cost.seconds for cost in costs)
    total = StageCost("all stages", seconds, sum(cost.tokens for cost in costs))
    return [cost_row(cost, seconds) for cost in (*costs, total)]


def cost_row(cost: StageCost, total_seconds: float) -> CostRow:
    """Write what one stage took."""
    share = cost.seconds / total_seconds if total_seconds > 0 else 0.0
    rate = cost.tokens / cost.seconds if cost.seconds > 0 and cost.tokens else None
    return CostRow(
        name=cost.name,
        time=duration(cost.seconds),
        share=percent(share, 0),
        bar=share_bar(share, "after"),
        tokens=f"{cost.tokens:,}" if cost.tokens else NOT_MEASURED,
        rate=NOT_MEASURED if rate is None else f"{rate:,.0f}",
    )


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """One answer to a question and how many rollouts gave it."""

    answer: str | None
    count: int
    total: int
    bar: Markup
    text: str


def rollout_sides(case: Case) -> Mapping[str, list[RolloutRow]]:
    """Return the answers to one question before and after, the commonest first."""
    sides = {"before": case.rollouts_before, "after": case.rollouts_after}
    return {
        side: [
            RolloutRow(
                one.answer,
                one.count,
                total,
                share_bar(one.count / total if total else 0.0, side),
                one.text if one.text.strip() != (one.answer or "").strip() else "",
            )
            for one in sorted(answers, key=lambda one: -one.count)
        ]
        for side, answers in sides.items()
        for total in [sum(one.count for one in answers)]
    }
