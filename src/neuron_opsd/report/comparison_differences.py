"""The tables of differences between methods, cell by cell in words."""

from __future__ import annotations

import math

from neuron_opsd.report.comparison_index import Results, method_label
from neuron_opsd.report.comparison_outcome import (
    accuracy_verdict,
    corrected,
    ece_verdict,
    source_verdict,
)
from neuron_opsd.report.comparison_tables import (
    NO_CELL,
    Cell,
    Group,
    Row,
    Table,
    columns_of,
    has_numbers,
    titled,
)
from neuron_opsd.report.measures import (
    ACCURACY,
    ERROR,
    METRIC_KINDS,
    MetricKind,
    judged,
    written_change,
)
from neuron_opsd.results.comparison import (
    BASE,
    CROSS_DOMAIN,
    FORM,
    IN_DOMAIN,
    SPECIFICITY,
    Contrast,
    MethodLine,
)

ACCURACIES = frozenset({"avg_at_k", "maj_at_k"})
"""Measures whose gains form-only training may explain."""

AGAINST = (
    "in-domain, against base",
    "in-domain, net of form",
    "cross-domain, against base",
    "cross-domain, net of form",
)


def change_cell(contrast: Contrast | None, kind: MetricKind) -> Cell:
    """Write a difference, and below it its interval and corrected p-value."""
    if contrast is None:
        return NO_CELL
    value, span = written_change(kind, contrast.difference)
    seen = not contrast.difference.holds_zero
    return Cell(value, span, p_words(contrast.p_adjusted), key=seen)


def p_words(p_value: float) -> str:
    """Write a p-value with as many digits as it bears; nothing where there is none."""
    if not math.isfinite(p_value):
        return ""
    return "p < .001" if p_value < 0.001 else f"p {p_value:.3f}".replace("0.", ".")


def overview(results: Results, source: str) -> Table:
    """Return every method's differences on one source, or on their mean."""
    return Table(
        title=f"Every method against base and form-only, {source}",
        corner="method",
        columns=(*AGAINST, "in-domain ECE, against base"),
        groups=(
            Group(
                "",
                tuple(
                    overview_row(results, source, line)
                    for line in (*results.untrained, *results.trained)
                ),
            ),
        ),
    )


def overview_row(results: Results, source: str, line: MethodLine) -> Row:
    """Return one method's differences and what they allow to say."""
    own, cross = (
        [
            results.contrast((source, line.name, target, "avg_at_k"), reference)
            for reference in (BASE, FORM)
        ]
        for target in (IN_DOMAIN, CROSS_DOMAIN)
    )
    ece = results.contrast((source, line.name, IN_DOMAIN, "ece"), BASE)
    accuracy = [change_cell(one, ACCURACY) for one in (*own, *cross)]
    least = results.data.least
    said = (
        f"in-domain: {source_verdict(results, source, line)}; "
        f"cross-domain: {accuracy_verdict(cross[0], least)}; "
        f"ECE: {ece_verdict(ece, least)}"
    )
    return Row(method_label(line), (*accuracy, change_cell(ece, ERROR)), said)


def specificity_table(results: Results) -> Table | None:
    """Return what training on a source gives beyond training on others; or nothing."""
    rows = []
    for line in results.trained:
        places = [(s, line.name, SPECIFICITY, "avg_at_k") for s in columns_of(results)]
        found = [results.contrast(place, BASE) for place in places]
        rows.append(
            Row(method_label(line), tuple(change_cell(one, ACCURACY) for one in found))
        )
    if not has_numbers(rows):
        return None
    return Table(
        title="Source specificity, points of accuracy",
        corner="method",
        columns=columns_of(results),
        groups=(Group("", tuple(rows)),),
    )


def difference_table(results: Results, kind: MetricKind) -> Table | None:
    """Return one measure's differences of every method, by source; or nothing."""
    groups = [
        Group(
            source,
            tuple(
                difference_row(results, source, line, kind)
                for line in (*results.untrained, *results.trained)
            ),
        )
        for source in results.sources
    ]
    full = tuple(group for group in groups if has_numbers(group.rows))
    if not full:
        return None
    return Table(
        title=titled(results, kind),
        corner="method",
        columns=AGAINST,
        groups=full,
    )


def difference_row(
    results: Results, source: str, line: MethodLine, kind: MetricKind
) -> Row:
    """Return one method's differences in one measure on one source."""
    found = [
        results.contrast((source, line.name, target, kind.name), reference)
        for target in (IN_DOMAIN, CROSS_DOMAIN)
        for reference in (BASE, FORM)
    ]
    gain = found[0]
    cells = tuple(change_cell(one, kind) for one in found)
    if gain is None:
        return Row(method_label(line), cells)
    said = corrected(judged(kind, gain.difference, results.data.least), gain)
    if kind.name in ACCURACIES:
        said = source_verdict(results, source, line, kind.name)
    return Row(method_label(line), cells, f"in-domain: {said}")


def difference_tables(results: Results) -> list[Table]:
    """Return the differences in every measure that was compared."""
    found = (difference_table(results, kind) for kind in METRIC_KINDS)
    return [table for table in found if table is not None]


def rival_table(results: Results) -> Table | None:
    """Return how methods differ from each other, by source; or nothing."""
    groups = []
    for one, other in rival_pairs(results):
        rows = [rival_row(results, source, (one, other)) for source in results.sources]
        kept = tuple(row for row in rows if has_numbers([row]))
        groups.append(Group(f"{method_label(one)} less {method_label(other)}", kept))
    full = tuple(group for group in groups if group.rows)
    if not full:
        return None
    return Table(
        title="Methods against each other",
        corner="trained on",
        columns=("in-domain accuracy", "cross-domain accuracy", "in-domain ECE"),
        groups=full,
    )


def rival_pairs(results: Results) -> list[tuple[MethodLine, MethodLine]]:
    """Return the pairs that were compared, base and form-only as seconds left out."""
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


def rival_row(
    results: Results, source: str, pair: tuple[MethodLine, MethodLine]
) -> Row:
    """Return how one method differs from another on one source."""
    one, other = pair
    asked = (
        (IN_DOMAIN, ACCURACY),
        (CROSS_DOMAIN, ACCURACY),
        (IN_DOMAIN, ERROR),
    )
    cells = tuple(
        change_cell(
            results.contrast((source, one.name, target, kind.name), other.name), kind
        )
        for target, kind in asked
    )
    return Row(source, cells)
