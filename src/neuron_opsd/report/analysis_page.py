"""Page of an analysis, as one HTML file without network or scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from neuron_opsd.records.scores import Interval
from neuron_opsd.report import analysis_tables as tables
from neuron_opsd.report.charts.intervals import IntervalChart, IntervalRow
from neuron_opsd.report.charts.plot import Axis, Dot, Plot, Ticks, share_axis
from neuron_opsd.report.html import render_template
from neuron_opsd.report.wording import (
    ends,
    finite,
    number,
    one_line,
    percent,
    signed_two_digits,
    two_digits,
    with_ends,
)
from neuron_opsd.results import analysis

BINS = ((analysis.ACCURACY, "after", "right"), (analysis.AGREEMENT, "before", "agree"))
"""Targets of the binned means, with mark role and label."""

CASES_ON_PAGE = 120
"""Over all runs; `analysis.json` has the rest."""

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
    "Give the pool's file with --answers to see what the neuron count says about that."
)


def render_analysis(data: analysis.AnalysisData) -> str:
    """Render the page deterministically."""
    return render_template("analysis.html.jinja", context(data), "analysis.css")


def context(data: analysis.AnalysisData) -> dict[str, Any]:
    """Collect template variables."""
    return {
        "data": data,
        "outcome": outcome(data),
        "unlabelled": [run.name for run in data.runs if not run.labelled],
        **{
            name: tables.correlation_table(data, shown, title)
            for name, (shown, title) in CORRELATIONS.items()
        },
        "bins": drawings(data, bins_chart),
        "rivals": drawings(data, lambda run: rivals_chart(run.name, run.measures)),
        "by_run": correlations_chart(data),
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
    """Draw a figure for each run with data."""
    return [(run, drawn) for run in data.runs if (drawn := draw(run))]


def headline(data: analysis.AnalysisData) -> tuple[str, Mapping[str, Interval]] | None:
    """Return the leading run, or mean; `None` without gold answers."""
    name = analysis.correlation_name("spearman", analysis.ACCURACY)
    if name in data.overall:
        return f"the mean of {len(data.runs)} runs", data.overall
    labelled = [run for run in data.runs if name in run.measures]
    if not labelled:
        return None
    return f"run {labelled[0].name}", labelled[0].measures


def outcome(data: analysis.AnalysisData) -> str:
    """Summarise how neuron count relates to correctness."""
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
    """Say what remains of a correlation given other signals."""
    if not finite(partial):
        return "nothing could be measured in ranks"
    if partial.holds_zero:
        return f"no correlation is seen in ranks ({ranged(partial)})"
    few = "fewer" if partial.high < 0 else "more"
    same = finite(plain) and plain.low * partial.low > 0 and not plain.holds_zero
    still = "still " if same else ""
    return f"{few} neurons {still}go with right answers in ranks ({ranged(partial)})"


def best_sign(measures: Mapping[str, Interval]) -> list[str]:
    """Compare the neuron count with its best measured rival."""
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
        f"As a sign of a right answer the count has an area of "
        f"{number(own.value, 2)} under the ROC curve; the best of its rivals, "
        f"{analysis.RIVALS[best].label} ({analysis.RIVALS[best].hypothesis}), has "
        f"{number(known[best].value, 2)}."
    ]


def ranged(interval: Interval) -> str:
    """Format a correlation with its interval."""
    if not finite(interval):
        return "not measured"
    return f"{signed_two_digits(interval.value)}, {ends(interval, signed_two_digits)}"


def entropy_note(data: analysis.AnalysisData) -> str:
    """Say which answers entropy and log-probability are of."""
    greedy = [run.name for run in data.runs if run.captured_greedy]
    if not greedy:
        return "Of the captured answer, per token, under what it was sampled from."
    whose = "" if len(greedy) == len(data.runs) else f" ({', '.join(greedy)})"
    return (
        f"Where the captured answer is greedy{whose} it has neither, so they are means "
        "over the question's sampled answers, per token, under what they were sampled "
        "from."
    )


def bins_chart(run: analysis.RunAnalysis) -> Markup:
    """Plot binned accuracy and vote share against neuron count."""
    series = [
        (role, word, shown)
        for target, role, word in BINS
        if (shown := [one for one in run.bins.get(target, ()) if finite(one.mean)])
    ]
    if not series:
        return Markup("")
    plot = Plot(
        count_axis(max((bins for _, _, bins in series), key=len)),
        share_axis("share of sampled answers"),
    )
    said = " ".join(f"{word}: {bins_in_words(bins)}." for _, word, bins in series)
    return plot.figure(
        f"Neuron count and answers of {one_line(run.name, 40)}",
        "Mean share of sampled answers in bins of about equal size, from the fewest "
        f"to the most neurons, with 95 % intervals. {said}",
        *(plot.curve(bin_dots(bins), role) for role, _, bins in series),
        key=[(role, word) for role, word, _ in series],
    )


def count_axis(bins: Sequence[analysis.BinMean]) -> Axis:
    """Return the bins' axis, with up to four ticks."""
    last = len(bins) - 1
    places = sorted({round(last * third / 3) for third in range(4)})
    texts = tuple(number(bins[place].center, 0) for place in places)
    ticks = Ticks(tuple(map(float, places)), texts)
    return Axis(-0.25, max(1, last) + 0.25, "mean neurons of each bin", ticks)


def bins_in_words(bins: Sequence[analysis.BinMean]) -> str:
    """Describe where the means start and end."""
    first, last = bins[0], bins[-1]
    return (
        f"{percent(first.mean.value, 0)} at {number(first.center, 0)} neurons, "
        f"{percent(last.mean.value, 0)} at {number(last.center, 0)}"
    )


def bin_dots(bins: Sequence[analysis.BinMean]) -> list[Dot]:
    """Return one mark per bin, with the interval of its mean."""
    return [
        Dot(
            (place, one.mean.value),
            f"{percent(one.mean.value)} ({percent(one.mean.low)} to "
            f"{percent(one.mean.high)}), {one.num_questions} questions of "
            f"{number(one.low, 0)} to {number(one.high, 0)} neurons",
            span=(one.mean.low, one.mean.high),
        )
        for place, one in enumerate(bins)
    ]


def rivals_chart(name: str, measures: Mapping[str, Interval]) -> Markup:
    """Draw how well count and rivals separate right captured answers."""
    rows = []
    for key, rival in analysis.RIVALS.items():
        area = measures.get(analysis.area_name(analysis.CAPTURED, key))
        if finite(area):
            subject = f"{rival.label}, {rival.hypothesis}"
            lines = ((subject, with_ends(area, two_digits)),)
            rows.append(IntervalRow(lines, (area,)))
    return IntervalChart(
        f"What tells right answers apart, {one_line(name, 40)}",
        "Area under the ROC curve of each number for the captured answer being right, "
        "with 95 % intervals; .5 is chance.",
        rows,
        ".5 is chance",
        [("", "area under the ROC curve")],
        upright=0.5,
    ).draw()


def correlations_chart(data: analysis.AnalysisData) -> Markup:
    """Draw each run's rank correlation of count and accuracy, plain and partial.

    Empty below two runs.
    """
    names = [
        analysis.correlation_name(k, analysis.ACCURACY)
        for k in ("spearman", "partial_ranks")
    ]
    rows = []
    for name, table in tables.named_measures(data):
        pair = tuple(table[one] for one in names if one in table)
        if len(pair) == len(names) and all(map(finite, pair)):
            plain, partial = (with_ends(one, two_digits) for one in pair)
            lines = ((one_line(name, 28), plain), ("partial", partial))
            rows.append(IntervalRow(lines, pair))
    if len(rows) < 2:
        return Markup("")
    return IntervalChart(
        "Neuron count and accuracy, run by run",
        "Rank correlation with 95 % intervals. Circles: plain. Diamonds: partial, "
        "given length, entropy and vote share.",
        rows,
        "rank correlation",
        [("after", "plain"), ("net", "given length, entropy, vote share")],
    ).draw()
