"""Differences of all methods with their intervals, against base and net of form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup

from neuron_opsd.report.charts import svg
from neuron_opsd.report.charts.heat_map import NARROW
from neuron_opsd.report.charts.intervals import (
    MEASURES,
    MeasureKind,
    in_words,
    interval_mark,
)
from neuron_opsd.report.charts.labels import short_name
from neuron_opsd.report.charts.svg import Scale
from neuron_opsd.report.comparison_index import Results, is_ours, method_label
from neuron_opsd.report.comparison_outcome import SIGNIFICANT
from neuron_opsd.results.comparison import (
    ALL_SOURCES,
    BASE,
    CROSS_DOMAIN,
    FORM,
    IN_DOMAIN,
    Contrast,
    MethodLine,
)
from neuron_opsd.results.scores import Interval

RIGHT = NARROW - 8
TOP = 46.0
ONE_LINE, TWO_LINES = 38.0, 62.0
LONGEST_NAME = 24


@dataclass(frozen=True, slots=True)
class Panel:
    """What one drawing shows of every method."""

    target: str
    metric: str
    title: str
    hint: str
    """Which side is the good one."""


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


@dataclass(frozen=True, slots=True)
class ForestLine:
    """One method in the drawing."""

    line: MethodLine
    gain: Contrast | None
    net: Contrast | None

    @property
    def height(self) -> float:
        """How much room it takes."""
        return ONE_LINE if self.net is None else TWO_LINES


def method_forest(results: Results, source: str, panel: Panel) -> Markup:
    """Draw one measure's differences of every method on a source."""
    rows = forest_lines(results, source, panel)
    if not rows:
        return Markup("")
    kind = MEASURES[panel.metric]
    x = forest_scale(rows, kind)
    tops = list(accumulate((row.height for row in rows), initial=TOP))
    said = "; ".join(row_words(row, kind) for row in rows)
    name = source_name(source)
    return svg.figure(
        f"{name}: {panel.title}, differences with 95 % intervals",
        f"{kind.unit.capitalize()}. {said}.",
        tops[-1] + 40,
        svg.words(
            short_name(f"{name}: {panel.title}", 50), (4, 14), kind="label strong"
        ),
        forest_key(with_net=any(row.net for row in rows)),
        *(draw_line(row, x, top, kind) for row, top in zip(rows, tops, strict=False)),
        svg.axis_x(x, svg.round_ticks(x.low, x.high, 5), tops[-1], kind.unit),
        width=NARROW,
    )


def forest_lines(results: Results, source: str, panel: Panel) -> list[ForestLine]:
    """Return the methods for which there is anything to draw."""
    rows = []
    for line in (*results.untrained, *results.trained):
        place = (source, line.name, panel.target, panel.metric)
        row = ForestLine(
            line, results.contrast(place, BASE), results.contrast(place, FORM)
        )
        if row.gain is not None or row.net is not None:
            rows.append(row)
    return rows


def forest_scale(rows: Sequence[ForestLine], kind: MeasureKind) -> Scale:
    """Return a scale that holds every interval and zero."""
    shown = [one.difference for r in rows for one in (r.gain, r.net) if one is not None]
    low = min(0.0, *(kind.factor * one.low for one in shown))
    high = max(0.0, *(kind.factor * one.high for one in shown))
    pad = 0.05 * (high - low) or 1.0
    return Scale(low - pad, high + pad, 12, RIGHT)


def forest_key(*, with_net: bool) -> Markup:
    """Return the marks that mean against base and net of form."""
    drawn = [
        svg.circle((10, 30), 4, "mark after"),
        svg.words("against base", (20, 34)),
    ]
    if with_net:
        drawn.append(svg.diamond((132, 30), 5, "mark net"))
        drawn.append(svg.words("net of form only", (142, 34)))
    return Markup("").join(drawn)


def draw_line(row: ForestLine, x: Scale, top: float, kind: MeasureKind) -> Markup:
    """Draw one method: its name and numbers, its intervals below."""
    weight = "label strong" if is_ours(row.line) else "label"
    bottom = top + row.height
    drawn = [
        svg.line((4, top), (RIGHT, top), "grid"),
        svg.line(
            (x(0), bottom - (14 if row.net is None else 25)), (x(0), bottom), "zero"
        ),
        svg.words(
            short_name(method_label(row.line), LONGEST_NAME), (4, top + 16), kind=weight
        ),
        numbers(row.gain, top + 16, kind),
        interval_mark(
            difference(row.gain), x, bottom - (8 if row.net is None else 18), kind
        ),
    ]
    if row.net is not None:
        drawn.append(svg.words("net of form only", (4, top + 32), kind="tick"))
        drawn.append(numbers(row.net, top + 32, kind))
        net = difference(row.net)
        drawn.append(interval_mark(net, x, bottom - 7, kind, net=True))
    return Markup("").join(drawn)


def numbers(contrast: Contrast | None, height: float, kind: MeasureKind) -> Markup:
    """Write a difference and its interval at the right."""
    return svg.words(starred(contrast, kind), (RIGHT, height), anchor="end")


def starred(contrast: Contrast | None, kind: MeasureKind) -> str:
    """Write a difference, with a star where it stands after Holm's correction."""
    if contrast is None:
        return in_words(None, kind)
    star = " *" if contrast.p_adjusted < SIGNIFICANT else ""
    return in_words(contrast.difference, kind) + star


def difference(contrast: Contrast | None) -> Interval | None:
    """Return the difference of a contrast, if there is one."""
    return None if contrast is None else contrast.difference


def row_words(row: ForestLine, kind: MeasureKind) -> str:
    """Say what one method's line shows."""
    said = f"{method_label(row.line)} {starred(row.gain, kind)} against base"
    if row.net is None:
        return said
    return f"{said}, {starred(row.net, kind)} net of form only"


def source_name(source: str) -> str:
    """Return what a source is called over a drawing."""
    return "mean over all sources" if source == ALL_SOURCES else short_name(source, 24)
