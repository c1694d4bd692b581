"""Charts of a run's page, each one SVG element.

Charts without data are empty. Non-finite numbers are not drawn but, where they matter,
described.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from markupsafe import Markup

from neuron_opsd.records import Collapse
from neuron_opsd.records.scores import Bin, Interval, Point
from neuron_opsd.report.charts import svg
from neuron_opsd.report.charts.intervals import IntervalChart, IntervalRow
from neuron_opsd.report.charts.plot import (
    FRAME,
    Axis,
    Curve,
    Dot,
    Plot,
    Ticks,
    axis_over,
    bins_in_words,
    draw_reliability,
    drawable,
    share_axis,
)
from neuron_opsd.report.measures import CHARTED, in_words
from neuron_opsd.report.run_outcome import ordered
from neuron_opsd.report.wording import number, one_line, percent
from neuron_opsd.results.run import (
    GuardSummary,
    PoolSummary,
    TestComparison,
    TrainingSummary,
)

LEFT, TOP, RIGHT, _ = FRAME

GUARD_LINES: Final = (
    ("agreement", "unanimous", "after"),
    ("top_answer_share", "one answer", "before"),
    ("base_agreement", "as the base", "net"),
)
"""Shares over the steps, with key label and role."""


def forest_plot(
    tests: Sequence[TestComparison], cross_domain: Mapping[str, Interval], measure: str
) -> Markup:
    """Draw differences in a `CHARTED` measure, and net of form."""
    charted = CHARTED[measure]
    found: list[tuple[str, Interval | None, Interval | None]] = []
    for test in ordered(tests):
        name = one_line(test.name, 18) + (", in-domain" if test.in_domain else "")
        net = (test.net_of_form or {}).get(measure)
        found.append((name, test.delta.get(measure), net))
    if measure in cross_domain:
        found.append(("mean of cross-domain sets", cross_domain[measure], None))
    key = [("after", "trained minus base"), ("net", "trained minus form-only")]
    return IntervalChart(
        f"Differences in {charted.noun} with 95 % intervals",
        f"In {charted.unit}, trained minus base; diamonds: trained minus form-only.",
        [
            IntervalRow(
                ((name, in_words(gain, measure)),),
                (charted.scaled(gain), charted.scaled(net)),
            )
            for name, gain, net in found
        ],
        charted.unit,
        key if any(net for _, _, net in found) else key[:1],
    ).draw()


def reliability_diagram(
    name: str, before: Sequence[Bin], after: Sequence[Bin]
) -> Markup:
    """Draw accuracy against vote share, marks sized by bin."""
    curves = (Curve("before", "before", before), Curve("after", "after", after))
    if not any(map(drawable, (before, after))):
        return Markup("")
    return draw_reliability(
        f"Reliability on {one_line(name, 40)}",
        "Share answered right against the share of rollouts that agree, before and "
        "after training; on the dashed diagonal the two are equal. "
        f"Before: {bins_in_words(before)}. After: {bins_in_words(after)}.",
        curves,
        key=svg.BEFORE_AND_AFTER,
    )


def agreement_histogram(
    name: str, before: Sequence[float], after: Sequence[float]
) -> Markup:
    """Draw shares of questions at each level, from none to all rollouts."""
    if not before or not after:
        return Markup("")
    levels = len(before) - 1
    ticks = Ticks(
        tuple(levels * quarter / 4 for quarter in range(5)),
        ("0 %", "25 %", "50 %", "75 %", "100 %"),
    )
    plot = Plot(
        Axis(-0.5, levels + 0.5, "rollouts that agree", ticks),
        share_axis("questions", max(*before, *after)),
    )
    return plot.figure(
        f"Agreement on {one_line(name, 40)}",
        "Share of questions by the share of rollouts that agree, before and after "
        f"training. All rollouts agree on {percent(before[-1])} of the questions "
        f"before and on {percent(after[-1])} after.",
        *(
            plot.bar(level - 0.38, level, old, "before")
            + plot.bar(level, level + 0.38, new, "after")
            for level, (old, new) in enumerate(zip(before, after, strict=True))
        ),
        key=svg.BEFORE_AND_AFTER,
    )


def neuron_chart(pool: PoolSummary | None) -> Markup:
    """Draw neuron count against vote share, selected questions in colour."""
    if pool is None or pool.neurons is None:
        return Markup("")
    rho = f"Spearman \N{GREEK SMALL LETTER RHO} {number(pool.correlation, 2)}"
    plot = Plot(
        axis_over(pool.neurons, "neurons counted", pad=0.025),
        share_axis("rollouts that agree"),
    )
    most = max(one.num_questions for one in pool.bubbles)
    return plot.figure(
        "Neuron count against vote share",
        "One mark for all questions of the pool with about the same neuron count and "
        "vote share, its area growing with their number; selected questions are "
        f"filled. {rho}. The line is the mean vote share of each tenth of the pool.",
        *(
            plot.dot(
                Dot(
                    (one.neurons, one.agreement),
                    f"{one.num_questions} {'selected' if one.kept else 'not selected'}",
                    1.2 + 7.3 * math.sqrt(one.num_questions / most),
                ),
                "after" if one.kept else "rest",
            )
            for one in pool.bubbles
        ),
        plot.line(pool.tenths, "line trend"),
        key=[("", rho)],
    )


def training_chart(
    training: TrainingSummary | None, collapses: Sequence[Collapse]
) -> Markup:
    """Draw loss above entropy, step by step."""
    if training is None or not training.losses or not training.entropies:
        return Markup("")
    ends = (training.first.step, training.last.step)
    steps = axis_over(ends, "step", wanted=5)
    losses, entropies = training.losses, training.entropies
    loss = step_panel(losses, "loss, nats per token", steps, (TOP, 176))
    unit = "entropy of the rollouts, nats per token"
    entropy = step_panel(entropies, unit, steps, (224, 358))
    first, last = (number(losses[place][1]) for place in (0, -1))
    signs = [entropy.place((sign.step, 0)) for sign in collapses]
    return entropy.figure(
        "Loss and entropy during training",
        f"The loss (in distillation, the divergence from the teacher) goes from "
        f"{first} to {last} nats per token; below it the entropy of the rollouts' "
        "tokens. Fine lines are steps, "
        f"strong lines running means. Signs of collapse: {len(collapses)}.",
        loss.ground(),
        *(
            plot.line(shown, kind)
            for plot, values in ((loss, losses), (entropy, entropies))
            for shown, kind in (
                (values, "line raw"),
                (running_mean(values), "line after"),
            )
        ),
        *(svg.line((x, TOP), (x, entropy.frame[3]), "alarm") for x, _ in signs),
    )


def guard_chart(guard: GuardSummary | None, collapses: Sequence[Collapse]) -> Markup:
    """Draw three shares of the guard's readings over the steps."""
    curves = {} if guard is None else guard.curves
    dots = {
        name: [
            Dot((at, share), f"{percent(share)} after {at:g} steps", 2.5)
            for at, share in curve
            if math.isfinite(at + share)
        ]
        for name, curve in curves.items()
    }
    ends = [dot.at[0] for some in dots.values() for dot in some]
    if not ends:
        return Markup("")
    plot = Plot(axis_over(ends, "steps taken", wanted=5), share_axis("rollouts"))
    last = ", ".join(
        f"{said} {percent(dots[name][-1].at[1])}" for name, said, _ in GUARD_LINES
    )
    signs = [plot.place((sign.step + 1, 0))[0] for sign in collapses]
    return plot.figure(
        "What the guard saw",
        f"Shares of the student's rollouts on the guard's questions; last: {last}.",
        *(plot.curve(dots[name], role) for name, _, role in GUARD_LINES),
        *(svg.line((x, TOP), (x, plot.frame[3]), "alarm") for x in signs),
        key=[(role, said) for _, said, role in GUARD_LINES],
    )


def step_panel(
    values: Sequence[Point], label: str, steps: Axis, between: tuple[float, float]
) -> Plot:
    """Return a plot of a measure over steps, from zero upwards."""
    heights = [value for _, value in values]
    upwards = axis_over([0.0, max(heights) or 1.0, *heights], label, wanted=3)
    top, bottom = between
    return Plot(steps, upwards, (LEFT, top, RIGHT, bottom))


def running_mean(values: Sequence[Point]) -> list[Point]:
    """Smooth points with a window of a tenth of them."""
    reach = len(values) // 20
    heights = [height for _, height in values]
    smooth = []
    for place, (left, _) in enumerate(values):
        near = heights[max(0, place - reach) : place + reach + 1]
        smooth.append((left, sum(near) / len(near)))
    return smooth
