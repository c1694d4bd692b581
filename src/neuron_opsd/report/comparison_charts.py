"""Charts of a comparison: differences, maps, calibration and steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from neuron_opsd.report import comparison_index as index
from neuron_opsd.report.charts import labels, svg
from neuron_opsd.report.charts.heat_map import HeatCell, HeatMap
from neuron_opsd.report.charts.intervals import IntervalChart, IntervalRow
from neuron_opsd.report.charts.plot import Dot, Plot, axis_over
from neuron_opsd.report.comparison_outcome import SIGNIFICANT
from neuron_opsd.report.measures import CHARTED, in_words
from neuron_opsd.report.wording import number, one_line, points, signed, with_ends
from neuron_opsd.results.comparison import (
    ALL_SOURCES,
    BASE,
    CROSS_DOMAIN,
    FORM,
    IN_DOMAIN,
    Contrast,
    MethodLine,
    Place,
)

LEFT, TOP, RIGHT, BOTTOM = 46.0, 52.0, svg.NARROW - 8, 304.0
STEPS_RIGHT = svg.NARROW - labels.NAMES_WIDTH
LEAST_HEIGHT = 190.0
"""Of the step chart, which grows with its lines."""
BASE_ROLE = "untrained"


@dataclass(frozen=True, slots=True)
class Panel:
    """A measure to chart differences in."""

    target: str
    metric: str
    title: str
    hint: str
    """Which side is good."""


PANELS = (
    Panel(IN_DOMAIN, "avg_at_k", "accuracy in-domain", "Right is better."),
    Panel(
        CROSS_DOMAIN,
        "avg_at_k",
        "accuracy cross-domain",
        "The mean over all other test sets; right is better.",
    ),
    Panel(IN_DOMAIN, "ece", "ECE in-domain", "Calibration error: left is better."),
)


def source_name(source: str) -> str:
    """Return a source's name for chart titles."""
    if source == ALL_SOURCES:
        return "mean over all sources"
    return labels.short_name(source, 24)


def role_of(results: index.Results, name: str) -> str:
    """Return a method's CSS classes: a colour, dashed once colours repeat."""
    trained = [line for line in results.data.methods if line.trained]
    ranked = sorted(trained, key=lambda line: not index.is_ours(line))
    names = [line.name for line in ranked]
    if name not in names:
        return BASE_ROLE
    place = names.index(name)
    again = " again" if place >= len(svg.SERIES) else ""
    ours = " ours" if index.is_ours(ranked[place]) else ""
    return f"series{place % len(svg.SERIES)}{again}{ours}"


def method_forest(results: index.Results, source: str, panel: Panel) -> Markup:
    """Draw all methods' differences in a measure on a source."""
    charted, name = CHARTED[panel.metric], source_name(source)
    rows = []
    for line in results.lines:
        place = (source, line.name, panel.target, panel.metric)
        gain, net = (results.contrast(place, reference) for reference in (BASE, FORM))
        if gain or net:
            rows.append(forest_row(line, gain, net))
    key = [("after", "against base"), ("net", "net of form only")]
    return IntervalChart(
        f"{name}: {panel.title}, differences with 95 % intervals",
        f"In {charted.unit}, against base.",
        rows,
        charted.unit,
        key if any(len(row.lines) > 1 for row in rows) else key[:1],
        name=labels.short_name(f"{name}: {panel.title}", 50),
        width=svg.NARROW,
    ).draw()


def forest_row(
    line: MethodLine, gain: Contrast | None, net: Contrast | None
) -> IntervalRow:
    """Return a method's row: against base and, if known, net of form."""
    lines = [(labels.short_name(index.method_label(line), 24), starred(gain))]
    shown = [gain]
    if net is not None:
        lines.append(("net of form only", starred(net)))
        shown.append(net)
    intervals = (
        CHARTED[one.place.metric].scaled(one.difference) if one else None
        for one in shown
    )
    return IntervalRow(tuple(lines), tuple(intervals), index.is_ours(line))


def starred(contrast: Contrast | None) -> str:
    """Format a difference, starred if significant after correction."""
    if contrast is None:
        return in_words(None, "")
    star = " *" if contrast.p_adjusted < SIGNIFICANT else ""
    return in_words(contrast.difference, contrast.place.metric) + star


def heat_maps(results: index.Results) -> list[Markup]:
    """Draw gains per trained method, on one colour scale."""
    found = [
        (index.method_label(line), gains_of(results, line)) for line in results.trained
    ]
    sizes = [abs(g.difference.value) for _, gains in found for g in gains.values()]
    if not sizes:
        return []
    grid = HeatMap(results.data.sources, results.data.targets, max(sizes))
    return [
        grid.draw(
            name,
            f"{name}: gains by source and test set",
            f"Points of accuracy against base. {gains_in_words(gains)}.",
            {place: heat_cell(gain) for place, gain in gains.items()},
        )
        for name, gains in found
        if gains
    ]


def gains_of(
    results: index.Results, line: MethodLine
) -> dict[tuple[str, str], Contrast]:
    """Return a method's gains over base by source and test set."""
    found = {}
    for source in results.data.sources:
        for target in results.data.targets:
            gain = results.contrast((source, line.name, target, "avg_at_k"), BASE)
            if gain is None and target == source:
                own = (source, line.name, IN_DOMAIN, "avg_at_k")
                gain = results.contrast(own, BASE)
            if gain is not None:
                found[source, target] = gain
    return found


def gains_in_words(gains: dict[tuple[str, str], Contrast]) -> str:
    """Describe every gain of a map."""
    return "; ".join(
        f"trained on {one_line(source, 30)}, tested on {one_line(target, 30)} "
        f"{points(gain.difference.value)}"
        for (source, target), gain in gains.items()
    )


def heat_cell(contrast: Contrast) -> HeatCell:
    """Format a gain in points, without decimals from ten up to fit a cell."""
    gain = contrast.difference
    small = abs(gain.value) < 0.0995
    return HeatCell(
        gain.value,
        points(gain.value) if small else signed(100 * gain.value, 0),
        with_ends(gain, points),
        strong=not gain.holds_zero,
    )


def trade_off(results: index.Results, source: str) -> Markup:
    """Draw in-domain accuracy against calibration error."""
    marks = marks_of(results, source)
    if len(marks) < 2:
        return Markup("")
    values = [dot.at for _, _, dot in marks]
    plot = Plot(
        axis_over((x for x, _ in values), "accuracy in-domain, %", pad=0.1),
        axis_over((y for _, y in values), "ECE, lower is better", pad=0.1, wanted=5),
        (LEFT, TOP, RIGHT, BOTTOM),
    )
    places = [plot.place(value) for value in values]
    names = [labels.short_name(name, labels.LONGEST_NAME) for name, _, _ in marks]
    room = (LEFT + 2, TOP - 16, svg.NARROW - 2, BOTTOM - 2)
    placed = labels.place_labels(names, places, room)
    from_base = marks[0][0] == BASE
    said = "; ".join(
        f"{name} {number(dot.at[0], 1)} % and {number(dot.at[1])}"
        for name, _, dot in marks
    )
    return plot.figure(
        f"{source_name(source)}: accuracy against calibration",
        f"Accuracy and ECE in-domain: {said}.",
        *(
            plot.line([values[0], dot.at], "lead")
            for _, role, dot in marks
            if from_base and role != BASE_ROLE
        ),
        *(
            plot.dot(dot, role) + label.draw(place, role)
            for (_, role, dot), place, label in zip(marks, places, placed, strict=True)
        ),
        name=source_name(source),
        width=svg.NARROW,
    )


def marks_of(results: index.Results, source: str) -> list[tuple[str, str, Dot]]:
    """Return name, role and mark of models with both measures."""
    marks = []
    for line in (index.UNTRAINED, *results.lines):
        pair = [
            results.measurement(source, line.name, IN_DOMAIN, metric)
            for metric in ("avg_at_k", "ece")
        ]
        at = [one.value for one in pair if one is not None]
        if len(at) == len(pair) and all(map(math.isfinite, at)):
            accuracy, error = 100 * at[0], at[1]
            name = index.method_label(line)
            hint = f"{name}: {number(accuracy, 1)} %, ECE {number(error)}"
            dot = Dot((accuracy, error), hint, 5)
            marks.append((name, role_of(results, line.name), dot))
    return marks


def step_chart(results: index.Results, source: str, metric: str) -> Markup:
    """Draw an in-domain measure over steps, a line per method."""
    charted = CHARTED[metric]
    curves = curves_of(results, source, metric)
    if all(len(dots) < 2 for _, _, dots in curves):
        return Markup("")
    steps = results.data.steps
    height = max(LEAST_HEIGHT, labels.LINE * (len(curves) + 2))
    base = results.measurement(source, BASE, IN_DOMAIN, metric)
    level = math.nan if base is None else charted.factor * base.value
    before = [level] if math.isfinite(level) else []
    values = [dot.at[1] for _, _, dots in curves for dot in dots]
    plot = Plot(
        axis_over((steps[0], steps[-1]), "step", wanted=3),
        axis_over([*values, *before], charted.level, pad=0.1, wanted=5),
        (LEFT, TOP, STEPS_RIGHT, TOP + height),
    )
    levels = [[(steps[0], value), (steps[-1], value)] for value in before]
    ends = [(name, role, plot.place(dots[-1].at)) for name, role, dots in curves]
    ends += [(BASE, BASE_ROLE, plot.place(level[-1])) for level in levels]
    said = "; ".join(
        f"{name} {number(low, charted.digits)} at step {first:.0f}, "
        f"{number(high, charted.digits)} at step {last:.0f}"
        for name, _, dots in curves
        for (first, low), (last, high) in [(dots[0].at, dots[-1].at)]
    )
    return plot.figure(
        f"{source_name(source)}: {charted.noun} during training",
        f"{charted.level}: {said}.",
        *(plot.line(level, "level") for level in levels),
        *(plot.curve(dots, role) for _, role, dots in curves),
        *labels.names_at_ends(ends, plot.frame),
        name=source_name(source),
        width=svg.NARROW,
    )


def curves_of(
    results: index.Results, source: str, metric: str
) -> list[tuple[str, str, list[Dot]]]:
    """Return name, role and marks over the steps of every trained method."""
    charted = CHARTED[metric]
    curves = []
    for line in results.trained:
        name, dots = index.method_label(line), []
        for step in results.data.steps:
            place = Place(results.start, source, line.name, step, IN_DOMAIN, metric)
            found = results.measurement_at(place)
            if found is not None and math.isfinite(found.value):
                value = charted.factor * found.value
                hint = f"{name}, step {step}: {number(value, charted.digits)}"
                dots.append(Dot((step, value), hint, 3))
        if dots:
            curves.append((name, role_of(results, line.name), dots))
    return curves
