"""Page of a comparison, as one HTML file without network or scripts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from neuron_opsd.report import comparison_charts as charts
from neuron_opsd.report import comparison_index as index
from neuron_opsd.report import comparison_tables as tables
from neuron_opsd.report.comparison_outcome import facts, opening, source_sentences
from neuron_opsd.report.html import (
    RowGroup,
    Table,
    grouped,
    named,
    render_template,
    row_of,
)
from neuron_opsd.report.measures import (
    ACCURACY,
    BASELINE_NOTE,
    ERROR,
    difference_note,
)
from neuron_opsd.report.wording import duration, number, one_line
from neuron_opsd.results.comparison import BASE, FORM, BudgetLine, ComparisonData

MOST_OPEN = 3
"""With more sources than this, charts start folded."""
MOST_WARNINGS = 8
"""More warnings than this start folded."""

SECTIONS = (
    ("differences", "Differences"),
    ("maps", "Maps"),
    ("calibration", "Calibration"),
    ("steps", "Steps"),
    ("tables", "Tables"),
)
"""Id prefixes and titles, per start."""

AMOUNTS: Mapping[str, Callable[[BudgetLine], float]] = {
    "Prompts": lambda budget: budget.prompts,
    "Generated tokens": lambda budget: budget.generated_tokens,
    "Trained tokens": lambda budget: budget.trained_tokens,
}

SAME = 1e-9


def render_comparison(data: ComparisonData) -> str:
    """Render the page deterministically."""
    return render_template("comparison.html.jinja", context(data), "comparison.css")


def context(data: ComparisonData) -> dict[str, Any]:
    """Collect template variables."""
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
        "most_warnings": MOST_WARNINGS,
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
    """Return a start's charts and tables, broadest source first."""
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
    """Return the charts of one source, or of the mean."""
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
    """Return the non-empty charts."""
    return [picture for picture in pictures if picture]


def start_note(results: index.Results) -> str:
    """Say where training began, unless that is obvious."""
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
    """Count the caveats about the outcome."""
    oracles = sum(line.oracle for line in data.methods)
    return len(data.failures) + len(data.warnings) + (data.missing > 0) + (oracles > 0)


def budget_table(data: ComparisonData, *, by_source: bool) -> Table:
    """Return what every method used, by source or on average."""
    groups = []
    for start in index.ordered_starts(data):
        begun = f"training began from {start}"
        for source in data.sources if by_source else ("",):
            rows = []
            for line in data.methods:
                spent = [
                    budget
                    for budget in data.budgets
                    if (budget.start, budget.method) == (start, line.name)
                    and source in ("", budget.source)
                ]
                if spent:
                    rows.append(row_of(index.method_label(line), *mean_texts(spent)))
            heading = f"{source}, {begun}" if source else begun
            groups.append(RowGroup(heading, tuple(rows)))
    title = " on every source" if by_source else ", mean over sources and seeds"
    columns = named([*map(str.lower, AMOUNTS), "time"])
    return grouped(f"Budgets{title}", "method", columns, groups)


def mean_texts(budgets: Sequence[BudgetLine]) -> list[str]:
    """Format the means of some budgets."""
    size = len(budgets)
    means = [sum(map(amount, budgets)) / size for amount in AMOUNTS.values()]
    seconds = sum(budget.seconds for budget in budgets) / size
    return [*(number(mean, 0) for mean in means), duration(seconds)]


def equality(data: ComparisonData) -> list[str]:
    """Say whether prompts and generated tokens were equal."""
    drawing = replace(
        data, budgets=tuple(one for one in data.budgets if one.generated_tokens)
    )
    idle = {one.method for one in data.budgets if not one.generated_tokens}
    names = [index.method_label(line) for line in data.methods if line.name in idle]
    return [
        equality_sentence(data, "Prompts"),
        equality_sentence(drawing, "Generated tokens"),
        *([f"No tokens are generated by {', '.join(names)}."] if names else []),
    ]


def equality_sentence(data: ComparisonData, noun: str) -> str:
    """Say whether budgets within a start and source were equal, or the gap."""
    amount = AMOUNTS[noun]
    together: dict[tuple[str, str], list[BudgetLine]] = defaultdict(list)
    for budget in data.budgets:
        together[budget.start, budget.source].append(budget)
    ends = [
        (min(budgets, key=amount), max(budgets, key=amount))
        for budgets in together.values()
        if len(budgets) > 1
    ]
    if not ends:
        return f"{noun} cannot be compared: fewer than two methods were trained."
    names = {line.name: index.method_label(line) for line in data.methods}
    least, most = max(ends, key=lambda pair: amount(pair[1]) - amount(pair[0]))
    if amount(most) - amount(least) <= SAME * amount(most):
        return f"{noun} are equal for all methods."
    low, high = (
        f"{number(amount(end), 0)} ({names.get(end.method, end.method)})"
        for end in (least, most)
    )
    source = one_line(most.source, 40)
    return f"{noun} are not equal: on {source} from {low} to {high}."
