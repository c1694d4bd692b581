"""The page of a comparison of methods: one HTML page, no network and no script."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from markupsafe import Markup

from neuron_opsd.report import comparison_charts as charts
from neuron_opsd.report import comparison_index as index
from neuron_opsd.report import comparison_tables as tables
from neuron_opsd.report.baseline import BASELINE_NOTE, difference_note
from neuron_opsd.report.comparison_budgets import budget_table, equality
from neuron_opsd.report.comparison_outcome import facts, opening, source_sentences
from neuron_opsd.report.html import render_template
from neuron_opsd.report.measures import ACCURACY, ERROR
from neuron_opsd.report.wording import one_line
from neuron_opsd.results.comparison import BASE, FORM, ComparisonData

MOST_OPEN = 3
"""Sources whose charts are open when the page is; those of more are folded away."""

SECTIONS = (
    ("differences", "Differences"),
    ("maps", "Maps"),
    ("calibration", "Calibration"),
    ("steps", "Steps"),
    ("tables", "Tables"),
)
"""Of each start: how ids begin, and names."""


def render_comparison(data: ComparisonData) -> str:
    """Return the whole page; equal data give equal bytes."""
    return render_template("comparison.html.jinja", context(data), "comparison.css")


def context(data: ComparisonData) -> dict[str, Any]:
    """Return what the template names."""
    starts = [
        start_context(index.results_from(data, start)) | {"key": str(place)}
        for place, start in enumerate(index.ordered_starts(data), 1)
    ]
    several = len(data.sources) > 1
    return {
        "data": data,
        "form": FORM,
        "outcome": opening(data),
        "facts": facts(data),
        "starts": starts,
        "sections": sections(starts),
        "most_open": MOST_OPEN,
        "oracles": [index.method_label(line) for line in data.methods if line.oracle],
        "oracle_mark": index.ORACLE_MARK,
        "labels": {line.name: index.method_label(line) for line in data.methods},
        "concerns": num_concerns(data),
        "budget": budget_table(data, by_source=False),
        "source_budgets": budget_table(data, by_source=True) if several else None,
        "equality": equality(data),
        "baseline_note": BASELINE_NOTE,
        "difference_note": difference_note(data.least),
    }


def start_context(results: index.Results) -> dict[str, Any]:
    """Return charts and tables of one start, the source that says most first."""
    return {
        "start": results.start,
        "note": start_note(results),
        "overview": tables.overview(results, results.widest),
        "sentences": source_sentences(results),
        "views": [source_context(results, source) for source in results.sources],
        "maps": charts.heat_maps(results),
        "trade_offs": drawn(
            charts.trade_off(results, source) for source in results.sources
        ),
        "rivals": tables.rival_table(results),
        "specificity": tables.specificity_table(results),
        "tables": [tables.measure_table(results, kind) for kind in (ACCURACY, ERROR)],
        "further": tables.further_measures(results),
        "matrices": [tables.matrix_table(results, kind) for kind in (ACCURACY, ERROR)],
        "differences": list(tables.difference_tables(results)),
    }


def source_context(results: index.Results, source: str) -> dict[str, Any]:
    """Return the charts of one source, or of the mean over all."""
    forests = [
        (charts.method_forest(results, source, panel), panel.hint)
        for panel in charts.PANELS
    ]
    steps = (charts.step_chart(results, source, one) for one in ("avg_at_k", "ece"))
    return {
        "name": source,
        "forests": [(picture, hint) for picture, hint in forests if picture],
        "steps": drawn(steps),
    }


def drawn(pictures: Iterable[Markup]) -> list[Markup]:
    """Return the charts that hold anything."""
    return [picture for picture in pictures if picture]


def start_note(results: index.Results) -> str:
    """Say where training began, when that is not plain."""
    if results.start == FORM:
        return "training began from the form-only model"
    if len(results.data.starts) == 1 and results.start == BASE:
        return ""
    return f"training began from the {one_line(results.start, 40)} model"


def sections(starts: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return id and name of every section, in order."""
    found = [("results", "Results"), ("warnings", "Warnings")]
    for view in starts:
        key, start = view["key"], one_line(view["start"], 20)
        tail = f", from {start}" if len(starts) > 1 else ""
        found += [(f"{part}-{key}", name + tail) for part, name in SECTIONS]
    return [
        *found,
        ("budgets", "Budgets"),
        ("methods", "Methods"),
        ("reading", "How measured"),
        ("again", "Run it again"),
    ]


def num_concerns(data: ComparisonData) -> int:
    """Count what a reader should know before believing the outcome."""
    oracles = sum(line.oracle for line in data.methods)
    return len(data.failures) + len(data.warnings) + (data.missing > 0) + (oracles > 0)
