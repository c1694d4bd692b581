"""The charts of an analysis; each takes results and returns one SVG element.

A chart for which there is nothing to draw is empty. Numbers that are not finite are
left out of a drawing and said in its description where they matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from neuron_opsd.records.scores import Interval
from neuron_opsd.report.analysis_tables import MEAN
from neuron_opsd.report.charts.intervals import IntervalChart, IntervalRow
from neuron_opsd.report.charts.plot import Axis, Dot, Plot, Ticks, share_axis
from neuron_opsd.report.wording import (
    finite,
    number,
    one_line,
    percent,
    two_digits,
    with_ends,
)
from neuron_opsd.results import analysis

BINS = ((analysis.ACCURACY, "after", "right"), (analysis.AGREEMENT, "before", "agree"))
"""Targets of the binned means, with the role of their marks and their word."""


def bins_chart(run: analysis.RunAnalysis) -> Markup:
    """Draw accuracy and vote share against the neuron count, in bins."""
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
        "Mean share of sampled answers in bins of about equally many questions, from "
        f"the fewest to the most neurons, with 95 % intervals. {said}",
        *(plot.curve(bin_dots(bins), role) for role, _, bins in series),
        key=[(role, word) for role, word, _ in series],
    )


def count_axis(bins: Sequence[analysis.BinMean]) -> Axis:
    """Return an axis of bins, with the mean count of four of them."""
    last = len(bins) - 1
    places = sorted({round(last * third / 3) for third in range(4)})
    texts = tuple(number(bins[place].center, 0) for place in places)
    ticks = Ticks(tuple(map(float, places)), texts)
    return Axis(-0.25, max(1, last) + 0.25, "mean neurons of each bin", ticks)


def bins_in_words(bins: Sequence[analysis.BinMean]) -> str:
    """Say where the means begin and end."""
    first, last = bins[0], bins[-1]
    return (
        f"{percent(first.mean.value, 0)} at {number(first.center, 0)} neurons, "
        f"{percent(last.mean.value, 0)} at {number(last.center, 0)}"
    )


def bin_dots(bins: Sequence[analysis.BinMean]) -> list[Dot]:
    """Return one mark for each bin, with the interval of its mean."""
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
    """Draw how well the count and each rival tell right captured answers apart."""
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
    """Draw the rank correlation of count and accuracy of every run, plain and partial.

    Empty where fewer than two runs have it.
    """
    names = [
        analysis.correlation_name(k, analysis.ACCURACY)
        for k in ("spearman", "partial_ranks")
    ]
    tables = [(run.name, run.measures) for run in data.runs]
    rows = []
    for name, table in (*tables, (MEAN, data.overall)):
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
