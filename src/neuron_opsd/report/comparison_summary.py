"""A comparison as one table of text: a line for every method."""

from __future__ import annotations

from neuron_opsd.report.comparison_index import UNTRAINED, Results, method_label
from neuron_opsd.report.wording import metric_text
from neuron_opsd.results.comparison import (
    BASE,
    CROSS_DOMAIN,
    FORM,
    IN_DOMAIN,
    MethodLine,
)

HEADINGS = (
    "method",
    "in-domain",
    "to base, points",
    "net of form",
    "other domains",
    "ECE",
)
LABEL_HEADINGS = ("baseline", "balanced", "macro F1", "top answer")
"""Columns that are added where gold answers repeat."""
LABEL_METRICS = ("baseline", "balanced_accuracy", "macro_f1", "top_answer_share")


def summary_table(results: Results) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return headings and one row per method, as means over sources and seeds."""
    lines = (UNTRAINED, *results.untrained, *results.trained)
    rows = [summary_row(results, line) for line in lines]
    labels = [label_cells(results, line) for line in lines]
    if all(cell == "-" for cell in labels[0]):
        return HEADINGS, rows
    both = zip(rows, labels, strict=True)
    return HEADINGS + LABEL_HEADINGS, [row + more for row, more in both]


def summary_row(results: Results, line: MethodLine) -> list[str]:
    """Return a method's accuracy at home and elsewhere, and its calibration."""
    return [
        method_label(line),
        measured(results, line, IN_DOMAIN, "avg_at_k"),
        change(results, line, IN_DOMAIN, BASE),
        change(results, line, IN_DOMAIN, FORM),
        change(results, line, CROSS_DOMAIN, BASE),
        measured(results, line, IN_DOMAIN, "ece"),
    ]


def label_cells(results: Results, line: MethodLine) -> list[str]:
    """Return what belongs beside a method's accuracy where gold answers repeat."""
    cells = [measured(results, line, IN_DOMAIN, name) for name in LABEL_METRICS]
    return ["-"] * len(cells) if cells[0] == "-" else cells


def measured(results: Results, line: MethodLine, target: str, metric: str) -> str:
    """Write a measure of a method, a dash where there is none."""
    found = results.measurement(results.widest, line.name, target, metric)
    return metric_text(None if found is None else found.value)


def change(results: Results, line: MethodLine, target: str, reference: str) -> str:
    """Write a method's difference in accuracy, in points with its interval."""
    place = (results.widest, line.name, target, "avg_at_k")
    found = results.contrast(place, reference)
    if found is None:
        return "-"
    ends = found.difference.value, found.difference.low, found.difference.high
    return "{:+.1f} [{:+.1f} {:+.1f}]".format(*(100 * end for end in ends))
