"""The tables and the forest plots of a probe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar

from markupsafe import Markup

from neuron_opsd.records.scores import Interval
from neuron_opsd.report import wording
from neuron_opsd.report.analysis_tables import written
from neuron_opsd.report.charts.intervals import IntervalChart, IntervalRow
from neuron_opsd.report.tables import Cell, Column, Table, TableRow, named, table_of
from neuron_opsd.results import probe
from neuron_opsd.results.probe import (
    ContextResult,
    Measures,
    ProbeData,
    SelectionResult,
)

Result = TypeVar("Result", ContextResult, SelectionResult)

Writers: TypeAlias = Mapping[str, tuple[Column, wording.Write]]
"""What stands over each measure, and how it is written."""

MEASURES: Final[Writers] = {
    probe.ACCURACY: (Column("accuracy", "right"), wording.percent),
    probe.LEAD: (Column("above student", "points"), wording.points),
    probe.SCORE: (Column("score", "label-free"), wording.signed),
    probe.AGREEMENT: (Column("agreement", "with the vote"), wording.percent),
    probe.FIX: (Column("fix", "to the vote"), wording.percent),
    probe.BREAK: (Column("break", "away from it"), wording.percent),
    probe.SHIFT: (Column("shift", "nats"), wording.number),
    probe.ENTROPY: (Column("entropy", "nats"), wording.number),
    probe.STABILITY: (Column("stability", "same answer"), wording.percent),
    probe.DIVERGENCE: (Column("divergence", "nats"), wording.number),
    probe.SUPPORT: (Column("support", "of others"), wording.percent),
}


def shown_of(rows: Iterable[Measures]) -> Writers:
    """Return what any row holds a number of."""
    known = {name for measures in rows for name in measures}
    return {name: one for name, one in MEASURES.items() if name in known}


def cells(measures: Measures, shown: Writers) -> tuple[Cell, ...]:
    """Write some measures with their intervals."""
    return tuple(written(measures.get(name), how) for name, (_, how) in shown.items())


def context_table(data: ProbeData) -> Table:
    """Return what is measured of each context rule's teacher, the student first."""
    shown = shown_of(one.measures for one in data.contexts)
    rows = [TableRow("student", cells(data.student, shown), note="no demonstrations")]
    rows += [
        TableRow(one.rule, cells(one.measures, shown), note=draws(one.num_draws))
        for one in data.contexts
    ]
    columns = [column for column, _ in shown.values()]
    return table_of("Teachers of context rules", "demonstrations", columns, rows)


def draws(count: int) -> str:
    """Say of how many draws a number is the mean."""
    return f"mean of {count} draws" if count > 1 else ""


def selection_table(data: ProbeData) -> Table:
    """Return what the teacher is on the questions that each selection rule keeps."""
    shown = shown_of(one.measures for one in data.selections)
    rows = [
        TableRow(
            one.rule,
            (
                Cell(f"{one.num_kept:,}"),
                Cell(wording.percent(one.top_answer_share)),
                *cells(one.measures, shown),
            ),
            note=draws(one.num_draws),
        )
        for one in data.selections
    ]
    columns = [Column("kept", "questions"), Column("one answer", "top vote's share")]
    columns += [column for column, _ in shown.values()]
    return table_of("Teacher of what selection rules keep", "selection", columns, rows)


def pair_table(data: ProbeData) -> Table | None:
    """Return the score of selection rules, a row each, with context rules."""
    if not data.pairs:
        return None
    contexts = list(dict.fromkeys(pair.contexts for pair in data.pairs))
    found = {(pair.selection, pair.contexts): pair for pair in data.pairs}
    rows = [
        TableRow(
            name,
            tuple(written(found[name, one].score, wording.signed) for one in contexts),
            note=f"{found[name, contexts[0]].num_questions:.0f} questions",
        )
        for name in dict.fromkeys(pair.selection for pair in data.pairs)
    ]
    return table_of(
        "Score of selection and contexts", "selection", named(contexts), rows
    )


def help_table(data: ProbeData) -> list[tuple[str, str]]:
    """Return what each rule does."""
    rules = [(f"contexts.rule={one.rule}", one.help) for one in data.contexts]
    return rules + [(f"selection.rule={one.rule}", one.help) for one in data.selections]


def accuracy_plot(data: ProbeData) -> Markup:
    """Draw how much more often each teacher is right; empty without gold answers."""
    rows = [
        row
        for one in by_value(data.contexts, probe.ACCURACY)
        if (row := accuracy_row(one)) is not None
    ]
    return IntervalChart(
        "Teachers' accuracy",
        "Probability of the right answer, less that of the student and less that of "
        "random demonstrations, with 95 % intervals.",
        rows,
        "points",
        [("after", "above the student"), ("net", "above random demonstrations")],
    ).draw()


def accuracy_row(one: ContextResult) -> IntervalRow | None:
    """Return a row of the plot, `None` where there is no number."""
    above = one.over_student.get(probe.ACCURACY)
    if above is None:
        return None
    random = one.over_random.get(probe.ACCURACY)
    lines = [(one.rule, said(above))]
    if random is not None:
        lines.append(("above random", said(random)))
    shown = [in_points(above), *([in_points(random)] if random is not None else [])]
    return IntervalRow(tuple(lines), tuple(shown))


def score_plot(data: ProbeData) -> Markup:
    """Draw the label-free score of each context rule's teacher."""
    return forest(
        "Label-free score of teachers",
        "The score of the teacher of each context rule",
        data.contexts,
        probe.SCORE,
    )


def selection_plot(data: ProbeData) -> Markup:
    """Draw what the teacher gains, or its score, on what each selection rule keeps."""
    name = probe.LEAD if data.labelled else probe.SCORE
    what = (
        "points of accuracy above the student" if data.labelled else "label-free score"
    )
    return forest(
        "The teacher on what is kept",
        f"The {what} on the questions that each selection rule keeps",
        data.selections,
        name,
    )


def forest(
    title: str,
    about: str,
    results: Sequence[Result],
    name: str,
) -> Markup:
    """Draw one measure of several rules below each other, the highest first."""
    points = name == probe.LEAD
    rows = []
    for one in by_value(results, name):
        found = one.measures.get(name)
        if found is not None and wording.finite(found):
            text = said(found) if points else with_two_digits(found)
            drawn = in_points(found) if points else found
            rows.append(IntervalRow(((one.rule, text),), (drawn,)))
    axis = "points" if points else name
    return IntervalChart(title, f"{about}, with 95 % intervals.", rows, axis).draw()


def by_value(results: Sequence[Result], name: str) -> list[Result]:
    """Return results with the highest value first, those without one last."""

    def place(one: Result) -> float:
        found = one.measures.get(name)
        return -found.value if wording.finite(found) else float("inf")

    return sorted(results, key=place)


def said(interval: Interval) -> str:
    """Write a difference of shares in points, with its interval."""
    return wording.with_ends(interval, wording.points)


def with_two_digits(interval: Interval) -> str:
    """Write a number with its interval."""
    return wording.with_ends(interval, wording.signed_two_digits)


def in_points(interval: Interval) -> Interval:
    """Return a difference of shares in percentage points."""
    return Interval(*(100.0 * x for x in (interval.value, interval.low, interval.high)))
