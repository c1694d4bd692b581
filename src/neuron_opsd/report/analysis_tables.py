"""What each section of an analysis shows, worked out before it is laid out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from neuron_opsd.records import Fitness
from neuron_opsd.report.wording import (
    NOT_MEASURED,
    finite,
    is_measured,
    number,
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
    RunAnalysis,
    area_gain_name,
    area_name,
    correlation_name,
    shared_name,
    vote_name,
)
from neuron_opsd.results.scores import Interval

Measures: TypeAlias = Mapping[str, Interval]

Columns: TypeAlias = tuple[tuple[str, str], ...]
"""Kind and target of the correlation in each column."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A number in words, and the ends of its interval below."""

    value: str
    span: str = ""


Write: TypeAlias = Callable[[Interval | None], Cell]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table."""

    name: str
    note: str
    cells: tuple[Cell, ...]
    total: bool = False
    """Whether it is the mean of the lines above."""


@dataclass(frozen=True, slots=True)
class AreaRow:
    """One rival in the table of areas."""

    label: str
    hypothesis: str
    captured: Cell
    captured_gain: Cell
    said: str
    vote: Cell
    vote_gain: Cell


CORRELATED: Columns = (
    ("pearson", ACCURACY),
    ("spearman", ACCURACY),
    ("pearson", CAPTURED),
    ("spearman", CAPTURED),
)

GIVEN: Columns = (
    ("spearman", ACCURACY),
    ("partial", ACCURACY),
    ("partial_ranks", ACCURACY),
    ("spearman", CAPTURED),
    ("partial", CAPTURED),
    ("partial_ranks", CAPTURED),
)

UNLABELLED: Columns = (
    ("spearman", AGREEMENT),
    ("spearman", LENGTH),
    ("spearman", ENTROPY),
)

VOTE_HEADINGS = tuple(
    (label, unit)
    for label, unit in zip(
        VOTE_MEASURES.values(),
        ("one answer", "the vote", "points", "agree", "all agree"),
        strict=True,
    )
)


def with_span(interval: Interval | None, write: Callable[[float], str]) -> Cell:
    """Write a number and its interval, where there are such."""
    if interval is None or not is_measured(interval.value):
        return Cell(NOT_MEASURED)
    low, high = write(interval.low), write(interval.high)
    return Cell(write(interval.value), f"{low} to {high}" if finite(interval) else "")


def as_number(interval: Interval | None, digits: int = 2) -> Cell:
    """Write a number and its interval."""
    return with_span(interval, partial(number, digits=digits))


def as_signed(interval: Interval | None) -> Cell:
    """Write a correlation or a difference and its interval."""
    return with_span(interval, partial(signed, digits=2))


def as_percent(interval: Interval | None) -> Cell:
    """Write a share and its interval."""
    return with_span(interval, percent)


def as_points(interval: Interval | None) -> Cell:
    """Write a difference of shares in points, and its interval."""
    return with_span(interval, points)


def as_distance(interval: Interval | None) -> Cell:
    """Write a distance and its interval."""
    return as_number(interval, 3)


def rows_of(
    data: AnalysisData,
    names: Sequence[str],
    write: Sequence[Write],
) -> list[Row]:
    """Return a line for each run that has one of the numbers, and for their mean.

    Args:
        data: The analysis.
        names: Of the numbers, one for each column.
        write: How each column is written.
    """
    lines = [(run.name, f"{run.num_questions:,}", run.measures) for run in data.runs]
    rows = [
        Row(name, note, written(measures, names, write))
        for name, note, measures in lines
        if any(one in measures for one in names)
    ]
    if len(rows) > 1 and any(one in data.overall for one in names):
        cells = written(data.overall, names, write)
        rows.append(Row("mean of runs", "", cells, total=True))
    return rows


def written(
    measures: Measures,
    names: Sequence[str],
    write: Sequence[Write],
) -> tuple[Cell, ...]:
    """Write some numbers by name."""
    pairs = zip(names, write, strict=True)
    return tuple(how(measures.get(name)) for name, how in pairs)


def correlation_rows(data: AnalysisData, columns: Columns) -> list[Row]:
    """Return the correlations of the neuron count, run by run."""
    names = [correlation_name(kind, target) for kind, target in columns]
    return rows_of(data, names, [as_signed] * len(names))


def area_tables(data: AnalysisData) -> list[tuple[str, list[AreaRow]]]:
    """Return the areas of all rivals for the mean of runs and for each run."""
    tables = [(run.name, area_rows(run.measures)) for run in data.runs if run.labelled]
    if len(tables) > 1 and area_name(CAPTURED, "count") in data.overall:
        tables.insert(0, ("mean of runs", area_rows(data.overall)))
    return tables


def area_rows(measures: Measures) -> list[AreaRow]:
    """Return one line for each rival."""
    return [
        AreaRow(
            label=rival.label,
            hypothesis=rival.hypothesis,
            captured=as_number(measures.get(area_name(CAPTURED, name))),
            captured_gain=as_signed(measures.get(area_gain_name(CAPTURED, name))),
            said=compared(measures.get(area_gain_name(CAPTURED, name))),
            vote=as_number(measures.get(area_name(VOTE, name))),
            vote_gain=as_signed(measures.get(area_gain_name(VOTE, name))),
        )
        for name, rival in RIVALS.items()
    ]


def compared(gain: Interval | None) -> str:
    """Say which tells better, the count or its rival."""
    if gain is None:
        return ""
    if not finite(gain):
        return "not measured"
    if gain.holds_zero:
        return "no difference seen"
    return "the count is better" if gain.low > 0 else "better than the count"


LABEL_HEADINGS = tuple(
    (label, unit)
    for label, unit in zip(
        LABEL_MEASURES.values(),
        ("one answer", "one answer to all", "accuracy", "over answers", "its share"),
        strict=True,
    )
)


def label_rows(data: AnalysisData) -> list[Row]:
    """Return what belongs beside accuracy, of the runs whose true answers repeat."""
    writers = [as_percent] * len(LABEL_MEASURES)
    return group_rows(data, LABEL_MEASURES, writers, needed="baseline")


def vote_rows(data: AnalysisData) -> list[Row]:
    """Return the vote statistics of the selected, the other and all questions."""
    percents = [as_percent, as_percent, as_points, as_percent, as_percent]
    return group_rows(data, VOTE_MEASURES, percents)


def group_rows(
    data: AnalysisData,
    shown: Mapping[str, str],
    writers: Sequence[Write],
    needed: str = "",
) -> list[Row]:
    """Return some statistics of the selected, the other and all questions.

    Args:
        data: All runs.
        shown: Names of the statistics.
        writers: How each is written.
        needed: The one without which there is no row; any of them where empty.
    """
    rows = []
    tables = [(run.name, run.measures) for run in data.runs]
    if data.overall:
        tables.append(("mean of runs", data.overall))
    for name, measures in tables:
        for group, label in GROUPS.items():
            names = [vote_name(group, measure) for measure in shown]
            asked = [vote_name(group, needed)] if needed else names
            if any(one in measures for one in asked):
                cells = written(measures, names, writers)
                rows.append(Row(name, label, cells, total=name == "mean of runs"))
    return rows


def entropy_rows(data: AnalysisData) -> list[Row]:
    """Return what the teacher's check found of entropy and agreement, run by run."""
    return [
        Row(run.name, f"{run.fitness.num_questions:,}", entropy_cells(run.fitness))
        for run in data.runs
        if run.fitness is not None
    ]


def entropy_cells(fitness: Fitness) -> tuple[Cell, ...]:
    """Write entropy and agreement of student and teacher."""
    sharpening = fitness.teacher_entropy - fitness.student_entropy
    agreement = fitness.teacher_agreement - fitness.student_agreement
    return (
        Cell(number(fitness.student_entropy)),
        Cell(number(fitness.teacher_entropy)),
        Cell(signed(sharpening)),
        Cell(percent(fitness.student_agreement)),
        Cell(percent(fitness.teacher_agreement)),
        Cell(points(agreement)),
    )


def distance_rows(data: AnalysisData) -> list[Row]:
    """Return the mean distances within each run."""
    return rows_of(data, [PAIRS, NEAREST], [as_distance, as_distance])


def between_rows(data: AnalysisData) -> list[Row]:
    """Return the matrix of distances between runs, a line for each run."""
    if not any(
        value is not None for i, row in enumerate(data.between) for value in row[:i]
    ):
        return []
    return [
        Row(run.name, "", tuple(Cell(number(value)) for value in row))
        for run, row in zip(data.runs, data.between, strict=True)
    ]


def sharing_rows(data: AnalysisData, what: str) -> list[Row]:
    """Return how often demonstrations share an answer with their question.

    Args:
        data: The analysis.
        what: ``gold`` or ``answer``.
    """
    names = [shared_name(what, part) for part in ("demonstrations", "random", "excess")]
    return rows_of(data, names, [as_percent, as_percent, as_points])


def sampled_distances(data: AnalysisData) -> list[RunAnalysis]:
    """Return the runs whose distances were counted for a part of the pool alone."""
    return [run for run in data.runs if run.distances_of < run.num_questions]
