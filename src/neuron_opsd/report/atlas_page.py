"""The page of a run's neurons: one HTML file that needs no network and no script."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from neuron_opsd.method.enrichment import FALSE_SHARE
from neuron_opsd.report import atlas_charts as charts
from neuron_opsd.report import atlas_tables as tables
from neuron_opsd.report.html import render_template
from neuron_opsd.report.wording import number, percent
from neuron_opsd.results import atlas

VALUES: Final[Mapping[str, str]] = {
    "gate": "the output of its activation function, before it is multiplied by the "
    "up-projection",
    "gated": "what goes into the down-projection",
}
"""What a neuron's activation is, by the setting neurons.value."""


def render_atlas(data: atlas.AtlasData) -> str:
    """Return the whole page; equal data give equal bytes."""
    return render_template("atlas.html.jinja", context(data), "atlas.css")


def context(data: atlas.AtlasData) -> dict[str, Any]:
    """Return what the template names."""
    beside, moved = data.beside, data.moved
    return {
        "data": data,
        "outcome": outcome(data),
        "groups": tables.groups_table(data.groups),
        "layers": tables.layers_table(data),
        "by_layer": charts.layers_chart(data),
        "beside_pool": charts.groups_map(data),
        "lifts": charts.lifts_map(data),
        "rows": rows_of(data),
        "cards": [
            (card, anchor(card), tables.card_table(card, data), reasons(card))
            for card in data.cards
        ],
        "moved": moved and tables.moved_table(moved),
        "moved_chart": charts.moved_chart(data),
        "moved_neurons": []
        if moved is None
        else [
            tables.moved_neurons_table(title, neurons, moved.num_questions)
            for title, neurons in (
                ("In more answers after training", moved.gained),
                ("In fewer answers after training", moved.lost),
            )
            if neurons
        ],
        "beside": beside and tables.beside_table(data, beside),
        "beside_chart": charts.beside_chart(data),
        "rates": beside and tables.rates_table(data, beside),
        "value": VALUES[data.value],
        "names": atlas.GROUPS,
        "shown": atlas.NUM_SHOWN,
        "num_draws": max(len(group.by_chance) for group in data.groups),
        "false_share": percent(FALSE_SHARE, 0),
    }


def outcome(data: atlas.AtlasData) -> str:
    """Say in a few sentences what the selected questions have in common."""
    total = data.num_layers * data.num_neurons
    said = [
        f"Of the {total:,} neurons of the model {data.num_tested:,} are among the "
        "strongest of some answer to the pool."
    ]
    own = {group.name: group for group in data.groups}.get(atlas.SELECTED)
    if own is not None and own.found is not None:
        said.append(
            f"{own.found.more:,} of them are in more and {own.found.fewer:,} in fewer "
            f"of the {own.num_questions:,} selected questions than in as many answers "
            f"of the same lengths by chance; {len(own.by_chance)} random draws of such "
            f"answers find {tables.ranged(one.more for one in own.by_chance)} and "
            f"{tables.ranged(one.fewer for one in own.by_chance)}."
        )
    said.append(
        "This says which neurons appear together. It does not say what they do, or "
        "that they cause an answer."
    )
    return " ".join(said)


def rows_of(data: atlas.AtlasData) -> list[tuple[int, list[Any]]]:
    """Return the shown neurons by layer, each with its link, its lift and its class."""
    found: dict[int, list[Any]] = {}
    for card in data.cards:
        lift = selected_lift(card)
        text = "" if math.isnan(lift) else f"\N{MULTIPLICATION SIGN}{number(lift, 1)}"
        entry = (anchor(card), card.neuron, text, shade(lift), reasons(card))
        found.setdefault(card.layer, []).append(entry)
    return sorted(found.items())


def selected_lift(card: atlas.NeuronCard) -> float:
    """Return the lift of a neuron in the selected questions, given length."""
    if atlas.SELECTED not in card.expected:
        return math.nan
    return card.lift_given_length(atlas.SELECTED)


def shade(lift: float) -> str:
    """Return the class of a cell: how much more or less often, in three steps."""
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
    """Return the name of a neuron's section."""
    return f"n{card.layer}-{card.neuron}"


def reasons(card: atlas.NeuronCard) -> str:
    """Say why a neuron is shown."""
    return ", ".join(atlas.WHY[one] for one in card.why)
