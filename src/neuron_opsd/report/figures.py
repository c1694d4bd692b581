"""The figures of the page; each takes records and returns one SVG element.

A figure for which there is nothing to draw is empty. Numbers that are not finite are
left out of a drawing and said in its description where they matter.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from markupsafe import Markup

from neuron_opsd.method.calibration import Bin
from neuron_opsd.method.statistics import spearman
from neuron_opsd.records import (
    Collapse,
    QuestionScore,
    SelectionEntry,
    StepMetrics,
    Vote,
)
from neuron_opsd.report import svg
from neuron_opsd.report.svg import Point, Scale
from neuron_opsd.report.wording import number, one_line, percent

LEFT, RIGHT = 46.0, 382.0
TOP, BASE = 36.0, 262.0
HEIGHT = 302.0
MOST_LEVELS = 16
MOST_STEPS = 240
COUNT_BINS = 30


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
    name: str, before: Sequence[QuestionScore], after: Sequence[QuestionScore]
) -> Markup:
    """Draw how many questions reach each share of agreeing rollouts."""
    if not before or not after:
        return Markup("")
    levels = num_levels(score.num_rollouts for score in (*before, *after))
    shares = [level_shares(scores, levels) for scores in (before, after)]
    top = max(max(shares[0]), max(shares[1]))
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


def num_levels(num_rollouts: Iterable[int]) -> int:
    """Return into how many steps a share of agreeing rollouts is cut."""
    return max(1, min(MOST_LEVELS, max(num_rollouts, default=1)))


def level_shares(scores: Sequence[QuestionScore], levels: int) -> list[float]:
    """Return the share of questions at each level of agreement, from 0 upwards."""
    counts = Counter(round(score.agreement * levels) for score in scores)
    return [counts[level] / len(scores) for level in range(levels + 1)]


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


def neuron_chart(
    selection: Sequence[SelectionEntry], votes: Mapping[str, Vote]
) -> Markup:
    """Draw neuron count against vote share, the selected questions in colour."""
    known = [
        (entry, entry.neuron_count)
        for entry in selection
        if entry.question_id in votes and entry.neuron_count is not None
    ]
    if not known:
        return Markup("")
    entries, counts = zip(*known, strict=True)
    shares = [votes[entry.question_id].agreement for entry in entries]
    x = Scale(min(counts), max(counts), LEFT + 8, RIGHT - 8)
    y = Scale(0, 1, BASE - 6, TOP + 10)
    correlation = number(rank_correlation(counts, shares), 2)
    rho = f"Spearman \N{GREEK SMALL LETTER RHO} {correlation}"
    return svg.figure(
        "Neuron count against vote share",
        "One mark for all questions of the pool with about the same neuron count and "
        "vote share, its area growing with their number; selected questions are "
        f"filled. {rho}. The line is the mean vote share of each tenth of the pool.",
        HEIGHT,
        svg.words("rollouts that agree", (4, 16)),
        svg.words(rho, (RIGHT, 16), anchor="end"),
        svg.axis_y(y, svg.share_ticks(), (LEFT, RIGHT)),
        bubbles([(e.kept, n) for e, n in known], shares, x, y),
        mean_line(counts, shares, x, y),
        svg.axis_x(x, svg.round_ticks(x.low, x.high), BASE, "neurons counted"),
    )


def rank_correlation(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Return Spearman's correlation, not a number where one side never varies."""
    if len(set(counts)) < 2 or len(set(shares)) < 2:
        return math.nan
    return spearman(np.array(counts, dtype=np.float64), np.array(shares))


def bubbles(
    marks: Sequence[tuple[bool, int]], shares: Sequence[float], x: Scale, y: Scale
) -> Markup:
    """Draw the questions gathered on a grid, so that any pool gives a small drawing.

    Args:
        marks: Whether each question is selected, and its neuron count.
        shares: Its vote share.
        x: Of counts.
        y: Of shares.
    """
    cell = (x.high - x.low) / COUNT_BINS or 1.0
    grid: Counter[tuple[bool, float, float]] = Counter()
    for (kept, count), share in zip(marks, shares, strict=True):
        place = min(COUNT_BINS - 1, int((count - x.low) / cell))
        level = round(share * MOST_LEVELS) / MOST_LEVELS
        grid[kept, x.low + (place + 0.5) * cell, level] += 1
    most = max(grid.values())
    return Markup("").join(
        svg.circle(
            (x(count), y(share)),
            1.2 + 7.3 * math.sqrt(num / most),
            "mark after" if kept else "mark rest",
            f"{num} {'selected' if kept else 'not selected'}",
        )
        for (kept, count, share), num in sorted(grid.items())
    )


def mean_line(
    counts: Sequence[int], shares: Sequence[float], x: Scale, y: Scale
) -> Markup:
    """Draw the mean vote share of each tenth of the questions by neuron count."""
    if len(counts) < 20:
        return Markup("")
    order = np.argsort(np.array(counts), kind="stable")
    tenths = np.array_split(order, 10)
    pairs = [
        (x(float(np.mean(np.take(counts, t)))), y(float(np.mean(np.take(shares, t)))))
        for t in tenths
    ]
    return svg.path(pairs, "line trend")


def training_chart(
    training: Sequence[StepMetrics], collapses: Sequence[Collapse]
) -> Markup:
    """Draw loss and entropy step by step, one above the other."""
    losses = thinned([(float(m.step), m.loss) for m in training])
    entropies = thinned([(float(m.step), m.entropy) for m in training])
    if not losses or not entropies:
        return Markup("")
    x = Scale(training[0].step, max(m.step for m in training), LEFT, RIGHT)
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


def thinned(values: Sequence[Point]) -> list[Point]:
    """Return the finite points, averaged in groups where there are very many."""
    known = [point for point in values if math.isfinite(point[1])]
    if len(known) <= MOST_STEPS:
        return known
    groups = np.array_split(np.array(known), MOST_STEPS)
    means = [group.mean(axis=0) for group in groups]
    return [(float(step), float(value)) for step, value in means]


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
