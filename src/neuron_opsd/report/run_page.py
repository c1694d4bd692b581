"""The report of a run: one HTML page that needs no network and no script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from neuron_opsd.config.tables import changed_settings, toml_values
from neuron_opsd.records.scores import Interval
from neuron_opsd.report import measures, wording
from neuron_opsd.report import run_charts as charts
from neuron_opsd.report import run_outcome as outcome
from neuron_opsd.report import run_tables as tables
from neuron_opsd.report.charts.intervals import interval_strip
from neuron_opsd.report.condense import MOST_ANSWERS, fitted_cases, ranked
from neuron_opsd.report.html import render_template
from neuron_opsd.report.run_notes import equality_note, method_notes
from neuron_opsd.results.run import ReportData, least_of

MOST_CASES = 24


def render_page(data: ReportData) -> str:
    """Return the whole page; equal data give equal bytes."""
    return render_template("run.html.jinja", context(data))


def context(data: ReportData) -> dict[str, Any]:
    """Return what the template names."""
    config, tests = data.config.evaluation, outcome.ordered(data.tests)
    return {
        "data": data,
        "outcome": outcome.outcome_sentence(data),
        "stats": stats(data),
        "k": config.num_samples,
        "results": tables.results_table(data) if tests else None,
        "labels": tables.label_table(data),
        "figures": page_figures(data),
        "test_metrics": [(test, tables.metric_table(test, config)) for test in tests],
        "selection_facts": selection_facts(data),
        "cases": [
            (case, {"before": ranked(before), "after": ranked(after)})
            for case in fitted_cases(data.cases[:MOST_CASES])
            for before, after in [(case.rollouts_before, case.rollouts_after)]
        ],
        "most_answers": MOST_ANSWERS,
        "teacher": tables.teacher_table(data.teacher_check)
        if data.teacher_check
        else None,
        "guard": tables.guard_table(data.guard) if data.guard else None,
        "kept": outcome.kept_sentence(data),
        "concerns": num_concerns(data),
        "settings": toml_values(changed_settings(data.config)),
        "costs": tables.cost_table(data.stage_costs) if data.stage_costs else None,
        "notes": method_notes(data),
        "equality": equality_note(data),
        "baseline_note": measures.BASELINE_NOTE,
        "difference_note": measures.difference_note(least_of(config)),
    }


def num_concerns(data: ReportData) -> int:
    """Count what a reader should know before believing the outcome."""
    findings = data.teacher_check.findings if data.teacher_check else ()
    return len(findings) + len(data.collapses) + len(data.warnings)


def page_figures(data: ReportData) -> dict[str, Any]:
    """Return every chart of the page; empty where there is nothing to draw."""
    own = outcome.in_domain_test(data)
    reliability = [
        (test, charts.reliability_diagram(test.name, test.before.bins, test.after.bins))
        for test in outcome.ordered(data.tests)
    ]
    return {
        "forest": charts.forest_plot(data.tests, data.cross_domain, "avg_at_k"),
        "forest_ece": charts.forest_plot(data.tests, data.cross_domain, "ece"),
        "agreement": Markup("")
        if own is None
        else charts.agreement_histogram(
            own.name, own.before.agreement, own.after.agreement
        ),
        "reliability": [(test, picture) for test, picture in reliability if picture],
        "neurons": charts.neuron_chart(data.pool),
        "training": charts.training_chart(data.training, data.collapses),
        "guard": charts.guard_chart(data.guard, data.collapses),
    }


@dataclass(frozen=True, slots=True)
class Stat:
    """One of the large numbers under the outcome."""

    label: str
    value: str
    unit: str
    said: str
    """What the interval allows to say."""
    note: str
    strip: Markup


def stats(data: ReportData) -> list[Stat]:
    """Return the four numbers that a reader should take away."""
    test = outcome.in_domain_test(data)
    if test is None:
        return []
    config = data.config.evaluation
    least, accuracy, error = least_of(config), measures.ACCURACY, measures.ERROR
    gain, ece = test.delta.get("avg_at_k"), test.delta.get("ece")
    net = (test.net_of_form or {}).get("avg_at_k")
    cross = data.cross_domain.get("avg_at_k")
    others = sum(not one.in_domain for one in data.tests)
    before, after = map(wording.percent, test.both("avg_at_k"))
    ece_before, ece_after = map(wording.number, test.both("ece"))
    return [
        stat(
            f"Avg@{config.num_samples} on {wording.one_line(test.name, 40)}",
            (accuracy, gain),
            outcome.accuracy_verdict(test, gain, config),
            f"{before} before, {after} after",
        ),
        stat(
            "net of form-only training",
            (accuracy, net),
            outcome.accuracy_verdict(test, net, config),
            "evaluation.form_only was off"
            if test.net_of_form is None
            else "compared with the same steps on random choices",
            "net",
        ),
        stat(
            "other domains",
            (accuracy, cross),
            measures.judged(accuracy, cross, least),
            f"mean of {others} cross-domain test sets" if others else "no test set",
        ),
        stat(
            "calibration error (ECE)",
            (error, ece),
            measures.judged(error, ece, least),
            f"{ece_before} before, {ece_after} after; lower is better"
            f"{outcome.no_votes(config)}",
        ),
    ]


def stat(
    label: str,
    change: tuple[measures.MetricKind, Interval | None],
    said: str,
    note: str,
    role: str = "after",
) -> Stat:
    """Return a difference as a large number, over its interval."""
    kind, interval = change
    if not wording.finite(interval):
        return Stat(label, wording.NOT_MEASURED, "", said, note, Markup(""))
    value, span = measures.written_change(kind, interval)
    note = f"95 % interval {span}; {note}"
    unit = "points" if kind.unit == "share" else ""
    return Stat(label, value, unit, said, note, interval_strip(interval, role))


def selection_facts(data: ReportData) -> list[tuple[str, str]]:
    """Return what can be said in numbers about the selected questions."""
    facts = [("questions selected", f"{data.num_selected:,} of {data.pool_size:,}")]
    if data.pool is None:
        return facts
    if left_out := data.pool.num_left_out:
        unknown = ", or unknown to the rule" * bool(data.config.selection_rule.unknown)
        label = f"not selected, own completion cut or unread{unknown}"
        facts.append((label, f"{left_out:,}"))
    for one in data.pool.shares:
        name = "selected" if one.kept else "not selected"
        if one.neurons is not None:
            low, middle, high = one.neurons
            spread = f"{low:,} to {high:,}, median {middle:,}"
            facts.append((f"neurons counted, {name}", spread))
        if one.agreement is not None:
            mean = f"{wording.percent(one.agreement)} on average"
            facts.append((f"rollouts that agree, {name}", mean))
    return facts
