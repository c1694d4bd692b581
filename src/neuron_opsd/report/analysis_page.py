"""The page of an analysis: one HTML file that needs no network and no script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

from neuron_opsd.records.scores import Interval
from neuron_opsd.report import analysis_charts as charts
from neuron_opsd.report import analysis_tables as tables
from neuron_opsd.report.html import render_template
from neuron_opsd.report.wording import ends, finite, number, signed_two_digits
from neuron_opsd.results import analysis

CASES_ON_PAGE = 120
"""Of all runs together; `analysis.json` holds the others too."""

CORRELATIONS = {
    "correlated": (tables.CORRELATED, "Correlation of neuron count and correctness"),
    "given": (tables.GIVEN, "Plain and partial correlations"),
    "label_free": (
        tables.UNLABELLED,
        "Rank correlation of neuron count and label-free signs",
    ),
}

SHARED = {
    "gold": "The same true answer",
    "answer": "The same own answer, right or wrong",
}

UNKNOWN = (
    "No true answers were given, so nothing here says whether an answer is right. "
    "Give the pool's file with --answers to learn what the neuron count says of that."
)


def render_analysis(data: analysis.AnalysisData) -> str:
    """Return the whole page; equal data give equal bytes."""
    return render_template("analysis.html.jinja", context(data), "analysis.css")


def context(data: analysis.AnalysisData) -> dict[str, Any]:
    """Return what the template names."""
    return {
        "data": data,
        "outcome": outcome(data),
        "unlabelled": [run.name for run in data.runs if not run.labelled],
        **{
            name: tables.correlation_table(data, shown, title)
            for name, (shown, title) in CORRELATIONS.items()
        },
        "bins": drawings(data, charts.bins_chart),
        "rivals": drawings(
            data, lambda run: charts.rivals_chart(run.name, run.measures)
        ),
        "by_run": charts.correlations_chart(data),
        "areas": tables.area_tables(data),
        "votes": tables.group_table(data, "Votes", tables.VOTES),
        "labels": tables.group_table(
            data, "Where true answers repeat", tables.LABELS, "baseline"
        ),
        "entropies": tables.entropy_table(data),
        "distances": tables.distance_table(data),
        "between": tables.between_table(data),
        "sampled": [run for run in data.runs if run.distances_of < run.num_questions],
        "sharing": [
            (what, title, tables.sharing_table(data, what, title))
            for what, title in SHARED.items()
        ],
        "num_cases": max(1, CASES_ON_PAGE // max(1, len(data.runs))),
        "entropy_note": entropy_note(data),
    }


def drawings(
    data: analysis.AnalysisData, draw: Callable[[analysis.RunAnalysis], Markup]
) -> list[tuple[analysis.RunAnalysis, Markup]]:
    """Return a figure of every run for which there is something to draw."""
    return [(run, drawn) for run in data.runs if (drawn := draw(run))]


def headline(data: analysis.AnalysisData) -> tuple[str, Mapping[str, Interval]] | None:
    """Return whose numbers the page begins with; `None` where none has true answers."""
    name = analysis.correlation_name("spearman", analysis.ACCURACY)
    if name in data.overall:
        return f"the mean of {len(data.runs)} runs", data.overall
    labelled = [run for run in data.runs if name in run.measures]
    if not labelled:
        return None
    return f"run {labelled[0].name}", labelled[0].measures


def outcome(data: analysis.AnalysisData) -> str:
    """Say in a few sentences what the neuron count says about being right."""
    found = headline(data)
    if found is None:
        return UNKNOWN
    subject, measures = found
    plain = measures[analysis.correlation_name("spearman", analysis.ACCURACY)]
    partial = measures[analysis.correlation_name("partial_ranks", analysis.ACCURACY)]
    linear = measures[analysis.correlation_name("partial", analysis.ACCURACY)]
    said = [f"In {subject}, {direction(plain)} (rank correlation {ranged(plain)})."]
    said.append(
        f"Given length, entropy and vote share, {remainder(partial, plain)}; by linear "
        f"regression, without ranks, it is {ranged(linear)}."
    )
    return " ".join([*said, *best_sign(measures)])


def direction(correlation: Interval) -> str:
    """Say which questions were answered right more often."""
    if not finite(correlation):
        return "it could not be measured which questions were answered right"
    if correlation.holds_zero:
        return "the neuron count was not seen to go with right answers"
    few = "fewer" if correlation.high < 0 else "more"
    return f"questions with {few} neurons were answered right more often"


def remainder(partial: Interval, plain: Interval) -> str:
    """Say what is left of a correlation when other signs are known."""
    if not finite(partial):
        return "nothing could be measured in ranks"
    if partial.holds_zero:
        return f"no correlation is seen in ranks ({ranged(partial)})"
    few = "fewer" if partial.high < 0 else "more"
    same = finite(plain) and plain.low * partial.low > 0 and not plain.holds_zero
    still = "still " if same else ""
    return f"{few} neurons {still}go with right answers in ranks ({ranged(partial)})"


def best_sign(measures: Mapping[str, Interval]) -> list[str]:
    """Compare the neuron count with the best of its rivals, if they were measured."""
    areas = {
        name: measures.get(analysis.area_name(analysis.CAPTURED, name))
        for name in analysis.RIVALS
    }
    known = {name: a for name, a in areas.items() if finite(a)}
    own = known.pop("count", None)
    if own is None or not known:
        return []
    best = max(known, key=lambda name: known[name].value)
    return [
        f"As a sign that one answer is right the count has an area of "
        f"{number(own.value, 2)} under the ROC curve; the best of its rivals, "
        f"{analysis.RIVALS[best].label} ({analysis.RIVALS[best].hypothesis}), has "
        f"{number(known[best].value, 2)}."
    ]


def ranged(interval: Interval) -> str:
    """Write a correlation with its interval."""
    if not finite(interval):
        return "not measured"
    return f"{signed_two_digits(interval.value)}, {ends(interval, signed_two_digits)}"


def entropy_note(data: analysis.AnalysisData) -> str:
    """Say of which answers entropy and log-probability are taken."""
    greedy = [run.name for run in data.runs if run.captured_greedy]
    if not greedy:
        return "Of the captured answer, per token, under what it was sampled from."
    whose = "" if len(greedy) == len(data.runs) else f" ({', '.join(greedy)})"
    return (
        f"Where the captured answer is greedy{whose} it has neither, so they are means "
        "over the question's sampled answers, per token, under what these were sampled "
        "from."
    )
