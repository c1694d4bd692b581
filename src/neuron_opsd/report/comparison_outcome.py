"""A comparison's outcome, claiming no more than its intervals do.

A gain must show against both base and form-only training, since any training teaches
the look of an answer.
"""

from __future__ import annotations

from dataclasses import astuple

from neuron_opsd.report import comparison_index as index
from neuron_opsd.report import wording
from neuron_opsd.report.measures import (
    ACCURACY,
    AT_BASELINE,
    ERROR,
    MetricKind,
    at_baseline,
    judged,
    not_above,
)
from neuron_opsd.report.run_outcome import error_numbers, point_numbers
from neuron_opsd.results.comparison import (
    ALL_SOURCES,
    BASE,
    BASELINE,
    CROSS_DOMAIN,
    FORM,
    IN_DOMAIN,
    ComparisonData,
    Contrast,
    MethodLine,
)
from neuron_opsd.results.run import Least

SIGNIFICANT = 0.05
NO_RESULT = "not measured"
ONLY_FORM = "above base, but no difference seen from form-only training"
LITTLE_MORE = "above base, but no difference that matters from form-only training"
BELOW_FORM = "above base, but below form-only training"
FORM_UNKNOWN = "above base, but form-only training was not measured"
FORM_ALONE = "what learning the form alone gives"
UNADJUSTED = "not after Holm's correction"


def opening(data: ComparisonData) -> str:
    """Summarise our first method, or else the first of all."""
    for start in index.ordered_starts(data):
        results = index.results_from(data, start)
        for first in judged_methods(results):
            begun = "" if start == BASE else f"From {start}: "
            return begun + method_sentence(results, results.widest, first)
    return "No method was trained, so there is nothing to compare yet."


def judged_methods(results: index.Results) -> tuple[MethodLine, ...]:
    """Return our methods, or else all but form-only training."""
    return results.ours or tuple(m for m in results.trained if m.name != FORM)


def source_sentences(results: index.Results) -> list[str]:
    """Say for each source what the judged methods did."""
    return [
        method_sentence(results, source, line)
        for source in results.data.sources
        for line in judged_methods(results)
    ]


def method_sentence(results: index.Results, source: str, line: MethodLine) -> str:
    """Say what one method did to accuracy and calibration."""
    place = (source, line.name, IN_DOMAIN)
    gain, net = (results.contrast((*place, "avg_at_k"), one) for one in (BASE, FORM))
    cross = results.contrast((source, line.name, CROSS_DOMAIN, "avg_at_k"), BASE)
    ece = results.contrast((*place, "ece"), BASE)
    clauses = [
        gain_clause(gain, net, source_verdict(results, source, line)),
        baseline_clause(results, source, line),
    ]
    if cross is not None:
        said = shown_by(cross, ACCURACY, results.data.least)
        clauses.append(f"cross-domain {point_numbers(cross.difference)}: {said}")
    if ece is not None:
        said = shown_by(ece, ERROR, results.data.least)
        clauses.append(f"in-domain ECE {error_numbers(ece.difference)}: {said}")
    where = f"on {wording.one_line(source, 40)}"
    if source == ALL_SOURCES:
        where = f"on average over {len(results.data.sources)} sources"
    return f"{index.method_label(line)} {where}: {'; '.join(filter(None, clauses))}."


def source_verdict(
    results: index.Results, source: str, line: MethodLine, metric: str = "avg_at_k"
) -> str:
    """Judge an in-domain gain; one answer to all is no gain."""
    gain, net = (
        results.contrast((source, line.name, IN_DOMAIN, metric), reference)
        for reference in (BASE, FORM)
    )
    said = gain_verdict(gain, net, results.data.least.accuracy, line.name)
    if said.startswith(wording.GOT_BETTER) and is_at_baseline(
        results, source, line.name
    ):
        return AT_BASELINE
    return said


def is_at_baseline(results: index.Results, source: str, method: str) -> bool:
    """Say whether a model gives one answer to nearly everything."""
    above = results.contrast((source, method, IN_DOMAIN, "avg_at_k"), BASELINE)
    top = results.measurement(source, method, IN_DOMAIN, "top_answer_share")
    if above is None or top is None:
        return False
    return at_baseline(above.difference, top.value, results.data.least.accuracy)


def baseline_clause(results: index.Results, source: str, line: MethodLine) -> str:
    """Say that a model is at or below the baseline; empty if above."""
    place = (source, line.name, IN_DOMAIN)
    above = results.contrast((*place, "avg_at_k"), BASELINE)
    share = results.measurement(*place, "baseline")
    top = results.measurement(*place, "top_answer_share")
    if above is None or share is None or top is None:
        return ""
    at = is_at_baseline(results, source, line.name)
    said = "at" if at else not_above(above.difference)
    if not said:
        return ""
    constant, own = wording.percent(share.value), wording.percent(top.value)
    return (
        f"it is {said} the baseline of {constant}, the most frequent gold answer to "
        f"every question ({own} of its answers are equal)"
    )


def gain_clause(gain: Contrast | None, net: Contrast | None, said: str) -> str:
    """Say how in-domain accuracy changed, against base and net of form."""
    if gain is None:
        return "in-domain accuracy was not compared with base"
    against_base = f"{point_numbers(gain.difference)} against base in-domain"
    if net is None:
        return f"{against_base}: {said}"
    net_of_form = f"{point_numbers(net.difference)} net of form only"
    if gain.difference.low > 0:
        return f"{against_base}, {net_of_form}: {said}"
    # Without a gain over base, judge that alone.
    return f"{against_base}: {said} ({net_of_form})"


def gain_verdict(
    gain: Contrast | None, net: Contrast | None, least: float, method: str = ""
) -> str:
    """Judge a gain over base; one that form explains is none.

    `method` tells form-only training, which has no net of form.
    """
    if gain is None:
        return NO_RESULT
    if not (gain.difference.low > 0 and wording.matters(gain.difference.value, least)):
        said = wording.verdict(gain.difference, higher_is_better=True, least=least)
        return corrected(said, gain)
    if method == FORM:
        return FORM_ALONE
    return net_verdict(gain, net, least)


def net_verdict(gain: Contrast, net: Contrast | None, least: float) -> str:
    """Say what remains of a gain over base, net of form."""
    if net is None:
        return FORM_UNKNOWN
    if net.difference.holds_zero:
        return ONLY_FORM
    if net.difference.low <= 0:
        return BELOW_FORM
    if not wording.matters(net.difference.value, least):
        return LITTLE_MORE
    if max(gain.p_adjusted, net.p_adjusted) >= SIGNIFICANT:
        return f"{wording.GOT_BETTER}, {UNADJUSTED}"
    return wording.GOT_BETTER


def shown_by(contrast: Contrast | None, kind: MetricKind, least: Least) -> str:
    """Judge a difference, with and without Holm's correction."""
    if contrast is None:
        return NO_RESULT
    return corrected(judged(kind, contrast.difference, least), contrast)


def corrected(said: str, contrast: Contrast) -> str:
    """Qualify a verdict that correction leaves insignificant."""
    shows_nothing = contrast.difference.holds_zero or said == wording.NO_MATTER
    if shows_nothing or not contrast.p_adjusted >= SIGNIFICANT:
        return said
    return f"{said}, {UNADJUSTED}"


def facts(data: ComparisonData) -> list[str]:
    """Say in short phrases what was compared."""
    counts = sorted({data.num_questions.get(name, 0) for name in data.targets})
    ends = " to ".join(f"{n:,}" for n in dict.fromkeys(counts[:1] + counts[-1:]))
    seeds = ", ".join(map(str, data.seeds)) or "none"
    if len(data.seeds) > 6:
        seeds = f"{data.seeds[0]} to {data.seeds[-1]}, {len(data.seeds)} in all"
    return [
        *(
            f"{len(those):,} {noun}{'' if len(those) == 1 else 's'}"
            for noun, those in (
                ("method", data.methods),
                ("source", data.sources),
                ("test set", data.targets),
            )
        ),
        f"{ends or 'no test'} questions{' per test set' if ends else ''}",
        f"{data.num_samples} answer{'' if data.num_samples == 1 else 's'} per question",
        f"{'seed' if len(data.seeds) == 1 else 'seeds'} {seeds}",
        f"result after {data.steps[-1]} steps" if data.steps else "no steps",
    ]


def summary_table(results: index.Results) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return headings and a text row per method, averaged over sources and seeds.

    If gold answers repeat, label measures come last.
    """
    headings: tuple[str, ...] = (
        "method",
        "in-domain",
        "to base, points",
        "net of form",
        "other domains",
        "ECE",
    )
    lines = (index.UNTRAINED, *results.lines)
    rows = [summary_row(results, line) for line in lines]
    labels = [label_cells(results, line) for line in lines]
    if labels[0][0] == "-":
        return headings, rows
    headings += ("baseline", "balanced", "macro F1", "top answer")
    return headings, [row + more for row, more in zip(rows, labels, strict=True)]


def summary_row(results: index.Results, line: MethodLine) -> list[str]:
    """Return in-domain and cross-domain accuracy, and calibration."""
    return [
        index.method_label(line),
        measured(results, line, "avg_at_k"),
        change(results, line, IN_DOMAIN, BASE),
        change(results, line, IN_DOMAIN, FORM),
        change(results, line, CROSS_DOMAIN, BASE),
        measured(results, line, "ece"),
    ]


def label_cells(results: index.Results, line: MethodLine) -> list[str]:
    """Return a method's label measures."""
    names = ("baseline", "balanced_accuracy", "macro_f1", "top_answer_share")
    cells = [measured(results, line, name) for name in names]
    return ["-"] * len(cells) if cells[0] == "-" else cells


def measured(results: index.Results, line: MethodLine, metric: str) -> str:
    """Format an in-domain measure, or a hyphen."""
    found = results.measurement(results.widest, line.name, IN_DOMAIN, metric)
    return wording.metric_text(None if found is None else found.value)


def change(
    results: index.Results, line: MethodLine, target: str, reference: str
) -> str:
    """Format an accuracy difference in points, with its interval."""
    place = (results.widest, line.name, target, "avg_at_k")
    found = results.contrast(place, reference)
    if found is None:
        return "-"
    return "{:+.1f} [{:+.1f} {:+.1f}]".format(
        *(100 * end for end in astuple(found.difference))
    )
