"""The figures of an analysis; each takes records and returns one SVG element.

A figure for which there is nothing to draw is empty. Numbers that are not finite are
left out of a drawing and said in its description where they matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from neuron_opsd.report.charts import svg
from neuron_opsd.report.charts.intervals import whisker
from neuron_opsd.report.charts.svg import Scale
from neuron_opsd.report.wording import finite, number, one_line, percent
from neuron_opsd.results.analysis import (
    ACCURACY,
    AGREEMENT,
    CAPTURED,
    RIVALS,
    AnalysisData,
    BinMean,
    RunAnalysis,
    area_name,
    correlation_name,
)
from neuron_opsd.results.scores import Interval

LEFT, RIGHT = 46.0, 382.0
TOP, BASE = 46.0, 262.0
HEIGHT = 302.0

ROW = 40.0
FIRST_ROW = 30.0

SERIES = ((ACCURACY, "after", "right"), (AGREEMENT, "before", "agree"))
"""Targets of the binned means, with their kind of mark and their word."""


def bins_chart(run: RunAnalysis) -> Markup:
    """Draw accuracy and vote share against the neuron count, in bins."""
    series = [
        (kind, word, shown)
        for target, kind, word in SERIES
        if (shown := drawable(run.bins.get(target, ())))
    ]
    if not series:
        return Markup("")
    deciles = max((bins for _, _, bins in series), key=len)
    x = Scale(0, max(1, len(deciles) - 1), LEFT + 8, RIGHT - 8)
    y = Scale(0, 1, BASE, TOP + 6)
    said = " ".join(f"{word}: {bins_in_words(bins)}." for _, word, bins in series)
    return svg.figure(
        f"Neuron count and answers of {one_line(run.name, 40)}",
        "Mean share of sampled answers in bins of about equally many questions, from "
        f"the fewest to the most neurons, with 95 % intervals. {said}",
        HEIGHT,
        svg.words("share of sampled answers", (4, 16)),
        bins_legend([(kind, word) for kind, word, _ in series]),
        svg.axis_y(y, svg.share_ticks(), (LEFT, RIGHT)),
        svg.axis_x(x, count_ticks(deciles), BASE, "mean neurons of each bin"),
        *(bins_curve(bins, kind, x, y) for kind, _, bins in series),
    )


def drawable(bins: Sequence[BinMean]) -> list[BinMean]:
    """Return the bins whose mean is a number with an interval."""
    return [one for one in bins if finite(one.mean)]


def count_ticks(bins: Sequence[BinMean]) -> svg.Ticks:
    """Return a mark at the first, the last and two bins between, with its count."""
    last = len(bins) - 1
    places = sorted({round(last * third / 3) for third in range(4)})
    return svg.Ticks(
        tuple(map(float, places)),
        tuple(number(bins[place].center, 0) for place in places),
    )


def bins_in_words(bins: Sequence[BinMean]) -> str:
    """Say where the means begin and end."""
    first, last = bins[0], bins[-1]
    return (
        f"{percent(first.mean.value, 0)} at {number(first.center, 0)} neurons, "
        f"{percent(last.mean.value, 0)} at {number(last.center, 0)}"
    )


def bins_legend(kinds: Sequence[tuple[str, str]]) -> Markup:
    """Return the marks of each series with their words, side by side at the right."""
    drawn = []
    for place, (kind, word) in enumerate(reversed(kinds)):
        left = RIGHT - 46 - 62 * place
        drawn.append(svg.circle((left, 12), 4, f"mark {kind}"))
        drawn.append(svg.words(word, (left + 9, 16)))
    return Markup("").join(drawn)


def bins_curve(bins: Sequence[BinMean], kind: str, x: Scale, y: Scale) -> Markup:
    """Draw one target's means, their intervals and the line through them."""
    points = [(x(place), y(one.mean.value)) for place, one in enumerate(bins)]
    drawn = [svg.path(points, f"line {kind}")]
    for (at, height), one in zip(points, bins, strict=True):
        ends = (at, y(one.mean.low)), (at, y(one.mean.high))
        drawn.append(svg.line(*ends, f"span {kind}"))
        hint = (
            f"{percent(one.mean.value)} ({percent(one.mean.low)} to "
            f"{percent(one.mean.high)}), {one.num_questions} questions of "
            f"{number(one.low, 0)} to {number(one.high, 0)} neurons"
        )
        drawn.append(svg.circle((at, height), 4, f"mark {kind}", hint))
    return Markup("").join(drawn)


def rivals_chart(name: str, measures: Mapping[str, Interval]) -> Markup:
    """Draw how well the count and each rival tell right captured answers apart."""
    rows = [
        (f"{rival.label}, {rival.hypothesis}", area)
        for key, rival in RIVALS.items()
        if (area := measures.get(area_name(CAPTURED, key))) and finite(area)
    ]
    if not rows:
        return Markup("")
    low = min(0.5, *(area.low for _, area in rows))
    high = max(0.5, *(area.high for _, area in rows))
    pad = 0.05 * (high - low) or 0.05
    x = Scale(low - pad, high + pad, 12, RIGHT)
    base = FIRST_ROW + ROW * len(rows)
    said = "; ".join(f"{label} {with_range(area)}" for label, area in rows)
    return svg.figure(
        f"What tells right answers apart, {one_line(name, 40)}",
        "Area under the ROC curve of each number for the captured answer being right, "
        f"with 95 % intervals; .5 is chance. {said}.",
        base + 40,
        svg.words("area under the ROC curve", (4, 16)),
        *(
            interval_row(label, [area], x, (FIRST_ROW + ROW * place, 0.5))
            for place, (label, area) in enumerate(rows)
        ),
        svg.axis_x(x, svg.round_ticks(x.low, x.high, 5), base, ".5 is chance"),
    )


def correlations_chart(data: AnalysisData) -> Markup:
    """Draw the rank correlation of count and accuracy of every run, plain and partial.

    Empty where fewer than two runs have it.
    """
    plain, partial = (
        correlation_name(kind, ACCURACY) for kind in ("spearman", "partial_ranks")
    )
    tables = [(run.name, run.measures) for run in data.runs]
    tables.append(("mean of runs", data.overall))
    rows = [
        (one_line(name, 28), [table[plain], table[partial]])
        for name, table in tables
        if plain in table and finite(table[plain]) and finite(table[partial])
    ]
    if len(rows) < 2:
        return Markup("")
    shown = [one for _, pair in rows for one in pair]
    low = min(0.0, *(one.low for one in shown))
    high = max(0.0, *(one.high for one in shown))
    x = Scale(low - 0.03, high + 0.03, 12, RIGHT)
    base = FIRST_ROW + 1.25 * ROW * len(rows)
    said = "; ".join(
        f"{name} {with_range(one)}, partial {with_range(other)}"
        for name, (one, other) in rows
    )
    return svg.figure(
        "Neuron count and accuracy, run by run",
        "Rank correlation with 95 % intervals. Circles: plain. Diamonds: given length, "
        f"entropy and vote share. {said}.",
        base + 40,
        *pair_legend(),
        *(
            interval_row(name, pair, x, (FIRST_ROW + 1.25 * ROW * place, 0.0))
            for place, (name, pair) in enumerate(rows)
        ),
        svg.axis_x(x, svg.round_ticks(x.low, x.high, 5), base, "rank correlation"),
    )


def pair_legend() -> list[Markup]:
    """Return the marks that mean plain and partial."""
    return [
        svg.circle((10, 12), 4, "mark after"),
        svg.words("plain", (20, 16)),
        svg.diamond((72, 12), 5, "mark net"),
        svg.words("given length, entropy, vote share", (82, 16)),
    ]


def interval_row(
    name: str, pair: Sequence[Interval], x: Scale, at: tuple[float, float]
) -> Markup:
    """Draw a name and one interval, or a second with a diamond below it.

    Args:
        name: Stands above, the first interval's numbers at its right.
        pair: One interval or two.
        x: Of the drawing.
        at: Top of the row, and the value where the upright line stands.
    """
    top, middle = at
    height = top + 23 + 12 * len(pair)
    drawn = [
        svg.line((4, top), (RIGHT, top), "grid"),
        svg.line((x(middle), top + 21), (x(middle), height), "zero"),
        svg.words(name, (4, top + 16)),
        svg.words(with_range(pair[0]), (RIGHT, top + 16), anchor="end", kind="tick"),
    ]
    for place, (interval, kind) in enumerate(zip(pair, ("after", "net"), strict=False)):
        line = top + 28 + 12 * place
        drawn.append(whisker(interval, x, line, (kind, 1)))
        mark = svg.diamond if place else svg.circle
        drawn.append(mark((x(interval.value), line), 4.5, f"mark {kind}"))
    return Markup("").join(drawn)


def with_range(interval: Interval) -> str:
    """Write a number with the ends of its interval."""
    value, low, high = (
        number(one, 2) for one in (interval.value, interval.low, interval.high)
    )
    return f"{value} ({low} to {high})"
