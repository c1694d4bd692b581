"""Tables of an analysis, one row per run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TypeAlias

from neuron_opsd.records.scores import Interval
from neuron_opsd.report import wording
from neuron_opsd.report.html import (
    NO_CELL,
    Cell,
    Column,
    Table,
    TableRow,
    named,
    row_of,
    table_of,
)
from neuron_opsd.results.analysis import (
    ACCURACY,
    AGREEMENT,
    CAPTURED,
    ENTROPY,
    GROUPS,
    LENGTH,
    NEAREST,
    PAIRS,
    RIVALS,
    VOTE,
    AnalysisData,
    area_gain_name,
    area_name,
    correlation_name,
    shared_name,
    vote_name,
)

Measures: TypeAlias = Mapping[str, Interval]

MEAN = "mean of runs"

Correlations: TypeAlias = Sequence[tuple[str, str]]
"""Target and kind of each correlation."""
CORRELATED = tuple(product((ACCURACY, CAPTURED), ("pearson", "spearman")))
GIVEN = tuple(product((ACCURACY, CAPTURED), ("spearman", "partial", "partial_ranks")))
UNLABELLED = tuple(product((AGREEMENT, LENGTH, ENTROPY), ("spearman",)))

TARGET_HEADINGS = {
    ACCURACY: "accuracy",
    CAPTURED: "captured right",
    AGREEMENT: "vote share",
    LENGTH: "length",
    ENTROPY: "entropy",
}
KIND_NOTES = {
    "pearson": "Pearson",
    "spearman": "Spearman",
    "partial": "partial, linear",
    "partial_ranks": "partial, ranks",
}

Writers: TypeAlias = Mapping[str, tuple[Column, wording.Write]]
"""Column and format of each statistic."""

VOTES: Writers = {
    "avg_at_k": (Column("Avg@k", "one answer"), wording.percent),
    "maj_at_k": (Column("Maj@k", "the vote"), wording.percent),
    "maj_minus_avg": (Column("Maj@k minus Avg@k", "points"), wording.points),
    "agreement": (Column("vote share", "agree"), wording.percent),
    "unanimity": (Column("unanimous", "all agree"), wording.percent),
}

LABELS: Writers = {
    "avg_at_k": (Column("Avg@k", "one answer"), wording.percent),
    "baseline": (Column("baseline", "one answer to all"), wording.percent),
    "balanced_accuracy": (Column("balanced", "accuracy"), wording.percent),
    "macro_f1": (Column("macro F1", "over answers"), wording.percent),
    "top_answer_share": (Column("top answer", "its share"), wording.percent),
}

SHARING = {
    "demonstrations": Column("demonstrations", "share the answer"),
    "random": Column("random questions", "share the answer"),
    "excess": Column("difference", "points"),
}

ENTROPIES = (
    *(Column("entropy", who) for who in ("student", "teacher")),
    Column("difference", "nats"),
    *(Column("agreement", who) for who in ("student", "teacher")),
    Column("difference", "points"),
)


def written(interval: Interval | None, write: wording.Write) -> Cell:
    """Format a number and its interval, if measured."""
    if interval is None or not wording.is_measured(interval.value):
        return NO_CELL
    span = wording.ends(interval, write) if wording.finite(interval) else ""
    return Cell(write(interval.value), span)


def cells_of(
    measures: Measures, columns: Mapping[str, wording.Write]
) -> tuple[Cell, ...]:
    """Format measures by name."""
    return tuple(written(measures.get(name), how) for name, how in columns.items())


def named_measures(data: AnalysisData) -> list[tuple[str, Measures]]:
    """Return name and measures of each run, then of their mean."""
    return [*((run.name, run.measures) for run in data.runs), (MEAN, data.overall)]


def run_rows(
    data: AnalysisData, columns: Mapping[str, wording.Write]
) -> list[TableRow]:
    """Return a row for each run, and the mean, with any of the numbers."""
    rows = [
        row_of(
            run.name, *cells_of(run.measures, columns), note=f"{run.num_questions:,}"
        )
        for run in data.runs
        if run.measures.keys() & columns.keys()
    ]
    if len(rows) > 1 and data.overall.keys() & columns.keys():
        rows.append(row_of(MEAN, *cells_of(data.overall, columns), total=True))
    return rows


def by_run(
    title: str, columns: Iterable[Column], rows: Sequence[TableRow]
) -> Table | None:
    """Return a table of runs, or `None` if empty."""
    short = [replace(row, name=wording.one_line(row.name, 40)) for row in rows]
    return table_of(title, "run", columns, short) if short else None


def correlation_rows(data: AnalysisData, shown: Correlations) -> list[TableRow]:
    """Return each run's neuron count correlations."""
    names = (correlation_name(kind, target) for target, kind in shown)
    return run_rows(data, dict.fromkeys(names, wording.signed_two_digits))


def correlation_table(
    data: AnalysisData, shown: Correlations, title: str
) -> Table | None:
    """Return a table of correlations, or `None` if empty."""
    columns = (
        Column(TARGET_HEADINGS[target], KIND_NOTES[kind]) for target, kind in shown
    )
    return by_run(title, columns, correlation_rows(data, shown))


def area_tables(data: AnalysisData) -> list[tuple[str, Table]]:
    """Return tables of all rivals' areas: the mean's and each run's."""
    found = [(run.name, run.measures) for run in data.runs if run.labelled]
    if len(found) > 1 and area_name(CAPTURED, "count") in data.overall:
        found.insert(0, (MEAN, data.overall))
    columns = (
        Column("captured answer", "area"),
        Column("count minus this", "area"),
        Column("what it shows", text=True),
        Column("majority answer", "area"),
        Column("count minus this", "area"),
    )
    return [
        (name, table_of(title, "number, hypothesis", columns, area_rows(measures)))
        for name, measures in found
        for title in [f"Areas under the ROC curve, {wording.one_line(name, 60)}"]
    ]


def area_rows(measures: Measures) -> list[TableRow]:
    """Return one row per rival."""
    rows = []
    for name, rival in RIVALS.items():
        area, gain, vote, vote_gain = (
            measures.get(called(target, name))
            for target in (CAPTURED, VOTE)
            for called in (area_name, area_gain_name)
        )
        cells = (
            written(area, wording.two_digits),
            written(gain, wording.signed_two_digits),
            compared(gain),
            written(vote, wording.two_digits),
            written(vote_gain, wording.signed_two_digits),
        )
        rows.append(row_of(rival.label, *cells, note=rival.hypothesis))
    return rows


def compared(gain: Interval | None) -> str:
    """Say which separates better, count or rival."""
    if gain is None:
        return ""
    if not wording.finite(gain):
        return "not measured"
    if gain.holds_zero:
        return "no difference seen"
    return "the count is better" if gain.low > 0 else "better than the count"


def group_table(
    data: AnalysisData, title: str, shown: Writers, needed: str = ""
) -> Table | None:
    """Return statistics of selected, other and all questions.

    Rows without `needed` (if empty, without any statistic) are dropped.
    """
    rows = []
    for name, measures in named_measures(data):
        for group, label in GROUPS.items():
            columns = {vote_name(group, one): how for one, (_, how) in shown.items()}
            asked = {vote_name(group, needed)} if needed else columns.keys()
            if asked & measures.keys():
                cells = cells_of(measures, columns)
                rows.append(row_of(name, *cells, note=label, total=name == MEAN))
    return by_run(title, (column for column, _ in shown.values()), rows)


def entropy_table(data: AnalysisData) -> Table | None:
    """Return entropy and agreement from the runs' teacher checks."""
    rows = []
    for run in data.runs:
        check = run.teacher_check
        if check is None:
            continue
        texts = (
            wording.number(check.student_entropy),
            wording.number(check.teacher_entropy),
            wording.signed(check.teacher_entropy - check.student_entropy),
            wording.percent(check.student_agreement),
            wording.percent(check.teacher_agreement),
            wording.points(check.teacher_agreement - check.student_agreement),
        )
        rows.append(row_of(run.name, *texts, note=f"{check.num_questions:,}"))
    return by_run("Entropy and agreement of student and teacher", ENTROPIES, rows)


def distance_table(data: AnalysisData) -> Table | None:
    """Return mean distances within each run."""
    headings = ("two questions", "to the nearest")
    columns = (Column(heading, "mean distance") for heading in headings)
    rows = run_rows(data, dict.fromkeys((PAIRS, NEAREST), wording.number))
    return by_run("Jaccard distances within runs", columns, rows)


def between_table(data: AnalysisData) -> Table | None:
    """Return distances between runs, or `None` if none are comparable."""
    pairs = (value for place, row in enumerate(data.between) for value in row[:place])
    if all(value is None for value in pairs):
        return None
    rows = [
        row_of(run.name, *map(wording.number, row))
        for run, row in zip(data.runs, data.between, strict=True)
    ]
    columns = named(wording.one_line(run.name, 24) for run in data.runs)
    return by_run("Jaccard distances between runs", columns, rows)


def sharing_table(data: AnalysisData, what: str, title: str) -> Table | None:
    """Return how often demonstrations share `gold` or their own `answer`."""
    names = [shared_name(what, part) for part in SHARING]
    writers = (wording.percent, wording.percent, wording.points)
    rows = run_rows(data, dict(zip(names, writers, strict=True)))
    return by_run(title, SHARING.values(), rows)
