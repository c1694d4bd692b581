"""Reliability diagrams: accuracy against confidence, bin by bin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from neuron_opsd.records.scores import Bin
from neuron_opsd.report.charts import svg
from neuron_opsd.report.charts.plot import Dot, Plot, share_axis
from neuron_opsd.report.wording import percent

VOTES: Final = "rollouts that agree"


@dataclass(frozen=True, slots=True)
class Curve:
    """The bins of one model, or of one kind of confidence."""

    role: str
    """How it is drawn."""
    name: str
    bins: Sequence[Bin]
    verb: str = "agree"
    """What stands after a bin's confidence."""
    of: str = "questions"
    """What the bins hold."""


def draw_reliability(
    title: str,
    about: str,
    curves: Sequence[Curve],
    axis: str = VOTES,
    key: svg.Key = (),
) -> Markup:
    """Draw accuracy against confidence, the size of a mark growing with its bin."""
    plot = Plot(share_axis(axis), share_axis("answered right"))
    return plot.figure(
        title,
        about,
        plot.line([(0, 0), (1, 1)], "diagonal"),
        *(plot.curve(bin_dots(one), one.role) for one in curves),
        key=key,
    )


def drawable(bins: Sequence[Bin]) -> list[Bin]:
    """Return the bins that hold questions."""
    return [
        one
        for one in bins
        if one.num_questions > 0 and math.isfinite(one.confidence + one.accuracy)
    ]


def bins_in_words(bins: Sequence[Bin], verb: str = "agree") -> str:
    """Say what a calibration curve shows."""
    said = [
        f"{percent(one.accuracy, 0)} right where {percent(one.confidence, 0)} {verb}"
        for one in drawable(bins)
    ]
    return ", ".join(said) or "nothing measured"


def bin_dots(curve: Curve) -> list[Dot]:
    """Return one mark for each bin, its area growing with what it holds."""
    bins = drawable(curve.bins)
    most = max((one.num_questions for one in bins), default=1)
    return [
        Dot(
            (one.confidence, one.accuracy),
            f"{curve.name}: {percent(one.accuracy)} right where "
            f"{percent(one.confidence)} {curve.verb}, {one.num_questions} {curve.of}",
            2.5 + 6.5 * math.sqrt(one.num_questions / most),
        )
        for one in bins
    ]
