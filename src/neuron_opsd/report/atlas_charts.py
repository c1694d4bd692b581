"""Charts of an atlas, each one SVG element."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from markupsafe import Markup

from neuron_opsd.report.charts import svg
from neuron_opsd.report.charts.plot import Axis, Plot, Ticks, axis_over, share_axis
from neuron_opsd.report.wording import number, one_line, percent
from neuron_opsd.results import atlas

SHORT: Final[Mapping[str, str]] = {
    atlas.POOL: "pool",
    atlas.SELECTED: "selected",
    atlas.DEMONSTRATIONS: "demonstrations",
}

ROLES: Final[Mapping[str, str]] = {
    atlas.POOL: "before",
    atlas.SELECTED: "after",
    atlas.DEMONSTRATIONS: "net",
}
LEFT, RIGHT, HIGH = 118.0, 396.0, 24.0
"""Horizontal ends of a map's cells, and a cell's height."""
STRONGEST: Final = 2.0
"""Ratio, or its inverse, at which a map's colour saturates."""


def layers_chart(data: atlas.AtlasData) -> Markup:
    """Draw the groups' shares of neurons per layer."""
    names = [group.name for group in data.groups]
    most = max(max(row.shares.values()) for row in data.layers)
    if data.num_layers < 2 or most == 0:
        return Markup("")
    plot = Plot(layer_axis(data.num_layers), share_axis("share", 1.05 * most))
    lines = [
        plot.line(
            [(row.layer, row.shares[n]) for row in data.layers], f"line {ROLES[n]}"
        )
        for n in names
    ]
    tops = {n: max(data.layers, key=lambda row: row.shares[n]) for n in names}
    said = " ".join(
        f"{SHORT[n]}: most in layer {row.layer}, {percent(row.shares[n])}."
        for n, row in tops.items()
    )
    return plot.figure(
        "How each group's neurons are spread over the layers",
        "Of all neurons that a group's questions hold, the share in each layer. "
        f"{said}",
        *lines,
        key=[(ROLES[name], SHORT[name]) for name in names],
    )


def layer_axis(num_layers: int) -> Axis:
    """Return a layer axis with at most six ticks."""
    step = max(1, math.ceil((num_layers - 1) / 6))
    marked = tuple(range(0, num_layers, step))
    ticks = Ticks(tuple(map(float, marked)), tuple(map(str, marked)))
    return Axis(0, max(1, num_layers - 1), "layer", ticks)


def groups_map(data: atlas.AtlasData) -> Markup:
    """Draw the groups' shares of each layer relative to the pool's."""
    names = [group.name for group in data.groups if group.name != atlas.POOL]
    rows = [
        (
            SHORT[name],
            [ratio(row.shares[name], row.shares[atlas.POOL]) for row in data.layers],
            [group_hint(name, row) for row in data.layers],
        )
        for name in names
    ]
    if not rows:
        return Markup("")
    drawn = [
        cell(
            (place, column, data.num_layers),
            strength(value),
            "gain" if value > 1 else "loss",
            hint,
        )
        for place, (_, values, hints) in enumerate(rows)
        for column, (value, hint) in enumerate(zip(values, hints, strict=True))
        if math.isfinite(value)
    ]
    return layer_map(
        "Layers of the groups compared with the pool",
        "A layer's share in what a group's questions hold, divided by its share in "
        "what the pool's hold; the strongest colour is a factor of "
        f"{number(STRONGEST, 0)} either way. {extremes(rows)}",
        [name for name, *_ in rows],
        data.num_layers,
        drawn,
    )


def ratio(own: float, whole: float) -> float:
    """Return the ratio of two shares."""
    return own / whole if whole > 0 else math.nan


def strength(value: float) -> float:
    """Return a ratio's colour strength, in [0, 1]."""
    if value <= 0:
        return 1.0
    return min(1.0, abs(math.log(value)) / math.log(STRONGEST))


def group_hint(name: str, row: atlas.LayerRow) -> str:
    """Describe a group's and the pool's share of a layer."""
    times = ratio(row.shares[name], row.shares[atlas.POOL])
    return (
        f"layer {row.layer}: {percent(row.shares[name])} of what {atlas.GROUPS[name]} "
        f"hold, {percent(row.shares[atlas.POOL])} of what the pool holds, "
        f"{number(times, 2)} times as much"
    )


def extremes(rows: Sequence[tuple[str, Sequence[float], Sequence[str]]]) -> str:
    """Name each group's most and least overrepresented layer."""
    said = []
    for name, values, _ in rows:
        known = [(value, place) for place, value in enumerate(values) if value == value]
        if known:
            low, high = min(known), max(known)
            said.append(
                f"{name}: {number(high[0], 2)} in layer {high[1]}, {number(low[0], 2)} "
                f"in layer {low[1]}."
            )
    return " ".join(said)


def lifts_map(data: atlas.AtlasData) -> Markup:
    """Draw each layer's distribution of lifts in the selected questions."""
    bins = bin_names()
    most = max((max(row.lifts) for row in data.layers), default=0)
    if not most:
        return Markup("")
    middle = len(bins) // 2
    drawn = [
        cell(
            (len(bins) - 1 - place, row.layer, data.num_layers),
            math.log1p(count) / math.log1p(most),
            "gain" if place > middle else "loss" if place < middle else "same",
            f"layer {row.layer}: {count:,} neurons {bins[place]} times as often",
        )
        for row in data.layers
        for place, count in enumerate(row.lifts)
        if count
    ]
    totals = [
        sum(row.lifts[place] for row in data.layers) for place in range(len(bins))
    ]
    said = ", ".join(f"{bins[p]}: {total:,}" for p, total in enumerate(totals))
    return layer_map(
        "Lift of the neurons in the selected questions, by layer",
        "Number of neurons by how many times as often they are held as in draws of the "
        f"same lengths; over all layers {said}. The colour grows with the logarithm of "
        "the number.",
        bins[::-1],
        data.num_layers,
        drawn,
    )


def bin_names() -> list[str]:
    """Name the lift bins, lowest first."""
    edges = [f"{edge:g}" for edge in atlas.LIFT_EDGES]
    between = [f"{low} to {high}" for low, high in pairwise(edges)]
    return [f"below {edges[0]}", *between, f"{edges[-1]} or more"]


def cell(place: tuple[int, int, int], share: float, kind: str, hint: str) -> Markup:
    """Draw a map cell at (row, column, number of columns)."""
    row, column, columns = place
    width = (RIGHT - LEFT) / columns
    gap = min(1.0, width / 6)
    return svg.tag(
        "rect",
        svg.tag("title", hint),
        x=f"{LEFT + width * column:.2f}",
        y=HIGH * row + 6,
        width=f"{width - gap:.2f}",
        height=HIGH - 2,
        class_=kind,
        fill_opacity=f"{0.06 + 0.94 * share:.2f}",
    )


def layer_map(
    title: str,
    description: str,
    rows: Sequence[str],
    columns: int,
    drawn: Sequence[Markup],
) -> Markup:
    """Return a map with layers as columns."""
    base = HIGH * len(rows) + 8
    marks: list[Markup] = []
    ticks = layer_axis(columns).ticks
    for value, text in zip(ticks.values, ticks.labels, strict=True):
        x = LEFT + (RIGHT - LEFT) * (value + 0.5) / columns
        marks.append(svg.words(text, (x, base + 14), anchor="middle", kind="tick"))
    names = [
        svg.words(name, (LEFT - 8, HIGH * place + 21), anchor="end")
        for place, name in enumerate(rows)
    ]
    below = svg.words("layer", (RIGHT, base + 31), anchor="end")
    return svg.figure(
        title, description, (svg.WIDTH, base + 38), *names, *drawn, *marks, below
    )


def moved_chart(data: atlas.AtlasData) -> Markup:
    """Draw how far sets moved through training, by layer."""
    if data.moved is None or data.num_layers < 2:
        return Markup("")
    roles = ("after", "before")
    lines = [
        (role, group.name, known)
        for role, group in zip(roles, data.moved.groups, strict=False)
        if (known := [(i, v) for i, v in enumerate(group.layers) if math.isfinite(v)])
    ]
    if not lines:
        return Markup("")
    heights = [value for *_, known in lines for _, value in known]
    upright = axis_over([0.0, *heights], "Jaccard distance")
    plot = Plot(layer_axis(data.num_layers), upright)
    said = " ".join(
        f"{name}: from {number(known[0][1], 2)} in layer {known[0][0]} to "
        f"{number(known[-1][1], 2)} in layer {known[-1][0]}."
        for _, name, known in lines
    )
    return plot.figure(
        "How far training moved the sets, by layer",
        "Mean Jaccard distance of a question's sets under base and trained model "
        f"within each layer. {said}",
        *(plot.line(known, f"line {role}") for role, _, known in lines),
        key=[(role, name) for role, name, _ in lines],
    )


def beside_chart(data: atlas.AtlasData) -> Markup:
    """Draw the selected questions' layer shares in two runs."""
    if data.beside is None or data.num_layers < 2:
        return Markup("")
    sides = (
        (data.run, data.layers, "after"),
        (data.beside.name, data.beside.layers, "before"),
    )
    lines = [
        (role, one_line(name, 16), [(r.layer, r.shares[atlas.SELECTED]) for r in rows])
        for name, rows, role in sides
        if atlas.SELECTED in rows[0].shares
    ]
    if len(lines) < len(sides):
        return Markup("")
    most = max(value for *_, points in lines for _, value in points)
    plot = Plot(layer_axis(data.num_layers), share_axis("share", 1.05 * most))
    return plot.figure(
        "Layers of the selected questions of both runs",
        "Of all neurons that the selected questions hold, the share in each layer.",
        *(plot.line(points, f"line {role}") for role, _, points in lines),
        key=[(role, name) for role, name, _ in lines],
    )
