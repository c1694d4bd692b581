"""The tables of a comparison, each cell in words; the template only lays them out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from neuron_opsd.report.comparison_index import Results, method_label, target_words
from neuron_opsd.report.measures import (
    ACCURACY,
    ERROR,
    KINDS,
    METRIC_KINDS,
    MetricKind,
    written,
)
from neuron_opsd.report.wording import NOT_MEASURED
from neuron_opsd.results.comparison import (
    BASE,
    CROSS_DOMAIN,
    IN_DOMAIN,
    Measurement,
    MethodLine,
)

MAJORITY = "base, majority vote"
CONSTANT = "baseline, most frequent gold answer"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what stands in it, and in two smaller lines below it."""

    value: str
    note: str = ""
    more: str = ""
    key: bool = False
    """Whether it is set off: in-domain, or an interval that does not hold zero."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row, with the name of what it is of."""

    name: str
    cells: tuple[Cell, ...]
    said: str = ""
    """What the row shows, in words."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows under a heading of their own."""

    name: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table, its first column being names."""

    title: str
    corner: str
    columns: tuple[str, ...]
    groups: tuple[Group, ...]


NO_CELL = Cell(NOT_MEASURED)


def value_cell(
    measurement: Measurement | None, kind: MetricKind, *, key: bool = False
) -> Cell:
    """Write a measure, and below it how far it reaches over the seeds."""
    if measurement is None:
        return NO_CELL
    seeds = [value for value in measurement.by_seed if math.isfinite(value)]
    note = ""
    if len(seeds) > 1:
        low, high = (written(kind, end) for end in (min(seeds), max(seeds)))
        low, high = (end.removesuffix(" %") for end in (low, high))
        note = f"{low} to {high}" if low != high else ""
    return Cell(written(kind, measurement.value), note, key=key)


def measure_table(results: Results, kind: MetricKind) -> Table:
    """Return one measure of every method: in-domain, then the mean of other sets.

    Source: Tables 3 and 4 of arXiv:2607.02460.
    """
    groups = tuple(
        Group(target_words(target), measure_rows(results, kind, target))
        for target in (IN_DOMAIN, CROSS_DOMAIN)
    )
    return Table(
        title=titled(results, kind),
        corner="method",
        columns=columns_of(results),
        groups=tuple(group for group in groups if has_numbers(group.rows)),
    )


def titled(results: Results, kind: MetricKind) -> str:
    """Return what a measure is called, k written out."""
    return kind.label.replace("@k", f"@{results.data.num_samples}")


def columns_of(results: Results) -> tuple[str, ...]:
    """Return the sources, their mean last where there are several."""
    return (*results.data.sources, *means_of(results))


def means_of(results: Results) -> tuple[str, ...]:
    """Return the mean over all sources, where there are several."""
    return results.sources[:1] if len(results.data.sources) > 1 else ()


def measure_rows(results: Results, kind: MetricKind, target: str) -> tuple[Row, ...]:
    """Return one row per method; for accuracy the base model's vote as well."""
    lines = [MethodLine(BASE, "", trained=False), *results.untrained, *results.trained]
    rows = [measure_row(results, line, kind, target) for line in lines]
    if kind == ACCURACY:
        vote = measure_row(results, lines[0], KINDS["maj_at_k"], target)
        rows.insert(1, Row(MAJORITY, vote.cells))
        constant = measure_row(results, lines[0], KINDS["baseline"], target)
        rows += [Row(CONSTANT, constant.cells)] if has_numbers([constant]) else []
    return tuple(rows)


def measure_row(
    results: Results, line: MethodLine, kind: MetricKind, target: str
) -> Row:
    """Return one measure of one method, by source."""
    cells = tuple(
        value_cell(results.measurement(source, line.name, target, kind.name), kind)
        for source in columns_of(results)
    )
    return Row(method_label(line), cells)


def has_numbers(rows: Iterable[Row]) -> bool:
    """Say whether any cell of some rows holds a number."""
    return any(cell.value != NOT_MEASURED for row in rows for cell in row.cells)


def further_measures(results: Results) -> list[Table]:
    """Return a table for every other measure that is there."""
    known = {row.place.metric for row in results.data.measurements}
    kinds = [k for k in METRIC_KINDS if k.name in known and k not in (ACCURACY, ERROR)]
    tables = (measure_table(results, kind) for kind in kinds)
    return [table for table in tables if table.groups]


def matrix_table(results: Results, kind: MetricKind) -> Table:
    """Return one measure of every method by source and test set.

    Source: Tables 7 and 8 of arXiv:2607.02460.
    """
    base = MethodLine(BASE, "", trained=False)
    sources = results.data.sources
    groups = [Group(BASE, matrix_rows(results, base, kind, sources[:1]))]
    for line in (*results.untrained, *results.trained):
        rows = matrix_rows(results, line, kind, sources)
        groups.append(Group(method_label(line), rows))
    return Table(
        title=titled(results, kind),
        corner="trained on",
        columns=results.data.targets,
        groups=tuple(group for group in groups if has_numbers(group.rows)),
    )


def matrix_rows(
    results: Results, line: MethodLine, kind: MetricKind, sources: Sequence[str]
) -> tuple[Row, ...]:
    """Return one method's row for each source; its own test set is set off."""
    rows = []
    for source in sources:
        cells = [
            value_cell(
                results.measurement(source, line.name, target, kind.name),
                kind,
                key=line.name != BASE and target == source,
            )
            for target in results.data.targets
        ]
        name = "no training" if line.name == BASE else source
        rows.append(Row(name, tuple(cells)))
    return tuple(row for row in rows if has_numbers([row]))
