"""Page of a run's neurons, as one HTML file without network or scripts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from neuron_opsd.method.enrichment import FALSE_SHARE
from neuron_opsd.report import atlas_charts as charts
from neuron_opsd.report.atlas_charts import SHORT
from neuron_opsd.report.html import (
    NO_CELL,
    Cell,
    Column,
    Table,
    render_template,
    row_of,
    table_of,
)
from neuron_opsd.report.wording import NOT_MEASURED, number, percent, signed
from neuron_opsd.results import atlas

LEAST_Q: Final = 1e-4
"""Smaller false discovery rates are shown as below this."""

VALUES: Final[Mapping[str, str]] = {
    "gate": "the output of its activation function, before it is multiplied by the "
    "up-projection",
    "gated": "what goes into the down-projection",
}
"""What counts as activation under each `neurons.value`."""


def render_atlas(data: atlas.AtlasData) -> str:
    """Render the page deterministically."""
    return render_template("atlas.html.jinja", context(data), "atlas.css")


def context(data: atlas.AtlasData) -> dict[str, Any]:
    """Collect template variables."""
    beside, moved = data.beside, data.moved
    return {
        "data": data,
        "outcome": outcome(data),
        "groups": groups_table(data.groups),
        "layers": layers_table(data),
        "by_layer": charts.layers_chart(data),
        "beside_pool": charts.groups_map(data),
        "lifts": charts.lifts_map(data),
        "rows": rows_of(data),
        "cards": [
            (card, anchor(card), card_table(card, data), reasons(card))
            for card in data.cards
        ],
        "moved": moved and moved_table(moved),
        "moved_chart": charts.moved_chart(data),
        "moved_neurons": []
        if moved is None
        else [
            moved_neurons_table(title, neurons, moved.num_questions)
            for title, neurons in (
                ("In more answers after training", moved.gained),
                ("In fewer answers after training", moved.lost),
            )
            if neurons
        ],
        "beside": beside and beside_table(data, beside),
        "beside_chart": charts.beside_chart(data),
        "rates": beside and rates_table(data, beside),
        "value": VALUES[data.value],
        "names": atlas.GROUPS,
        "shown": atlas.NUM_SHOWN,
        "num_draws": max(len(group.by_chance) for group in data.groups),
        "false_share": percent(FALSE_SHARE, 0),
    }


def outcome(data: atlas.AtlasData) -> str:
    """Summarise what the selected questions share."""
    total = data.num_layers * data.num_neurons
    said = [
        f"Of the model's {total:,} neurons, {data.num_tested:,} are among the "
        "strongest for at least one answer to the pool."
    ]
    own = {group.name: group for group in data.groups}.get(atlas.SELECTED)
    if own is not None and own.found is not None:
        said.append(
            f"{own.found.more:,} of them are in more and {own.found.fewer:,} in fewer "
            f"of the {own.num_questions:,} selected questions than expected by chance "
            "in as many answers of the same lengths; "
            f"{len(own.by_chance)} random draws of such answers find "
            f"{ranged(one.more for one in own.by_chance)} and "
            f"{ranged(one.fewer for one in own.by_chance)}."
        )
    said.append(
        "This says which neurons appear together. It does not say what they do, or "
        "that they cause an answer."
    )
    return " ".join(said)


def rows_of(data: atlas.AtlasData) -> list[tuple[int, list[Any]]]:
    """Return the shown neurons by layer, with link, lift and CSS class."""
    found: dict[int, list[Any]] = {}
    for card in data.cards:
        given = atlas.SELECTED in card.expected
        lift = card.lift_given_length(atlas.SELECTED) if given else math.nan
        text = "" if math.isnan(lift) else f"\N{MULTIPLICATION SIGN}{number(lift, 1)}"
        entry = (anchor(card), card.neuron, text, shade(lift), reasons(card))
        found.setdefault(card.layer, []).append(entry)
    return sorted(found.items())


def shade(lift: float) -> str:
    """Return a cell's CSS class: lift in three steps either way."""
    if math.isnan(lift):
        return "level"
    for limit, name in zip(atlas.LIFT_EDGES, ("down3", "down2", "down1"), strict=False):
        if lift < limit:
            return name
    for limit, name in zip(atlas.LIFT_EDGES[::-1], ("up3", "up2", "up1"), strict=False):
        if lift >= limit:
            return name
    return "level"


def anchor(card: atlas.NeuronCard) -> str:
    """Return a neuron's section id."""
    return f"n{card.layer}-{card.neuron}"


def reasons(card: atlas.NeuronCard) -> str:
    """Say why a neuron is shown."""
    return ", ".join(atlas.WHY[one] for one in card.why)


def groups_table(groups: Sequence[atlas.GroupRow]) -> Table:
    """Return what was found in each group, and by chance."""
    columns = (
        Column("questions"),
        Column("more often", "than chance"),
        Column("less often", "than chance"),
        Column("neurons", "in any question"),
        Column("neurons", "mean per question"),
        Column("tokens", "mean per answer"),
    )
    rows = [
        row_of(
            atlas.GROUPS[group.name],
            f"{group.num_questions:,}",
            *(found_cell(group, side) for side in ("more", "fewer")),
            f"{group.used:,}",
            number(group.mean_size, 0),
            number(group.mean_length, 1),
        )
        for group in groups
    ]
    return table_of("Groups of questions", "group", columns, rows)


def found_cell(group: atlas.GroupRow, side: str) -> Cell:
    """Format the neurons found in a group, and by chance."""
    if group.found is None:
        return NO_CELL
    draws = ranged(getattr(one, side) for one in group.by_chance)
    return Cell(f"{getattr(group.found, side):,}", f"draws: {draws}")


def ranged(counts: Iterable[int]) -> str:
    """Format the range of some counts."""
    known = list(counts)
    if not known:
        return NOT_MEASURED
    low, high = min(known), max(known)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def layers_table(data: atlas.AtlasData) -> Table:
    """Return each group's layer shares."""
    names = [group.name for group in data.groups]
    parts = ("share", "used", "common")
    rows = [
        row_of(
            f"layer {row.layer}",
            *(percent(row.shares[name]) for name in names),
            *(f"{row.used[name]:,}" for name in names),
            *(f"{row.common[name]:,}" for name in names),
        )
        for row in data.layers
    ]
    columns = [Column(part, SHORT[name]) for part in parts for name in names]
    return table_of("Layers", "layer", columns, rows)


def card_table(card: atlas.NeuronCard, data: atlas.AtlasData) -> Table:
    """Count the questions of each group that hold a neuron."""
    columns = (
        Column("questions"),
        Column("share"),
        Column("lift", "over the pool"),
        Column("by chance", "given length"),
        Column("lift", "given length"),
        Column("q"),
    )
    rows = []
    for group in data.groups:
        name, own = group.name, card.counts[group.name]
        beside = [NOT_MEASURED] * 4
        if name in card.lifts:
            beside = [
                number(card.lifts[name], 2),
                number(card.expected[name], 1),
                number(card.lift_given_length(name), 2),
                chance(card.q[name]),
            ]
        count = Cell(f"{own:,}", note=f"of {group.num_questions:,}")
        share = percent(own / group.num_questions)
        rows.append(row_of(atlas.GROUPS[name], count, share, *beside))
    return table_of(title_of(card).capitalize(), "group", columns, rows)


def title_of(one: atlas.NeuronCard | atlas.MovedNeuron) -> str:
    """Name a neuron in words."""
    return f"layer {one.layer}, neuron {one.neuron}"


def chance(q: float) -> str:
    """Format a false discovery rate."""
    if q < LEAST_Q:
        return f"below {LEAST_Q:g}"
    return number(q, 4 if q < 0.01 else 2)


def moved_table(moved: atlas.Moved) -> Table:
    """Return how far each group's sets moved."""
    columns = (
        Column("questions"),
        Column("distance", "base to trained"),
        Column("control", "base, read again"),
    )
    rows = [
        row_of(
            group.name,
            f"{group.num_questions:,}",
            number(group.distance),
            number(group.control),
        )
        for group in moved.groups
    ]
    return table_of("How training moved the sets", "questions", columns, rows)


def moved_neurons_table(
    title: str, neurons: Sequence[atlas.MovedNeuron], num_questions: int
) -> Table:
    """Return the neurons that moved most."""
    columns = (
        Column("base", f"of {num_questions:,}"),
        Column("trained", f"of {num_questions:,}"),
        Column("change"),
    )
    rows = [
        row_of(
            title_of(one),
            f"{one.rates.one:,}",
            f"{one.rates.other:,}",
            signed(one.rates.other - one.rates.one, 0),
        )
        for one in neurons
    ]
    return table_of(title, "neuron", columns, rows)


def beside_table(data: atlas.AtlasData, beside: atlas.Beside) -> Table:
    """Return what two runs share, by group."""
    columns = (
        Column("questions", data.run),
        Column("questions", beside.name),
        Column("correlation", "of counts, over neurons"),
        Column("common neurons", "in both, of those in either"),
    )
    theirs = {group.name: group.num_questions for group in beside.groups}
    rows = [
        row_of(
            atlas.GROUPS[group.name],
            f"{group.num_questions:,}",
            f"{theirs[group.name]:,}",
            number(beside.correlations[group.name], 2),
            percent(beside.common[group.name]),
        )
        for group in data.groups
        if group.name in beside.correlations
    ]
    return table_of("Two runs side by side", "group", columns, rows)


def rates_table(data: atlas.AtlasData, beside: atlas.Beside) -> Table | None:
    """Count each run's selected questions that hold the shown neurons."""
    own = {group.name: group.num_questions for group in data.groups}
    other = {group.name: group.num_questions for group in beside.groups}
    if atlas.SELECTED not in own or atlas.SELECTED not in other:
        return None
    names = (atlas.POOL, atlas.SELECTED)
    columns = [
        Column(atlas.GROUPS[name], run)
        for name in names
        for run in (data.run, beside.name)
    ]
    rows = [
        row_of(
            title_of(card),
            *(
                percent(share)
                for name in names
                for rates in [card.against[name]]
                for share in (rates.one / own[name], rates.other / other[name])
            ),
        )
        for card in data.cards
    ]
    return table_of("Shown neurons in both runs", "neuron", columns, rows)
