"""Accuracy against calibration, and both along the steps, a mark or line per method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from neuron_opsd.report.charts import svg
from neuron_opsd.report.charts.heat_map import NARROW
from neuron_opsd.report.charts.intervals import MEASURES, MeasureKind
from neuron_opsd.report.charts.labels import (
    LINE,
    STRONG_LETTER,
    Box,
    Label,
    place_labels,
    short_name,
    spread,
)
from neuron_opsd.report.charts.svg import SERIES, Scale
from neuron_opsd.report.comparison_forest import source_name
from neuron_opsd.report.comparison_index import (
    UNTRAINED,
    Results,
    is_ours,
    method_label,
)
from neuron_opsd.report.wording import number
from neuron_opsd.results.comparison import BASE, IN_DOMAIN, Place
from neuron_opsd.results.scores import Point

LEFT, RIGHT, TOP = 46.0, NARROW - 8, 44.0
SCATTER_BASE = 304.0
LEAST_PLOT = 190.0
LONGEST_NAME = 18
TO_NAME = 15.0
"""From where curves end to their names."""
STEPS_RIGHT = NARROW - TO_NAME - STRONG_LETTER * LONGEST_NAME
BASE_ROLE = "untrained"


@dataclass(frozen=True, slots=True)
class Mark:
    """A model in the plane of accuracy and calibration error."""

    name: str
    role: str
    """Classes of the style sheet that give its colour."""
    accuracy: float
    """In percent."""
    error: float


@dataclass(frozen=True, slots=True)
class Curve:
    """A method along the steps of its training."""

    name: str
    role: str
    points: tuple[Point, ...]
    """Step and value, the value in the unit of the axis."""


def role_of(results: Results, name: str) -> str:
    """Return the style classes of a method: a colour, a dash for a second round."""
    trained = [line for line in results.data.methods if line.trained]
    ranked = sorted(trained, key=lambda line: not is_ours(line))
    names = [line.name for line in ranked]
    if name not in names:
        return BASE_ROLE
    place = names.index(name)
    again = " again" if place >= len(SERIES) else ""
    ours = " ours" if is_ours(ranked[place]) else ""
    return f"series{place % len(SERIES)}{again}{ours}"


def trade_off(results: Results, source: str) -> Markup:
    """Draw in-domain accuracy against calibration error of every method."""
    marks = marks_of(results, source)
    if len(marks) < 2:
        return Markup("")
    x = padded([mark.accuracy for mark in marks], LEFT + 6, RIGHT)
    y = padded([mark.error for mark in marks], SCATTER_BASE - 6, TOP + 6)
    places = [(x(mark.accuracy), y(mark.error)) for mark in marks]
    room: Box = (LEFT + 2, TOP - 8, NARROW - 2, SCATTER_BASE - 2)
    names = [short_name(mark.name, LONGEST_NAME) for mark in marks]
    ticks = svg.round_ticks(x.low, x.high)
    said = "; ".join(
        f"{mark.name} {number(mark.accuracy, 1)} % and {number(mark.error)}"
        for mark in marks
    )
    return svg.figure(
        f"{source_name(source)}: accuracy against calibration",
        f"Accuracy and ECE in-domain: {said}.",
        SCATTER_BASE + 40,
        svg.words(source_name(source), (4, 14), kind="label strong"),
        svg.words("ECE, lower is better", (4, 32)),
        svg.axis_y(y, svg.round_ticks(y.low, y.high, 5), (LEFT, RIGHT)),
        svg.axis_x(x, ticks, SCATTER_BASE, "accuracy in-domain, %"),
        *from_base(marks, places),
        *(
            draw_mark(mark, place, label)
            for mark, place, label in zip(
                marks, places, place_labels(names, places, room), strict=True
            )
        ),
        width=NARROW,
    )


def marks_of(results: Results, source: str) -> list[Mark]:
    """Return the models whose accuracy and calibration are known, the base first."""
    marks = []
    for line in (UNTRAINED, *results.untrained, *results.trained):
        pair = [
            results.measurement(source, line.name, IN_DOMAIN, metric)
            for metric in ("avg_at_k", "ece")
        ]
        accuracy, error = (math.nan if one is None else one.value for one in pair)
        if math.isfinite(accuracy) and math.isfinite(error):
            role = role_of(results, line.name)
            marks.append(Mark(method_label(line), role, 100 * accuracy, error))
    return marks


def padded(values: Sequence[float], start: float, end: float) -> Scale:
    """Return a scale over some values with room at both ends."""
    low, high = min(values), max(values)
    pad = 0.1 * (high - low) or 0.01 * abs(high) or 0.01
    return Scale(low - pad, high + pad, start, end)


def from_base(marks: Sequence[Mark], places: Sequence[Point]) -> list[Markup]:
    """Draw a fine line from the base model to every trained one."""
    if marks[0].name != BASE:
        return []
    return [
        svg.line(places[0], place, "lead")
        for mark, place in zip(marks[1:], places[1:], strict=True)
        if mark.role != BASE_ROLE
    ]


def draw_mark(mark: Mark, place: Point, label: Label) -> Markup:
    """Draw one model and its name, joined where they stand apart."""
    hint = f"{mark.name}: {number(mark.accuracy, 1)} %, ECE {number(mark.error)}"
    left, top, right, bottom = label.box
    near = (min(max(place[0], left), right), min(max(place[1], top + 3), bottom - 2))
    return Markup("").join(
        [
            svg.line(place, near, "pointer") if label.far else Markup(""),
            svg.circle(place, 5, f"mark {mark.role}", hint),
            named(label, place, f"label halo {mark.role}"),
        ]
    )


def named(label: Label, mark: Point, kind: str) -> Markup:
    """Write a name so that it begins, ends or is centred towards its mark."""
    left, _, right, _ = label.box
    height = label.at[1]
    if left > mark[0]:
        return svg.words(label.text, (left, height), kind=kind)
    if right < mark[0]:
        return svg.words(label.text, (right, height), anchor="end", kind=kind)
    middle = ((left + right) / 2, height)
    return svg.words(label.text, middle, anchor="middle", kind=kind)


def step_chart(results: Results, source: str, metric: str) -> Markup:
    """Draw one measure in-domain along the steps, a line per method."""
    kind = MEASURES[metric]
    curves = curves_of(results, source, metric)
    if all(len(curve.points) < 2 for curve in curves):
        return Markup("")
    before = base_level(results, source, metric)
    base = TOP + max(LEAST_PLOT, LINE * (len(curves) + 2))
    values = [height for curve in curves for _, height in curve.points] + before
    x = Scale(results.data.steps[0], results.data.steps[-1], LEFT, STEPS_RIGHT)
    y = padded(values, base, TOP)
    unit = "accuracy in-domain, %" if metric == "avg_at_k" else "ECE in-domain"
    return svg.figure(
        f"{source_name(source)}: {kind.noun} along the steps",
        f"{unit}: {'; '.join(curve_words(curve, kind) for curve in curves)}.",
        base + 40,
        svg.words(source_name(source), (4, 14), kind="label strong"),
        svg.words(unit, (4, 32)),
        svg.axis_y(y, svg.round_ticks(y.low, y.high, 5), (LEFT, STEPS_RIGHT)),
        svg.axis_x(x, svg.round_ticks(x.low, x.high, 3), base, "step"),
        *(svg.line((LEFT, y(v)), (STEPS_RIGHT, y(v)), "level") for v in before),
        *(draw_curve(curve, x, y, kind) for curve in curves),
        *end_names(curves, before, x, y),
        width=NARROW,
    )


def curves_of(results: Results, source: str, metric: str) -> list[Curve]:
    """Return every trained method's measure in-domain after each tested step."""
    factor = MEASURES[metric].factor
    curves = []
    for line in results.trained:
        points = []
        for step in results.data.steps:
            place = Place(results.start, source, line.name, step, IN_DOMAIN, metric)
            found = results.measurement_at(place)
            if found is not None and math.isfinite(found.value):
                points.append((float(step), factor * found.value))
        if points:
            name, role = method_label(line), role_of(results, line.name)
            curves.append(Curve(name, role, tuple(points)))
    return curves


def base_level(results: Results, source: str, metric: str) -> list[float]:
    """Return the base model's measure in-domain, if it is known."""
    found = results.measurement(source, BASE, IN_DOMAIN, metric)
    if found is None or not math.isfinite(found.value):
        return []
    return [MEASURES[metric].factor * found.value]


def curve_words(curve: Curve, kind: MeasureKind) -> str:
    """Say where a curve begins and ends."""
    (first, low), (last, high) = curve.points[0], curve.points[-1]
    return (
        f"{curve.name} {number(low, kind.digits)} at step {first:.0f}, "
        f"{number(high, kind.digits)} at step {last:.0f}"
    )


def draw_curve(curve: Curve, x: Scale, y: Scale, kind: MeasureKind) -> Markup:
    """Draw one method's line, with a mark for each tested step."""
    places = [(x(step), y(value)) for step, value in curve.points]
    marks = [
        svg.circle(
            place,
            2.5,
            f"dot {curve.role}",
            f"{curve.name}, step {step:.0f}: {number(value, kind.digits)}",
        )
        for place, (step, value) in zip(places, curve.points, strict=True)
    ]
    return svg.path(places, f"line {curve.role}") + Markup("").join(marks)


def end_names(
    curves: Sequence[Curve], before: Sequence[float], x: Scale, y: Scale
) -> list[Markup]:
    """Write each line's name where it ends, apart from each other."""
    ends = [(c.name, c.role, x(c.points[-1][0]), y(c.points[-1][1])) for c in curves]
    ends += [(BASE, BASE_ROLE, STEPS_RIGHT, y(value)) for value in before]
    heights = spread([end[3] for end in ends], LINE, TOP + 4, y.start - 2)
    drawn = []
    for (name, role, right, height), moved in zip(ends, heights, strict=True):
        drawn.append(
            svg.line((right + 3, height), (STEPS_RIGHT + TO_NAME - 3, moved), "pointer")
        )
        text = short_name(name, LONGEST_NAME)
        at = (STEPS_RIGHT + TO_NAME, moved + 4.5)
        drawn.append(svg.words(text, at, kind=f"label {role}"))
    return drawn
