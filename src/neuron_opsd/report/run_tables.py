"""The tables of a run's page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from markupsafe import Markup

from neuron_opsd.config import EvaluationConfig
from neuron_opsd.method.labels import OF_LABELS
from neuron_opsd.records import TeacherCheck
from neuron_opsd.records.scores import Interval
from neuron_opsd.report import measures, wording
from neuron_opsd.report.charts.svg import share_bar
from neuron_opsd.report.html import (
    NO_CELL,
    Cell,
    Column,
    Table,
    TableRow,
    row_of,
    said,
    table_of,
)
from neuron_opsd.report.measures import label_pairs, no_gain_at_baseline, standing
from neuron_opsd.report.run_outcome import accuracies, ordered
from neuron_opsd.results.run import (
    GuardSummary,
    ReportData,
    StageCost,
    TestComparison,
    least_of,
)


def results_table(data: ReportData) -> Table:
    """Return all models' accuracy on every test set."""
    k = data.config.evaluation.num_samples
    columns = (
        Column("base", f"Avg@{k}"),
        Column("base vote", f"Maj@{k}"),
        Column("base +", "own demos"),
        Column("form-", "only"),
        Column("trained", f"Avg@{k}"),
        Column("difference", "points, 95 %"),
        Column("net of form", "points, 95 %"),
        Column("ECE", "before, after"),
    )
    rows = map(result_row, ordered(data.tests))
    return table_of("Accuracy on every test set", "test set", columns, rows)


def result_row(test: TestComparison) -> TableRow:
    """Return all models' accuracy on one test set."""
    *others, trained = accuracies(test)
    before, after = map(wording.number, test.both("ece"))
    where = "in-domain" if test.in_domain else "cross-domain"
    return row_of(
        wording.one_line(test.name, 40),
        *others,
        Cell(trained, key=True),
        points_cell(test.delta.get("avg_at_k")),
        points_cell((test.net_of_form or {}).get("avg_at_k")),
        Cell(before, after),
        note=f"{where}, {test.num_questions:,}",
    )


def points_cell(interval: Interval | None) -> Cell:
    """Format a difference of shares with its interval."""
    if not wording.finite(interval):
        return NO_CELL
    return Cell(wording.points(interval.value), wording.ends(interval, wording.points))


def label_table(data: ReportData) -> Table | None:
    """Return the label measures; `None` if no gold answers repeat."""
    k = data.config.evaluation.num_samples
    columns = [Column("baseline", "gold answer")] + [
        Column(heading, "before, after")
        for heading in (f"Avg@{k}", "balanced", "macro F1", "top answer")
    ]
    rows = []
    for test in ordered(data.tests):
        if test.baseline is not None:
            answer = wording.one_line(test.baseline.answer, 24)
            base, *_, trained = accuracies(test)
            pairs = [(base, trained), *label_pairs(test)]
            first = Cell(wording.percent(test.baseline.share), answer, key=True)
            cells = (first, *(Cell(*pair) for pair in pairs))
            rows.append(row_of(wording.one_line(test.name, 40), *cells))
    title = "Where gold answers repeat"
    return table_of(title, "test set", columns, rows) if rows else None


def metric_table(test: TestComparison, config: EvaluationConfig) -> Table:
    """Return every metric of a test set, before and after."""
    columns = (
        *map(Column, ("before", "after", "change", "95 % interval")),
        Column("what it shows", text=True),
    )
    rows = (
        metric_row(kind, test, config)
        for kind in measures.METRIC_KINDS
        if (
            any(map(wording.is_measured, test.both(kind.name)))
            if kind.name in OF_LABELS  # which must also be a number
            else kind.name in test.before.metrics
        )
    )
    title = f"Every measure on {wording.one_line(test.name, 60)}"
    return table_of(title, "measure", columns, rows)


def metric_row(
    kind: measures.MetricKind, test: TestComparison, config: EvaluationConfig
) -> TableRow:
    """Format one metric before and after, with a verdict."""
    least, interval = least_of(config), test.delta.get(kind.name)
    label = kind.label.replace("@k", f"@{config.num_samples}")
    values = [measures.written(kind, value) for value in test.both(kind.name)]
    change, span, shown = wording.NOT_MEASURED, "", ""
    # The baseline belongs to the questions, not to a model.
    if wording.finite(interval) and kind.name != "baseline":
        change, span = measures.written_change(kind, interval)
        shown = measures.judged(kind, interval, least)
        if kind.name in ("avg_at_k", "maj_at_k"):
            shown = no_gain_at_baseline(shown, standing(test, least.accuracy))
    return row_of(label, *values, change, span, said(shown))


def teacher_table(check: TeacherCheck) -> Table:
    """Return the teacher check's results."""
    top, pool = (
        wording.one_line(one, 40) for one in (check.top_answer, check.pool_answer)
    )
    percent, number = wording.percent, wording.number
    rows = (
        row_of(
            "probability of the voted answer",
            percent(check.student_agreement),
            percent(check.teacher_agreement),
        ),
        row_of(
            "entropy of the answers, nats",
            number(check.student_entropy),
            number(check.teacher_entropy),
        ),
        row_of(
            f"answer {top!r}, share of questions",
            percent(check.top_answer_share_student),
            percent(check.top_answer_share),
        ),
        row_of(
            "divergence of the student from the teacher, nats",
            number(check.divergence),
            wording.NOT_MEASURED,
        ),
        row_of(
            f"answer {pool!r}, share in the pool",
            percent(check.pool_answer_share),
            wording.NOT_MEASURED,
        ),
        row_of(
            "same answer with another context",
            wording.NOT_MEASURED,
            percent(check.stability),
        ),
    )
    corner = f"on {check.num_questions} selected questions"
    columns = (Column("student"), Column("teacher"))
    return table_of("Check of the teacher", corner, columns, rows)


GUARD_MEASURES: Final[Mapping[str, tuple[str, Callable[[float | None], str]]]] = {
    "agreement": ("rollouts of a question that agree", wording.percent),
    "top_answer_share": ("most frequent answer, over all questions", wording.percent),
    "base_agreement": ("agrees with the base model", wording.percent),
    "divergence": ("KL(student || base), nats", wording.number),
    "surprise": ("KL(base || student), nats", wording.number),
    "entropy": ("entropy, nats per token", wording.number),
    "information": ("information of an answer, nats", wording.number),
    "repetition": ("repeated runs of tokens", wording.percent),
    "truncated": ("cut off at the length limit", wording.percent),
    "mean_length": ("tokens of a rollout", wording.number),
}
"""Fields of a reading, with label and format."""


def guard_table(guard: GuardSummary) -> Table:
    """Compare base and student on the guard's questions."""
    return table_of(
        "The guard",
        f"{guard.num_looks} looks at the same questions of the pool",
        map(Column, ("base", "after the last step")),
        (
            row_of(
                name, *(write(getattr(one, key)) for one in (guard.base, guard.last))
            )
            for key, (name, write) in GUARD_MEASURES.items()
        ),
    )


def cost_table(costs: tuple[StageCost, ...]) -> Table:
    """Return costs by stage, and their total."""
    seconds = sum(cost.seconds for cost in costs)
    total = StageCost("all stages", seconds, sum(cost.tokens for cost in costs))
    columns = (
        Column("time"),
        Column("share", text=True),
        Column("tokens"),
        Column("tokens per second"),
    )
    rows = [cost_row(cost, seconds) for cost in costs]
    rows.append(cost_row(total, seconds, total=True))
    return table_of("Time and tokens of each stage", "stage", columns, rows)


def cost_row(cost: StageCost, seconds: float, *, total: bool = False) -> TableRow:
    """Format a stage's cost, its share of the time as a bar."""
    share = cost.seconds / seconds if seconds > 0 else 0.0
    bar = Markup("") if total else share_bar(share, "after")
    rate = cost.tokens / cost.seconds if cost.seconds > 0 and cost.tokens else None
    return row_of(
        wording.one_line(cost.name, 60),
        wording.duration(cost.seconds),
        bar + wording.percent(share, 0),
        f"{cost.tokens:,}" if cost.tokens else wording.NOT_MEASURED,
        wording.number(rate, 0),
        total=total,
    )
