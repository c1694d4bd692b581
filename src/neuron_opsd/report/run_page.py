"""The report: one HTML page that needs no network and no script."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from neuron_opsd.config.tables import changed_settings, toml_value
from neuron_opsd.report.condense import MOST_ANSWERS, fitted_cases
from neuron_opsd.report.html import render_template
from neuron_opsd.report.measures import metric_rows
from neuron_opsd.report.run_charts import (
    agreement_histogram,
    forest_plot,
    neuron_chart,
    reliability_diagram,
    training_chart,
)
from neuron_opsd.report.run_notes import method_notes
from neuron_opsd.report.run_outcome import (
    comparison_table,
    in_domain_test,
    outcome_sentence,
)
from neuron_opsd.report.run_sections import (
    cost_rows,
    fitness_rows,
    rollout_sides,
    selection_facts,
    stats,
)
from neuron_opsd.results.run import ReportData, TestComparison

MOST_CASES = 24


def render_page(data: ReportData) -> str:
    """Return the whole page; equal data give equal bytes."""
    return render_template("run.html.jinja", context(data))


def context(data: ReportData) -> dict[str, Any]:
    """Return what the template names."""
    k = data.config.evaluation.num_samples
    cases = fitted_cases(data.cases[:MOST_CASES])
    return {
        "data": data,
        "outcome": outcome_sentence(data),
        "stats": stats(data),
        "rows": comparison_table(data),
        "k": k,
        "with_labels": any(row.labels for row in comparison_table(data)),
        "figures": page_figures(data),
        "test_metrics": [
            (test, metric_rows(test, data.config.evaluation)) for test in ordered(data)
        ],
        "selection_facts": selection_facts(data),
        "cases": [(case, rollout_sides(case)) for case in cases],
        "most_answers": MOST_ANSWERS,
        "fitness_rows": fitness_rows(data.fitness) if data.fitness else [],
        "concerns": num_concerns(data),
        "settings": written_settings(data),
        "costs": cost_rows(data.stage_costs),
        "notes": method_notes(data),
    }


def ordered(data: ReportData) -> list[TestComparison]:
    """Return the test sets, the in-domain ones first."""
    return sorted(data.tests, key=lambda test: not test.in_domain)


def written_settings(data: ReportData) -> dict[str, str]:
    """Return the settings that differ from the defaults, as `config.toml` has them."""
    return {
        name: "unset" if value is None else toml_value(value)
        for name, value in changed_settings(data.config).items()
    }


def num_concerns(data: ReportData) -> int:
    """Count what a reader should know before believing the outcome."""
    findings = data.fitness.findings if data.fitness else ()
    return len(findings) + len(data.collapses) + len(data.warnings)


def page_figures(data: ReportData) -> dict[str, Any]:
    """Return every drawing of the page; empty where there is nothing to draw."""
    own = in_domain_test(data)
    return {
        "forest": forest_plot(data.tests, data.cross_domain, "avg_at_k"),
        "forest_ece": forest_plot(data.tests, data.cross_domain, "ece"),
        "agreement": Markup("")
        if own is None
        else agreement_histogram(own.name, own.before.agreement, own.after.agreement),
        "reliability": [
            (test, drawing)
            for test in ordered(data)
            if (
                drawing := reliability_diagram(
                    test.name, test.before.bins, test.after.bins
                )
            )
        ],
        "neurons": neuron_chart(data.pool),
        "training": training_chart(data.training, data.collapses),
    }
