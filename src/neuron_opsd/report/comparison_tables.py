"""Tables of a comparison: measures, and differences between methods."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from neuron_opsd.report import comparison_index as index
from neuron_opsd.report.comparison_outcome import corrected, shown_by, source_verdict
from neuron_opsd.report.html import (
    NO_CELL,
    Cell,
    Column,
    RowGroup,
    Table,
    TableRow,
    grouped,
    named,
    table_of,
    with_numbers,
)
from neuron_opsd.report.measures import (
    ACCURACY,
    ERROR,
    KINDS,
    METRIC_KINDS,
    MetricKind,
    judged,
    written,
    written_change,
)
from neuron_opsd.results.comparison import (
    BASE,
    CROSS_DOMAIN,
    FORM,
    IN_DOMAIN,
    SPECIFICITY,
    Contrast,
    Measurement,
    MethodLine,
)

MAJORITY = "base, majority vote"
CONSTANT = "baseline, most frequent gold answer"

AGAINST = tuple(
    Column(target, reference)
    for target in ("in-domain", "cross-domain")
    for reference in ("against base", "net of form")
)
"""Headings of `against`."""


def value_cell(
    measurement: Measurement | None, kind: MetricKind, *, key: bool = False
) -> Cell:
    """Format a measure, over its range across seeds."""
    if measurement is None:
        return NO_CELL
    seeds = [value for value in measurement.by_seed if math.isfinite(value)]
    note = ""
    if len(seeds) > 1:
        low, high = (written(kind, end) for end in (min(seeds), max(seeds)))
        low, high = (end.removesuffix(" %") for end in (low, high))
        note = f"{low} to {high}" if low != high else ""
    return Cell(written(kind, measurement.value), note, key=key)


def change_cell(contrast: Contrast | None, kind: MetricKind) -> Cell:
    """Format a difference, over its interval and corrected p-value."""
    if contrast is None:
        return NO_CELL
    value, span = written_change(kind, contrast.difference)
    seen = not contrast.difference.holds_zero
    return Cell(value, span, p_words(contrast.p_adjusted), key=seen)


def p_words(p_value: float) -> str:
    """Format a p-value's meaningful digits; empty if there is none."""
    if not math.isfinite(p_value):
        return ""
    return "p < .001" if p_value < 0.001 else f"p {p_value:.3f}".replace("0.", ".")


def titled(results: index.Results, kind: MetricKind) -> str:
    """Name a measure, with k written out."""
    return kind.label.replace("@k", f"@{results.data.num_samples}")


def columns_of(results: index.Results) -> tuple[str, ...]:
    """Return the sources, then their mean if several."""
    mean = results.sources[:1] if len(results.data.sources) > 1 else ()
    return (*results.data.sources, *mean)


def measure_table(results: index.Results, kind: MetricKind) -> Table:
    """Return a measure of every method: in-domain, then the mean of other sets.

    Source: Tables 3 and 4 of arXiv:2607.02460.
    """
    names = {IN_DOMAIN: "in-domain", CROSS_DOMAIN: "mean of cross-domain sets"}
    groups = [
        RowGroup(name, measure_rows(results, kind, target))
        for target, name in names.items()
    ]
    shown = [group for group in groups if with_numbers(group.rows)]
    return grouped(titled(results, kind), "method", named(columns_of(results)), shown)


def measure_rows(
    results: index.Results, kind: MetricKind, target: str
) -> tuple[TableRow, ...]:
    """Return a row per method; for accuracy also the base model's vote."""

    def row(line: MethodLine, kind: MetricKind, name: str = "") -> TableRow:
        cells = (
            value_cell(results.measurement(source, line.name, target, kind.name), kind)
            for source in columns_of(results)
        )
        return TableRow(name or index.method_label(line), tuple(cells))

    rows = [row(line, kind) for line in (index.UNTRAINED, *results.lines)]
    if kind == ACCURACY:
        rows.insert(1, row(index.UNTRAINED, KINDS["maj_at_k"], MAJORITY))
        rows += with_numbers([row(index.UNTRAINED, KINDS["baseline"], CONSTANT)])
    return tuple(rows)


def further_measures(results: index.Results) -> list[Table]:
    """Return a table per other measure with numbers."""
    known = {row.place.metric for row in results.data.measurements}
    kinds = [k for k in METRIC_KINDS if k.name in known and k not in (ACCURACY, ERROR)]
    tables = (measure_table(results, kind) for kind in kinds)
    return [table for table in tables if table.groups]


def matrix_table(results: index.Results, kind: MetricKind) -> Table:
    """Return a measure of every method by source and test set.

    Source: Tables 7 and 8 of arXiv:2607.02460.
    """
    sources, targets = results.data.sources, results.data.targets
    base = matrix_row(results, index.UNTRAINED, kind, next(iter(sources), ""))
    groups = [RowGroup(BASE, with_numbers([base]))]
    for line in results.lines:
        rows = [matrix_row(results, line, kind, source) for source in sources]
        groups.append(RowGroup(index.method_label(line), with_numbers(rows)))
    table = grouped(titled(results, kind), "trained on", named(targets), groups)
    return replace(table, kind="own-cells")


def matrix_row(
    results: index.Results, line: MethodLine, kind: MetricKind, source: str
) -> TableRow:
    """Return a method's row for a source, highlighting its own test set."""
    trained = line.name != BASE
    cells = (
        value_cell(
            results.measurement(source, line.name, target, kind.name),
            kind,
            key=trained and target == source,
        )
        for target in results.data.targets
    )
    return TableRow(source if trained else "no training", tuple(cells))


def against(
    results: index.Results, source: str, line: MethodLine, metric: str
) -> list[Contrast | None]:
    """Return a method's differences in the order of `AGAINST`."""
    return [
        results.contrast((source, line.name, target, metric), reference)
        for target in (IN_DOMAIN, CROSS_DOMAIN)
        for reference in (BASE, FORM)
    ]


def overview(results: index.Results, source: str) -> Table:
    """Return all methods' differences on a source, or on average."""
    return table_of(
        f"Every method against base and form-only, {source}",
        "method",
        (*AGAINST, Column("in-domain ECE", "against base")),
        (overview_row(results, source, line) for line in results.lines),
    )


def overview_row(results: index.Results, source: str, line: MethodLine) -> TableRow:
    """Return one method's differences and what they show."""
    found = against(results, source, line, "avg_at_k")
    ece = results.contrast((source, line.name, IN_DOMAIN, "ece"), BASE)
    cells = [change_cell(one, ACCURACY) for one in found]
    least = results.data.least
    said = (
        f"in-domain: {source_verdict(results, source, line)}; "
        f"cross-domain: {shown_by(found[2], ACCURACY, least)}; "
        f"ECE: {shown_by(ece, ERROR, least)}"
    )
    return TableRow(index.method_label(line), (*cells, change_cell(ece, ERROR)), said)


def specificity_table(results: index.Results) -> Table | None:
    """Return gains from a source beyond those from others, or `None`."""
    columns = columns_of(results)
    rows = []
    for line in results.trained:
        places = [(source, line.name, SPECIFICITY, "avg_at_k") for source in columns]
        found = [results.contrast(place, BASE) for place in places]
        cells = tuple(change_cell(one, ACCURACY) for one in found)
        rows.append(TableRow(index.method_label(line), cells))
    title = "Source specificity, points of accuracy"
    if not with_numbers(rows):
        return None
    return table_of(title, "method", named(columns), rows)


def difference_tables(results: index.Results) -> Iterator[Table]:
    """Yield all methods' differences by source, a table per measure."""
    for kind in METRIC_KINDS:
        groups = [
            RowGroup(source, rows)
            for source in results.sources
            for rows in [
                tuple(
                    difference_row(results, source, line, kind)
                    for line in results.lines
                )
            ]
            if with_numbers(rows)
        ]
        if groups:
            yield grouped(titled(results, kind), "method", AGAINST, groups)


def difference_row(
    results: index.Results, source: str, line: MethodLine, kind: MetricKind
) -> TableRow:
    """Return a method's differences in a measure on a source."""
    found = against(results, source, line, kind.name)
    gain = found[0]
    cells = tuple(change_cell(one, kind) for one in found)
    if gain is None:
        return TableRow(index.method_label(line), cells)
    if kind.name in ("avg_at_k", "maj_at_k"):  # form-only training may explain these
        said = source_verdict(results, source, line, kind.name)
    else:
        said = corrected(judged(kind, gain.difference, results.data.least), gain)
    return TableRow(index.method_label(line), cells, f"in-domain: {said}")


def rival_table(results: index.Results) -> Table | None:
    """Return differences between methods by source, or `None`."""
    columns = named(["in-domain accuracy", "cross-domain accuracy", "in-domain ECE"])
    groups = [
        RowGroup(
            f"{index.method_label(one)} minus {index.method_label(other)}",
            with_numbers(
                rival_row(results, source, one.name, other.name)
                for source in results.sources
            ),
        )
        for one, other in rival_pairs(results)
    ]
    table = grouped("Methods against each other", "trained on", columns, groups)
    return table if table.groups else None


def rival_pairs(results: index.Results) -> Sequence[tuple[MethodLine, MethodLine]]:
    """Return compared pairs whose second is not base or form-only."""
    known = {
        (place.method, reference)
        for place, reference in results.compared
        if place.start == results.start
    }
    lines = results.data.methods
    return [
        (one, other)
        for one in lines
        for other in lines
        if other.name not in (BASE, FORM) and (one.name, other.name) in known
    ]


def rival_row(results: index.Results, source: str, one: str, other: str) -> TableRow:
    """Return how one method differs from another on one source."""
    asked = ((IN_DOMAIN, ACCURACY), (CROSS_DOMAIN, ACCURACY), (IN_DOMAIN, ERROR))
    cells = (
        change_cell(results.contrast((source, one, target, kind.name), other), kind)
        for target, kind in asked
    )
    return TableRow(source, tuple(cells))
