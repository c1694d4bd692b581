"""Differences drawn with their intervals: all test sets in one, and one in a strip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from markupsafe import Markup

from neuron_opsd.report.charts import svg
from neuron_opsd.report.charts.svg import Scale
from neuron_opsd.report.wording import finite, one_line, signed
from neuron_opsd.results.run import TestComparison
from neuron_opsd.results.scores import Interval

ForestRow: TypeAlias = tuple[str, Interval | None, Interval | None]
"""Name, trained minus base, trained minus form-only."""


@dataclass(frozen=True, slots=True)
class MeasureKind:
    """How the differences of one measure are written."""

    noun: str
    unit: str
    factor: float
    digits: int


MEASURES: Mapping[str, MeasureKind] = MappingProxyType(
    {
        "avg_at_k": MeasureKind("accuracy", "points of accuracy", 100.0, 1),
        "ece": MeasureKind("calibration error", "ECE, lower is better", 1.0, 3),
    }
)

RIGHT = 388.0
TOP = 30.0
ROW = 50.0


def forest_plot(
    tests: Sequence[TestComparison], cross_domain: Mapping[str, Interval], measure: str
) -> Markup:
    """Draw every difference of one measure with its interval, and what is net of form.

    Args:
        tests: All test sets.
        cross_domain: Mean differences over the cross-domain sets.
        measure: A key of `MEASURES`.
    """
    kind = MEASURES[measure]
    rows = forest_rows(tests, cross_domain, measure)
    shown = [one for _, *pair in rows for one in pair if one and finite(one)]
    if not shown:
        return Markup("")
    low = min(0.0, *(kind.factor * one.low for one in shown))
    high = max(0.0, *(kind.factor * one.high for one in shown))
    pad = 0.06 * (high - low) or 1.0
    x = Scale(low - pad, high + pad, 12, RIGHT)
    base = TOP + ROW * len(rows)
    said = "; ".join(f"{name} {in_words(gain, kind)}" for name, gain, _ in rows)
    return svg.figure(
        f"Differences in {kind.noun} with 95 % intervals",
        f"Trained minus base, {kind.unit}: {said}. Diamonds: trained minus form-only.",
        base + 40,
        forest_legend(with_net=any(net for _, _, net in rows)),
        *(forest_row(row, x, TOP + ROW * i, kind) for i, row in enumerate(rows)),
        svg.axis_x(x, svg.round_ticks(x.low, x.high, 5), base, kind.unit),
    )


def forest_rows(
    tests: Sequence[TestComparison], cross_domain: Mapping[str, Interval], measure: str
) -> list[ForestRow]:
    """Return name, difference and net difference per set, then the mean of others."""
    rows: list[ForestRow] = []
    for test in sorted(tests, key=lambda test: not test.in_domain):
        net = (test.net_of_form or {}).get(measure)
        name = one_line(test.name, 18) + (", in-domain" if test.in_domain else "")
        rows.append((name, test.delta.get(measure), net))
    if measure in cross_domain:
        rows.append(("mean of cross-domain sets", cross_domain[measure], None))
    return rows


def in_words(interval: Interval | None, kind: MeasureKind) -> str:
    """Write a difference and its interval."""
    if interval is None or not finite(interval):
        return "not measured"
    value, low, high = (
        signed(kind.factor * number, kind.digits)
        for number in (interval.value, interval.low, interval.high)
    )
    return f"{value} ({low} to {high})"


def forest_legend(*, with_net: bool) -> Markup:
    """Return the marks that mean trained and net of form."""
    drawn = [
        svg.circle((10, 12), 4, "mark after"),
        svg.words("trained minus base", (20, 16)),
    ]
    if with_net:
        drawn.append(svg.diamond((172, 12), 5, "mark net"))
        drawn.append(svg.words("trained minus form-only", (182, 16)))
    return Markup("").join(drawn)


def forest_row(row: ForestRow, x: Scale, top: float, kind: MeasureKind) -> Markup:
    """Draw one test set: its name and numbers, its intervals below."""
    name, gain, net = row
    numbers = in_words(gain, kind)
    at = (RIGHT, top + 17)
    drawn = [
        svg.line((4, top), (RIGHT, top), "grid"),
        svg.line((x(0), top + 23), (x(0), top + 46), "zero"),
        svg.words(name, (4, top + 17), kind="label"),
        svg.words(numbers, at, anchor="end", kind="tick"),
    ]
    drawn.append(interval_mark(gain, x, top + 29, kind))
    drawn.append(interval_mark(net, x, top + 41, kind, net=True))
    return Markup("").join(drawn)


def interval_mark(
    interval: Interval | None,
    x: Scale,
    height: float,
    kind: MeasureKind,
    *,
    net: bool = False,
) -> Markup:
    """Draw a difference and the span of its interval; nothing where there is none."""
    if interval is None or not finite(interval):
        return Markup("")
    at = (x(kind.factor * interval.value), height)
    role = "net" if net else "after"
    mark = svg.diamond(at, 5, "mark net") if net else svg.circle(at, 4.5, "mark after")
    return whisker(interval, x, height, (role, kind.factor)) + mark


def whisker(
    interval: Interval, x: Scale, height: float, drawn_as: tuple[str, float]
) -> Markup:
    """Draw the span of an interval, of a kind and after a factor."""
    kind, factor = drawn_as
    ends = (x(factor * interval.low), height), (x(factor * interval.high), height)
    return svg.line(*ends, f"whisker {kind}")


def interval_strip(interval: Interval | None, kind: str) -> Markup:
    """Draw one interval on a line that is marked at zero, as wide as it has to be."""
    if interval is None or not finite(interval):
        return Markup("")
    reach = 1.15 * max(abs(interval.low), abs(interval.high), abs(interval.value), 1e-9)
    x = Scale(-reach, reach, 4, 196)
    return svg.tag(
        "svg",
        svg.line((4, 9), (196, 9), "grid"),
        svg.line((x(0), 1), (x(0), 17), "zero"),
        whisker(interval, x, 9, (kind, 1)),
        svg.circle((x(interval.value), 9), 4.5, f"mark {kind}"),
        viewBox="0 0 200 18",
        class_="strip",
        aria_hidden="true",
    )


def share_bar(share: float, kind: str) -> Markup:
    """Draw a share in [0, 1] as a small bar beside the number that says the same."""
    return svg.tag(
        "svg",
        svg.bar(0, 0, 60, 8, "track"),
        svg.bar(0, 0, 60 * min(1.0, max(0.0, share)), 8, kind),
        viewBox="0 0 60 8",
        class_="bar",
        aria_hidden="true",
    )
