"""What each section of the page shows, worked out before the template lays it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from neuron_opsd.config import EvaluationConfig
from neuron_opsd.records import Fitness
from neuron_opsd.report.charts.intervals import interval_strip
from neuron_opsd.report.charts.svg import share_bar
from neuron_opsd.report.condense import by_count
from neuron_opsd.report.run_outcome import accuracy_verdict, in_domain_test, net_verdict
from neuron_opsd.report.wording import (
    NOT_MEASURED,
    duration,
    finite,
    number,
    one_line,
    percent,
    point_range,
    points,
    signed,
    signed_range,
    verdict,
)
from neuron_opsd.results.run import Case, ReportData, StageCost, TestComparison
from neuron_opsd.results.scores import Interval


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


def selection_facts(data: ReportData) -> list[tuple[str, str]]:
    """Return what can be said in numbers about the selected questions."""
    facts = [("questions selected", f"{data.num_selected:,} of {data.pool_size:,}")]
    if data.pool is None:
        return facts
    if left_out := data.pool.num_left_out:
        facts.append(("not selected, own completion cut or unread", f"{left_out:,}"))
    for one in data.pool.shares:
        name = "selected" if one.kept else "not selected"
        if one.neurons is not None:
            low, middle, high = one.neurons
            spread = f"{low:,} to {high:,}, median {middle:,}"
            facts.append((f"neurons counted, {name}", spread))
        if one.agreement is not None:
            mean = f"{percent(one.agreement)} in the mean"
            facts.append((f"rollouts that agree, {name}", mean))
    return facts


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
            for one in sorted(answers, key=by_count)
        ]
        for side, answers in sides.items()
        for total in [sum(one.count for one in answers)]
    }
