"""The tables of an analysis: numbers by run, written before they are laid out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from neuron_opsd.report.tables import (
    NO_CELL,
    Cell,
    Column,
    Table,
    TableRow,
    named,
    table_of,
)
from neuron_opsd.report.wording import (
    finite,
    is_measured,
    number,
    one_line,
    percent,
    points,
    signed,
)
from neuron_opsd.results.analysis import (
    ACCURACY,
    AGREEMENT,
    CAPTURED,
    ENTROPY,
    GROUPS,
    LABEL_MEASURES,
    LENGTH,
    NEAREST,
    PAIRS,
    RIVALS,
    VOTE,
    VOTE_MEASURES,
    AnalysisData,
    area_gain_name,
    area_name,
    correlation_name,
    shared_name,
    vote_name,
)
from neuron_opsd.results.scores import Interval

Measures: TypeAlias = Mapping[str, Interval]

Write: TypeAlias = Callable[[float], str]

MEAN = "mean of runs"

Correlations: TypeAlias = Mapping[tuple[str, str], Column]
"""Kind and target of each correlation, and what stands over it."""

CORRELATED: Correlations = {
    ("pearson", ACCURACY): Column("accuracy", "Pearson"),
    ("spearman", ACCURACY): Column("accuracy", "Spearman"),
    ("pearson", CAPTURED): Column("captured right", "Pearson"),
    ("spearman", CAPTURED): Column("captured right", "Spearman"),
}

GIVEN: Correlations = {
    ("spearman", ACCURACY): Column("accuracy", "Spearman"),
    ("partial", ACCURACY): Column("accuracy, partial", "linear"),
    ("partial_ranks", ACCURACY): Column("accuracy, partial", "ranks"),
    ("spearman", CAPTURED): Column("captured, right", "Spearman"),
    ("partial", CAPTURED): Column("captured, partial", "linear"),
    ("partial_ranks", CAPTURED): Column("captured, partial", "ranks"),
}

UNLABELLED: Correlations = {
    ("spearman", AGREEMENT): Column("vote share", "Spearman"),
    ("spearman", LENGTH): Column("length", "Spearman"),
    ("spearman", ENTROPY): Column("entropy", "Spearman"),
}

VOTE_NOTES = ("one answer", "the vote", "points", "agree", "all agree")
LABEL_NOTES = (
    "one answer",
    "one answer to all",
    "accuracy",
    "over answers",
    "its share",
)

SHARING = {
    "demonstrations": Column("demonstrations", "share alike"),
    "random": Column("random questions", "share alike"),
    "excess": Column("difference", "points"),
}

ENTROPIES = (
    *(Column("entropy", who) for who in ("student", "teacher")),
    Column("difference", "nats"),
    *(Column("agreement", who) for who in ("student", "teacher")),
    Column("difference", "points"),
)


def written(interval: Interval | None, write: Write) -> Cell:
    """Write a number and its interval, where there are such."""
    if interval is None or not is_measured(interval.value):
        return NO_CELL
    low, high = write(interval.low), write(interval.high)
    return Cell(write(interval.value), f"{low} to {high}" if finite(interval) else "")


with_two_digits = partial(number, digits=2)
with_sign = partial(signed, digits=2)


def cells_of(measures: Measures, columns: Mapping[str, Write]) -> tuple[Cell, ...]:
    """Write some numbers by name."""
    return tuple(written(measures.get(name), how) for name, how in columns.items())


def run_rows(data: AnalysisData, columns: Mapping[str, Write]) -> list[TableRow]:
    """Return a row for each run that has one of the numbers, and for their mean.

    Args:
        data: The analysis.
        columns: Names of the numbers, and how each is written.
    """
    rows = [
        TableRow(
            run.name, cells_of(run.measures, columns), note=f"{run.num_questions:,}"
        )
        for run in data.runs
        if run.measures.keys() & columns.keys()
    ]
    if len(rows) > 1 and data.overall.keys() & columns.keys():
        rows.append(TableRow(MEAN, cells_of(data.overall, columns), total=True))
    return rows


def by_run(
    title: str, columns: Iterable[Column], rows: Sequence[TableRow]
) -> Table | None:
    """Return a table of runs; `None` where it has no row."""
    short = [replace(row, name=one_line(row.name, 40)) for row in rows]
    return table_of(title, "run", columns, short) if short else None


def correlation_rows(data: AnalysisData, columns: Correlations) -> list[TableRow]:
    """Return the correlations of the neuron count, run by run."""
    names = (correlation_name(kind, target) for kind, target in columns)
    return run_rows(data, dict.fromkeys(names, with_sign))


def correlation_tables(data: AnalysisData) -> dict[str, Table | None]:
    """Return the tables of correlations: with answers, given other signs, without."""
    tables = {
        "correlated": ("Correlation of neuron count and correctness", CORRELATED),
        "given": ("Plain and partial correlations", GIVEN),
        "label_free": (
            "Rank correlation of neuron count and label-free signs",
            UNLABELLED,
        ),
    }
    return {
        name: by_run(title, columns.values(), correlation_rows(data, columns))
        for name, (title, columns) in tables.items()
    }


def area_tables(data: AnalysisData) -> list[tuple[str, Table]]:
    """Return the areas of all rivals for the mean of runs and for each run."""
    found = [(run.name, run.measures) for run in data.runs if run.labelled]
    if len(found) > 1 and area_name(CAPTURED, "count") in data.overall:
        found.insert(0, (MEAN, data.overall))
    columns = (
        Column("captured answer", "area"),
        Column("count less this", "area"),
        Column("what it shows", text=True),
        Column("majority answer", "area"),
        Column("count less this", "area"),
    )
    return [
        (name, table_of(title, "number, hypothesis", columns, area_rows(measures)))
        for name, measures in found
        for title in [f"Areas under the ROC curve, {one_line(name, 60)}"]
    ]


def area_rows(measures: Measures) -> list[TableRow]:
    """Return one row for each rival."""
    rows = []
    for name, rival in RIVALS.items():
        (captured, gain), (vote, vote_gain) = (
            (
                written(measures.get(area_name(target, name)), with_two_digits),
                written(measures.get(area_gain_name(target, name)), with_sign),
            )
            for target in (CAPTURED, VOTE)
        )
        said = Cell(compared(measures.get(area_gain_name(CAPTURED, name))))
        cells = (captured, gain, said, vote, vote_gain)
        rows.append(TableRow(rival.label, cells, note=rival.hypothesis))
    return rows


def compared(gain: Interval | None) -> str:
    """Say which tells better, the count or its rival."""
    if gain is None:
        return ""
    if not finite(gain):
        return "not measured"
    if gain.holds_zero:
        return "no difference seen"
    return "the count is better" if gain.low > 0 else "better than the count"


def label_table(data: AnalysisData) -> Table | None:
    """Return what belongs beside accuracy, of the runs whose true answers repeat."""
    columns = map(Column, LABEL_MEASURES.values(), LABEL_NOTES)
    rows = group_rows(data, dict.fromkeys(LABEL_MEASURES, percent), "baseline")
    return by_run("Where true answers repeat", columns, rows)


def vote_table(data: AnalysisData) -> Table | None:
    """Return the vote statistics of the selected, the other and all questions."""
    columns = map(Column, VOTE_MEASURES.values(), VOTE_NOTES)
    return by_run("Votes", columns, vote_rows(data))


def vote_rows(data: AnalysisData) -> list[TableRow]:
    """Return one row of votes for each run and group of questions."""
    writers = (percent, percent, points, percent, percent)
    return group_rows(data, dict(zip(VOTE_MEASURES, writers, strict=True)))


def group_rows(
    data: AnalysisData, shown: Mapping[str, Write], needed: str = ""
) -> list[TableRow]:
    """Return some statistics of the selected, the other and all questions.

    Args:
        data: All runs.
        shown: Names of the statistics, and how each is written.
        needed: The one without which there is no row; any of them where empty.
    """
    rows = []
    for name, measures in (
        *((run.name, run.measures) for run in data.runs),
        (MEAN, data.overall),
    ):
        for group, label in GROUPS.items():
            columns = {vote_name(group, one): how for one, how in shown.items()}
            asked = {vote_name(group, needed)} if needed else columns.keys()
            if asked & measures.keys():
                cells = cells_of(measures, columns)
                rows.append(TableRow(name, cells, note=label, total=name == MEAN))
    return rows


def entropy_table(data: AnalysisData) -> Table | None:
    """Return what the teacher's check found of entropy and agreement, run by run."""
    rows = []
    for run in data.runs:
        check = run.teacher_check
        if check is None:
            continue
        texts = (
            number(check.student_entropy),
            number(check.teacher_entropy),
            signed(check.teacher_entropy - check.student_entropy),
            percent(check.student_agreement),
            percent(check.teacher_agreement),
            points(check.teacher_agreement - check.student_agreement),
        )
        note = f"{check.num_questions:,}"
        rows.append(TableRow(run.name, tuple(map(Cell, texts)), note=note))
    return by_run("Entropy and agreement of student and teacher", ENTROPIES, rows)


def distance_table(data: AnalysisData) -> Table | None:
    """Return the mean distances within each run."""
    headings = ("two questions", "to the nearest")
    columns = (Column(heading, "mean distance") for heading in headings)
    rows = run_rows(data, dict.fromkeys((PAIRS, NEAREST), number))
    return by_run("Jaccard distances within runs", columns, rows)


def between_table(data: AnalysisData) -> Table | None:
    """Return the matrix of distances between runs, `None` where none is comparable."""
    pairs = (value for place, row in enumerate(data.between) for value in row[:place])
    if all(value is None for value in pairs):
        return None
    rows = [
        TableRow(run.name, tuple(Cell(number(value)) for value in row))
        for run, row in zip(data.runs, data.between, strict=True)
    ]
    columns = named(one_line(run.name, 24) for run in data.runs)
    return by_run("Jaccard distances between runs", columns, rows)


def sharing_table(data: AnalysisData, what: str, title: str) -> Table | None:
    """Return how often demonstrations share an answer with their question.

    Args:
        data: The analysis.
        what: ``gold`` or ``answer``.
        title: Of the table.
    """
    names = [shared_name(what, part) for part in SHARING]
    writers = (percent, percent, points)
    rows = run_rows(data, dict(zip(names, writers, strict=True)))
    return by_run(title, SHARING.values(), rows)
