"""The figures of the page; each takes records and returns one SVG element.

A figure for which there is nothing to draw is empty. Numbers that are not finite are
left out of a drawing and said in its description where they matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from neuron_opsd.records import Collapse
from neuron_opsd.report.charts import svg
from neuron_opsd.report.charts.svg import Scale
from neuron_opsd.report.wording import number, one_line, percent
from neuron_opsd.results.run import Bubble, PoolSummary, TrainingSummary
from neuron_opsd.results.scores import Bin, Point

LEFT, RIGHT = 46.0, 382.0
TOP, BASE = 36.0, 262.0
HEIGHT = 302.0


def reliability_diagram(
    name: str, before: Sequence[Bin], after: Sequence[Bin]
) -> Markup:
    """Draw accuracy against vote share, the size of a mark growing with its bin."""
    if not drawable(before) and not drawable(after):
        return Markup("")
    x, y = Scale(0, 1, LEFT, RIGHT), Scale(0, 1, BASE, TOP + 10)
    return svg.figure(
        f"Reliability on {one_line(name, 40)}",
        "Share answered right against the share of rollouts that agree, before and "
        "after training; on the dashed diagonal the two are equal. "
        f"Before: {bins_in_words(before)}. After: {bins_in_words(after)}.",
        HEIGHT,
        svg.words("answered right", (4, 16)),
        svg.legend(right=RIGHT, top=16),
        svg.axis_y(y, svg.share_ticks(), (LEFT, RIGHT)),
        svg.axis_x(x, svg.share_ticks(), BASE, "rollouts that agree"),
        svg.line((x(0), y(0)), (x(1), y(1)), "diagonal"),
        calibration_curve(before, "before", x, y),
        calibration_curve(after, "after", x, y),
    )


def drawable(bins: Sequence[Bin]) -> list[Bin]:
    """Return the bins that hold questions."""
    return [
        one
        for one in bins
        if one.num_questions > 0 and math.isfinite(one.confidence + one.accuracy)
    ]


def bins_in_words(bins: Sequence[Bin]) -> str:
    """Say what a calibration curve shows."""
    said = [
        f"{percent(one.accuracy, 0)} right where {percent(one.confidence, 0)} agree"
        for one in drawable(bins)
    ]
    return ", ".join(said) or "nothing measured"


def calibration_curve(bins: Sequence[Bin], kind: str, x: Scale, y: Scale) -> Markup:
    """Draw one model's bins and the line through them."""
    full = drawable(bins)
    if not full:
        return Markup("")
    most = max(one.num_questions for one in full)
    curve = svg.path(((x(b.confidence), y(b.accuracy)) for b in full), f"line {kind}")
    marks = [
        svg.circle(
            (x(one.confidence), y(one.accuracy)),
            2.5 + 6.5 * math.sqrt(one.num_questions / most),
            f"mark {kind}",
            f"{kind}: {percent(one.accuracy)} right where {percent(one.confidence)} "
            f"agree, {one.num_questions} questions",
        )
        for one in full
    ]
    return curve + Markup("").join(marks)


def agreement_histogram(
    name: str, before: Sequence[float], after: Sequence[float]
) -> Markup:
    """Draw how many questions reach each share of agreeing rollouts.

    Args:
        name: Of the test set.
        before: Share of the questions at each level, from none to all rollouts.
        after: The same after training, at as many levels.
    """
    if not before or not after:
        return Markup("")
    levels = len(before) - 1
    shares = [before, after]
    top = max(*before, *after)
    x = Scale(-0.5, levels + 0.5, LEFT, RIGHT)
    y = Scale(0, top, BASE, TOP + 10)
    return svg.figure(
        f"Agreement on {one_line(name, 40)}",
        "Share of questions by the share of rollouts that agree, before and after "
        f"training. All rollouts agree on {percent(shares[0][-1])} of the questions "
        f"before and on {percent(shares[1][-1])} after.",
        HEIGHT,
        svg.words("questions", (4, 16)),
        svg.legend(right=RIGHT, top=16),
        svg.axis_y(y, svg.share_ticks(top), (LEFT, RIGHT)),
        paired_bars(shares, x, y),
        svg.axis_x(x, level_ticks(levels), BASE, "rollouts that agree"),
    )


def level_ticks(levels: int) -> svg.Ticks:
    """Return a mark at none, half and all of the rollouts, and at the quarters."""
    values = [levels * quarter / 4 for quarter in range(5)]
    return svg.Ticks(tuple(values), ("0 %", "25 %", "50 %", "75 %", "100 %"))


def paired_bars(shares: Sequence[Sequence[float]], x: Scale, y: Scale) -> Markup:
    """Draw the bars of before and after side by side."""
    width = 0.38 * (x(1) - x(0))
    drawn = []
    for level, (old, new) in enumerate(zip(*shares, strict=True)):
        middle, base = x(level), y(0)
        drawn.append(svg.bar(middle - width, y(old), width, base - y(old), "before"))
        drawn.append(svg.bar(middle, y(new), width, base - y(new), "after"))
    return Markup("").join(drawn)


def neuron_chart(pool: PoolSummary | None) -> Markup:
    """Draw neuron count against vote share, the selected questions in colour."""
    if pool is None or pool.neurons is None:
        return Markup("")
    x = Scale(*pool.neurons, LEFT + 8, RIGHT - 8)
    y = Scale(0, 1, BASE - 6, TOP + 10)
    rho = f"Spearman \N{GREEK SMALL LETTER RHO} {number(pool.correlation, 2)}"
    return svg.figure(
        "Neuron count against vote share",
        "One mark for all questions of the pool with about the same neuron count and "
        "vote share, its area growing with their number; selected questions are "
        f"filled. {rho}. The line is the mean vote share of each tenth of the pool.",
        HEIGHT,
        svg.words("rollouts that agree", (4, 16)),
        svg.words(rho, (RIGHT, 16), anchor="end"),
        svg.axis_y(y, svg.share_ticks(), (LEFT, RIGHT)),
        bubble_marks(pool.bubbles, x, y),
        tenths_line(pool.tenths, x, y),
        svg.axis_x(x, svg.round_ticks(x.low, x.high), BASE, "neurons counted"),
    )


def bubble_marks(bubbles: Sequence[Bubble], x: Scale, y: Scale) -> Markup:
    """Draw the questions, gathered on a grid."""
    most = max(one.num_questions for one in bubbles)
    return Markup("").join(
        svg.circle(
            (x(one.neurons), y(one.agreement)),
            1.2 + 7.3 * math.sqrt(one.num_questions / most),
            "mark after" if one.kept else "mark rest",
            f"{one.num_questions} {'selected' if one.kept else 'not selected'}",
        )
        for one in bubbles
    )


def tenths_line(tenths: Sequence[Point], x: Scale, y: Scale) -> Markup:
    """Draw the mean vote share of each tenth of the questions by neuron count."""
    if not tenths:
        return Markup("")
    return svg.path([(x(count), y(share)) for count, share in tenths], "line trend")


def training_chart(
    training: TrainingSummary | None, collapses: Sequence[Collapse]
) -> Markup:
    """Draw loss and entropy step by step, one above the other."""
    if training is None or not training.losses or not training.entropies:
        return Markup("")
    losses, entropies = training.losses, training.entropies
    x = Scale(training.first.step, training.last.step, LEFT, RIGHT)
    ends = (number(losses[0][1]), number(losses[-1][1]))
    lower = HEIGHT + 96
    signs = [
        svg.line((x(sign.step), TOP), (x(sign.step), lower - 40), "alarm")
        for sign in collapses
    ]
    return svg.figure(
        "Loss and entropy during training",
        f"The loss (of a distillation the divergence from the teacher) goes from "
        f"{ends[0]} to {ends[1]} nats per token; below it the entropy of the rollouts' "
        "tokens. Fine lines are steps, "
        f"strong lines running means. Signs of collapse: {len(collapses)}.",
        lower,
        svg.words("loss, nats per token", (4, 16)),
        curve_panel(losses, x, (TOP, 176)),
        svg.words("entropy of the rollouts, nats per token", (4, 206)),
        curve_panel(entropies, x, (TOP + 188, lower - 40)),
        *signs,
        svg.axis_x(x, svg.round_ticks(x.low, x.high, 5), lower - 40, "step"),
    )


def curve_panel(
    values: Sequence[Point], x: Scale, between: tuple[float, float]
) -> Markup:
    """Draw one measure as it was and as a running mean, from zero upwards."""
    top, base = between
    high = max(value for _, value in values) or 1.0
    y = Scale(min(0.0, *(value for _, value in values), 0.0), high, base, top)
    raw = [(x(step), y(value)) for step, value in values]
    return (
        svg.axis_y(y, svg.round_ticks(y.low, y.high, 3), (LEFT, RIGHT))
        + svg.path(raw, "line raw")
        + svg.path(running_mean(raw), "line after")
    )


def running_mean(values: Sequence[Point]) -> list[Point]:
    """Return each point at the mean height of its neighbourhood, a tenth of all."""
    reach = len(values) // 20
    heights = [height for _, height in values]
    smooth = []
    for place, (left, _) in enumerate(values):
        near = heights[max(0, place - reach) : place + reach + 1]
        smooth.append((left, sum(near) / len(near)))
    return smooth
