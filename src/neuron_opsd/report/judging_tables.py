"""The tables of a judgement."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

from neuron_opsd.records.scores import Interval
from neuron_opsd.report import wording
from neuron_opsd.report.measures import (
    METRIC_KINDS,
    MetricKind,
    judged,
    written,
    written_change,
)
from neuron_opsd.report.tables import (
    NO_CELL,
    Cell,
    Column,
    Table,
    TableRow,
    said,
    table_of,
)
from neuron_opsd.results.judging import (
    SOURCES,
    Confidence,
    JudgedFile,
    JudgementData,
    Paired,
)
from neuron_opsd.results.run import Least

SCALING_NAMES: Final = {
    "temperature": "temperature",
    "platt": "slope and offset (Platt)",
}
ERRORS: Final = ("ece", "adaptive_ece", "brier")
SHOWN: Final = (*ERRORS, "auroc", "overconfidence")
LEAST_P: Final = 0.001


def p_text(p_value: float) -> str:
    """Write a p-value."""
    if not math.isfinite(p_value):
        return wording.NOT_MEASURED
    return "below 0.001" if p_value < LEAST_P else wording.number(p_value)


def kinds(found: Iterable[str]) -> list[MetricKind]:
    """Return the measures by these names, in the usual order."""
    names = set(found)
    return [kind for kind in METRIC_KINDS if kind.name in names]


def level(kind: MetricKind, interval: Interval | None) -> Cell:
    """Write a measure with its interval below it."""
    if interval is None or not math.isfinite(interval.value):
        return NO_CELL
    ends = f"{written(kind, interval.low)} to {written(kind, interval.high)}"
    return Cell(written(kind, interval.value), ends)


def measure_table(data: JudgementData) -> Table:
    """Return every measure of every file."""
    names = {name for one in data.files for name in one.measures}
    rows = [
        TableRow(
            kind.label,
            tuple(level(kind, one.measures.get(kind.name)) for one in data.files),
        )
        for kind in kinds(names)
    ]
    columns = [Column(wording.one_line(one.name, 40), size(one)) for one in data.files]
    return table_of("Measures", "measure", columns, rows)


def size(file: JudgedFile) -> str:
    """Say how much a file holds."""
    fewest, most = file.samples
    each = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"{file.num_questions:,} questions, {each} samples each"


def pair_table(pair: Paired, least: Least) -> Table:
    """Return the difference of every measure between two files."""
    rows = []
    for kind in kinds(pair.change):
        interval = pair.change[kind.name]
        change, ends = written_change(kind, interval)
        rows.append(
            TableRow(
                kind.label,
                (
                    Cell(change, ends, key=not interval.holds_zero),
                    Cell(p_text(pair.p_values[kind.name])),
                    Cell(said(judged(kind, interval, least)).replace("got ", "")),
                ),
            )
        )
    columns = [
        Column("difference", "95 % interval"),
        Column("p", "paired bootstrap"),
        Column("shows", text=True),
    ]
    title = f"{pair.second} less {pair.first}"
    return table_of(title, "measure", columns, rows)


def confidence_rows(
    data: JudgementData, write: Callable[[Confidence], tuple[Cell, ...]]
) -> list[TableRow]:
    """Return a row for every confidence of every file."""
    return [
        TableRow(found.source, write(found), note=wording.one_line(one.name, 40))
        for one in data.files
        for found in one.confidences
    ]


def confidence_table(data: JudgementData) -> Table | None:
    """Return how well each confidence is calibrated, beside the others."""

    def cells(found: Confidence) -> tuple[Cell, ...]:
        return (
            Cell(f"{found.num_answers:,}", f"{found.num_questions:,} questions"),
            Cell(wording.percent(found.mean)),
            *(level(kind, found.measures.get(kind.name)) for kind in kinds(SHOWN)),
        )

    rows = confidence_rows(data, cells)
    columns = [Column("answers"), Column("mean"), *map(heading, kinds(SHOWN))]
    return table_of("Confidences", "confidence", columns, rows) if rows else None


def heading(kind: MetricKind) -> Column:
    """Return a short heading of a measure of calibration."""
    names = {"ece": "ECE", "adaptive_ece": "ECE, equal counts", "auroc": "AUROC"}
    return Column(names.get(kind.name, kind.label))


def scaling_table(data: JudgementData) -> Table | None:
    """Return what scaling each confidence gives, against leaving it as it is."""
    rows = []
    for one in data.files:
        for found in one.confidences:
            for scaled in found.scaled:
                cells = [
                    Cell(parameters_text(scaled.name, scaled.parameters)),
                    *(
                        Cell(
                            written(kind, scaled.measures[kind.name].value),
                            "{}, {}".format(
                                *written_change(kind, scaled.change[kind.name])
                            ),
                            key=not scaled.change[kind.name].holds_zero,
                        )
                        for kind in kinds(ERRORS)
                    ),
                ]
                name = f"{found.source}, {SCALING_NAMES[scaled.name]}"
                note = wording.one_line(one.name, 40)
                rows.append(TableRow(name, tuple(cells), note=note))
    columns = [Column("fitted", "on each half"), *map(heading, kinds(ERRORS))]
    return table_of("Scaled confidences", "confidence", columns, rows) if rows else None


def parameters_text(
    name: str, parameters: tuple[tuple[float, ...], tuple[float, ...]]
) -> str:
    """Write what was fitted on each half; of a slope alone the temperature."""
    if name != "temperature":
        return " and ".join(
            f"({', '.join(map(wording.two_digits, half))})" for half in parameters
        )
    return " and ".join(
        "infinite" if half[0] <= 0.0 else wording.two_digits(1.0 / half[0])
        for half in parameters
    )


def not_scaled(data: JudgementData) -> list[str]:
    """Say which confidences could not be scaled, and why."""
    return [
        f"{one.name}, {found.source}: not scaled, since {found.why_not_scaled}."
        for one in data.files
        for found in one.confidences
        if found.why_not_scaled
    ]


def word_table(data: JudgementData) -> Table | None:
    """Return what words for confidence counted as, and how often they were right."""
    rows = [
        TableRow(
            word.word,
            (
                Cell(wording.percent(word.share, 0)),
                Cell(wording.percent(word.accuracy)),
                Cell(f"{word.num_samples:,}"),
            ),
            note=wording.one_line(one.name, 40),
        )
        for one in data.files
        for found in one.confidences
        for word in found.words
    ]
    columns = [Column("counts as"), Column("were right"), Column("samples")]
    return table_of("Words", "word", columns, rows) if rows else None


def sources_in(data: JudgementData) -> list[str]:
    """Return which kinds of confidence there are."""
    known = {found.source for one in data.files for found in one.confidences}
    return [name for name in SOURCES if name in known]


def checked_lines(data: JudgementData) -> list[str]:
    """Say how far the files' own scores agree with ours."""
    lines = []
    for one in data.files:
        if one.agreement is not None:
            same, total = one.agreement
            lines.append(
                f"{one.name} brings scores of its own: {same:,} of {total:,} samples "
                "are scored the same here."
            )
    return lines
