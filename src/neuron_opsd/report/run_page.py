"""Report of a run, as one HTML file without network or scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from neuron_opsd.config import Config, DistillConfig
from neuron_opsd.config.tables import changed_settings, toml_values
from neuron_opsd.method.contexts import CONTEXT_RULES, SHOWN_ANSWERS
from neuron_opsd.method.divergence import DIVERGENCES
from neuron_opsd.method.selection import SELECTION_RULES
from neuron_opsd.records.scores import Interval
from neuron_opsd.report import measures, wording
from neuron_opsd.report import run_charts as charts
from neuron_opsd.report import run_outcome as outcome
from neuron_opsd.report import run_tables as tables
from neuron_opsd.report.charts.intervals import interval_strip
from neuron_opsd.report.condense import MOST_ANSWERS, fitted_cases, ranked
from neuron_opsd.report.html import render_template
from neuron_opsd.results.run import OURS, ReportData, least_of

MOST_CASES = 24

NEURON_RULES: Mapping[str, str] = {
    "flat": "a neuron counts if it is in one of the {size} strongest pairs of "
    "position and neuron of its layer",
    "per-token": "a neuron counts if it is among the strongest of one token, "
    "over all layers",
    "neufs": "a neuron counts as in the public NeuFS code, whose last position is "
    "dropped ({size} pairs per layer)",
}

NEURON_VALUES: Mapping[str, str] = {
    "gate": "the output of the activation function",
    "gated": "the input of the down-projection",
}

ROLLOUT_MODES: Mapping[str, str] = {
    "constrained": "among its choices where it has some",
    "free": "in its own words",
    "auto": "among its choices or in its own words, as suits the model's size",
}
"""Older reports contain `auto`."""

SPANS: Mapping[str, str] = {
    "completion": "",
    "reasoning": " Only the tokens of the reasoning count.",
    "answer": " Only the tokens of the final answer after the reasoning count.",
}

GIVEN_NOTE = (
    "After each question, the teacher saw its text from the pool's column "
    "privileged_context; no demonstrations were retrieved. Only whoever wrote those "
    "texts knows whether they contain answers; if they do, this training was not "
    "without labels."
)

TEACHERS: Mapping[str, str] = {
    "ema": "follows the student slowly",
    "frozen": "stays the untrained model",
    "live": "is the student itself",
    "periodic": "copies the student from time to time",
}


def render_page(data: ReportData) -> str:
    """Render the page deterministically."""
    return render_template("run.html.jinja", context(data))


def context(data: ReportData) -> dict[str, Any]:
    """Collect template variables."""
    config, tests = data.config.evaluation, outcome.ordered(data.tests)
    check = data.teacher_check
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
        "teacher": tables.teacher_table(check) if check else None,
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
    """Count the caveats about the outcome."""
    findings = data.teacher_check.findings if data.teacher_check else ()
    return len(findings) + len(data.collapses) + len(data.warnings)


def page_figures(data: ReportData) -> dict[str, Any]:
    """Return every chart, empty if it has no data."""
    own = outcome.in_domain_test(data)
    reliability = [
        (test, charts.reliability_diagram(test.name, test.before.bins, test.after.bins))
        for test in outcome.ordered(data.tests)
    ]
    return {
        "forest": charts.forest_plot(data.tests, data.cross_domain, "avg_at_k"),
        "forest_ece": charts.forest_plot(data.tests, data.cross_domain, "ece"),
        "agreement": own
        and charts.agreement_histogram(
            own.name, own.before.agreement, own.after.agreement
        ),
        "reliability": [(test, picture) for test, picture in reliability if picture],
        "neurons": charts.neuron_chart(data.pool),
        "training": charts.training_chart(data.training, data.collapses),
        "guard": charts.guard_chart(data.guard, data.collapses),
    }


@dataclass(frozen=True, slots=True)
class Stat:
    """A large number under the outcome."""

    label: str
    value: str
    unit: str
    said: str
    """What the interval shows."""
    note: str
    strip: Markup


def stats(data: ReportData) -> list[Stat]:
    """Return the four headline numbers."""
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
            else "compared with as many steps on random choices",
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
    """Return a difference as a large number with its interval."""
    kind, interval = change
    if not wording.finite(interval):
        return Stat(label, wording.NOT_MEASURED, "", said, note, Markup(""))
    value, span = measures.written_change(kind, interval)
    note = f"95 % interval {span}; {note}"
    unit = "points" if kind.unit == "share" else ""
    return Stat(label, value, unit, said, note, interval_strip(interval, role))


def selection_facts(data: ReportData) -> list[tuple[str, str]]:
    """Return numbers about the selected questions."""
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


def method_notes(data: ReportData) -> list[tuple[str, str]]:
    """Describe training, as terms and sentences."""
    config = data.config
    return [
        ("Labels", "No gold answer was read before the evaluation."),
        ("Rollouts", rollouts_note(config)),
        ("Neurons", neurons_note(data)),
        ("Selection", selection_note(config)),
        ("Demonstrations", demonstrations_note(data)),
        ("Training", training_note(data)),
    ]


def rollouts_note(config: Config) -> str:
    """Say how the pool was answered."""
    rollouts = config.rollouts
    return (
        f"Each question of the pool was answered {rollouts.num_samples} times at "
        f"temperature {rollouts.temperature:g}, {ROLLOUT_MODES[rollouts.mode]}. "
        "All answers vote; one that cannot be read counts in the denominator."
    )


def neurons_note(data: ReportData) -> str:
    """Say which neurons count and are kept, or that none were read."""
    if data.pool and not any(share.neurons for share in data.pool.shares):
        return "None were read: neither selection nor demonstrations use them."
    neurons = data.config.neurons
    per_layer = neurons.per_layer or data.neurons_per_layer
    keep = neurons.keep or data.neurons_kept
    size = f"{per_layer:,}" if per_layer else "(scaled to the model)"
    rule = NEURON_RULES[neurons.rule].format(size=size)
    length = neurons.chunk_tokens
    chunks = f" and of each {length:,} tokens" if length else ""
    kept = f"{keep:,} strongest" if keep else "strongest (their number scales)"
    most = neurons.first_tokens
    first = f" Of longer spans only the first {most:,} tokens count." if most else ""
    return (
        f"A neuron's score is {NEURON_VALUES[neurons.value]} times its projection on "
        f"the sampled token; {rule}{chunks}. The {kept} with a positive score are "
        f"compared by Jaccard distance.{SPANS[neurons.span]}{first}"
    )


def selection_note(config: Config) -> str:
    """Say which questions were trained on."""
    selection = config.selection
    rule = SELECTION_RULES[selection.rule]
    if rule.keeps_all:
        return f"Trained on: {rule.help}."
    within = ", separately for each own answer" if selection.balance else ""
    unread = (
        " Questions whose own completion was cut or has no readable answer were left "
        "out."
    ) * (not selection.include_unread)
    if rule.unknown:
        unread += f" A question was left out where {rule.unknown}."
    return (
        f"Trained on: {100 * selection.keep_fraction:g} % of the pool, {rule.help}"
        f"{within}; a seeded draw decides if many tie for the last places.{unread}"
    )


def demonstrations_note(data: ReportData) -> str:
    """Say what only the teacher saw."""
    contexts = data.config.contexts
    if not ((count := contexts.num_demonstrations) and data.reads_contexts):
        return "No demonstrations were shown in training."
    if data.config.shows_given:
        return GIVEN_NOTE
    source = "whole pool" if contexts.source == "pool" else "selected questions"
    rule, number = CONTEXT_RULES[contexts.rule], contexts.num_contexts
    turns = f" {number} such contexts of each question took turns." * (number > 1)
    return (
        f"The teacher saw {count} other questions, {rule.help} from the {source}, the "
        f"{rule.last} last. Each shows {SHOWN_ANSWERS[contexts.answer].shown}.{turns}"
    )


def training_note(data: ReportData) -> str:
    """Say how the student learned."""
    distill = data.config.distill
    kind = "a low-rank adapter" if distill.tuning == "lora" else "all weights"
    steps = f"{distill.steps} steps of {distill.batch_size} questions trained {kind}."
    if data.config.method != OURS:
        return f"By {data.config.method}: {data.method_summary}. {steps}"
    return (
        f"The student answers without demonstrations; training lowers "
        f"{DIVERGENCES[distill.divergence].help} over {compared(distill)} at every "
        f"token of its answer. The teacher {TEACHERS[distill.teacher]}. {steps}"
    )


def compared(config: DistillConfig) -> str:
    """Say which part of the vocabulary is compared."""
    seen = "the full vocabulary"
    if config.top_k:
        seen = f"the {config.top_k_of}'s {config.top_k} likeliest tokens and all others"
    if config.entry_clip:
        seen += f", at most {config.entry_clip:g} nats from each,"
    return seen


def equality_note(data: ReportData) -> str:
    """Say how expressions were compared, and how often that timed out."""
    if not data.config.answers.may_leave_open:
        return ""
    results = [
        result
        for test in data.tests
        for result in (test.before, test.after, *test.controls.values())
    ]
    count = sum(result.num_unsettled for result in results)
    unsettled = f"{count:,} comparisons" if count != 1 else "1 comparison"
    return (
        "Two expressions are the same answer if math-verify says so within its limits "
        f"on steps and memory. {unsettled} of answers to the test sets could not be "
        "resolved within them and count as different."
    )
