"""The tables of an atlas: counts beside what chance would give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from neuron_opsd.report.tables import (
    NO_CELL,
    Cell,
    Column,
    Table,
    TableRow,
    table_of,
)
from neuron_opsd.report.wording import number, percent, signed
from neuron_opsd.results import atlas

SHORT: Final[Mapping[str, str]] = {
    atlas.POOL: "pool",
    atlas.SELECTED: "selected",
    atlas.DEMONSTRATIONS: "demonstrations",
}
"""What each group is called where there is little room."""
LEAST_Q: Final = 1e-4
"""Below which a share of chance finds is not written out."""


def groups_table(groups: Sequence[atlas.GroupRow]) -> Table:
    """Return the groups with what was found of each, and what of draws like it."""
    columns = (
        Column("questions"),
        Column("more often", "than chance"),
        Column("less often", "than chance"),
        Column("neurons", "of any question"),
        Column("neurons", "of one, mean"),
        Column("tokens", "of one, mean"),
    )
    rows = [
        TableRow(
            atlas.GROUPS[group.name],
            (
                Cell(f"{group.num_questions:,}"),
                *found_cells(group),
                Cell(f"{group.used:,}"),
                Cell(number(group.mean_size, 0)),
                Cell(number(group.mean_length, 1)),
            ),
        )
        for group in groups
    ]
    return table_of("Groups of questions", "group", columns, rows)


def found_cells(group: atlas.GroupRow) -> tuple[Cell, ...]:
    """Return what was found of a group, and what of draws."""
    if group.found is None:
        return (NO_CELL,) * 2
    more, fewer = (
        ranged(getattr(one, side) for one in group.by_chance)
        for side in ("more", "fewer")
    )
    return (
        Cell(f"{group.found.more:,}", f"draws: {more}"),
        Cell(f"{group.found.fewer:,}", f"draws: {fewer}"),
    )


def ranged(counts: Iterable[int]) -> str:
    """Write the smallest and the largest of some counts."""
    known = list(counts)
    if not known:
        return NO_CELL.value
    low, high = min(known), max(known)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def layers_table(data: atlas.AtlasData) -> Table:
    """Return what the groups hold of every layer."""
    names = [group.name for group in data.groups]
    parts: tuple[tuple[str, Callable[[atlas.LayerRow, str], str]], ...] = (
        ("share", lambda row, name: percent(row.shares[name])),
        ("used", lambda row, name: f"{row.used[name]:,}"),
        ("common", lambda row, name: f"{row.common[name]:,}"),
    )
    columns = [Column(part, SHORT[name]) for part, _ in parts for name in names]
    rows = [
        TableRow(
            f"layer {row.layer}",
            tuple(Cell(write(row, name)) for _, write in parts for name in names),
        )
        for row in data.layers
    ]
    return table_of("Layers", "layer", columns, rows)


def card_table(card: atlas.NeuronCard, data: atlas.AtlasData) -> Table:
    """Return how many questions of each group hold a neuron."""
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
        cells = (
            Cell(f"{own:,}", note=f"of {group.num_questions:,}"),
            Cell(percent(own / group.num_questions)),
        )
        beside = (NO_CELL,) * 4
        if name in card.lifts:
            beside = (
                Cell(number(card.lifts[name], 2)),
                Cell(number(card.expected[name], 1)),
                Cell(number(card.lift_given_length(name), 2)),
                Cell(chance(card.q[name])),
            )
        rows.append(TableRow(atlas.GROUPS[name], (*cells, *beside)))
    title = f"Layer {card.layer}, neuron {card.neuron}"
    return table_of(title, "group", columns, rows)


def chance(q: float) -> str:
    """Write a share of chance finds."""
    if q < LEAST_Q:
        return f"below {LEAST_Q:g}"
    return number(q, 4 if q < 0.01 else 2)


def moved_table(moved: atlas.Moved) -> Table:
    """Return how far the sets of each group moved."""
    columns = (
        Column("questions"),
        Column("distance", "base to trained"),
        Column("control", "base, read again"),
    )
    rows = [
        TableRow(
            group.name,
            (
                Cell(f"{group.num_questions:,}"),
                Cell(number(group.distance)),
                Cell(number(group.control)),
            ),
        )
        for group in moved.groups
    ]
    return table_of("Sets through training", "questions", columns, rows)


def moved_neurons_table(
    title: str, neurons: Sequence[atlas.MovedNeuron], num_questions: int
) -> Table | None:
    """Return the neurons that moved most, `None` where none did."""
    if not neurons:
        return None
    columns = (
        Column("base", f"of {num_questions:,}"),
        Column("trained", f"of {num_questions:,}"),
        Column("change"),
    )
    rows = [
        TableRow(
            f"layer {one.layer}, neuron {one.neuron}",
            (
                Cell(f"{one.rates.one:,}"),
                Cell(f"{one.rates.other:,}"),
                Cell(signed(one.rates.other - one.rates.one, 0)),
            ),
        )
        for one in neurons
    ]
    return table_of(title, "neuron", columns, rows)


def beside_table(data: atlas.AtlasData, beside: atlas.Beside) -> Table:
    """Return what two runs have in common, group by group."""
    columns = (
        Column("questions", data.run),
        Column("questions", beside.name),
        Column("correlation", "of counts, over neurons"),
        Column("common neurons", "of both runs, of either's"),
    )
    theirs = {group.name: group for group in beside.groups}
    rows = [
        TableRow(
            atlas.GROUPS[group.name],
            (
                Cell(f"{group.num_questions:,}"),
                Cell(f"{theirs[group.name].num_questions:,}"),
                Cell(number(beside.correlations[group.name], 2)),
                Cell(percent(beside.common[group.name])),
            ),
        )
        for group in data.groups
        if group.name in beside.correlations
    ]
    return table_of("Two runs side by side", "group", columns, rows)


def rates_table(data: atlas.AtlasData, beside: atlas.Beside) -> Table | None:
    """Return how many of the selected questions of each run hold the shown neurons."""
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
        TableRow(
            f"layer {card.layer}, neuron {card.neuron}",
            tuple(
                Cell(percent(count / size))
                for name in names
                for count, size in (
                    (card.against[name].one, own[name]),
                    (card.against[name].other, other[name]),
                )
            ),
        )
        for card in data.cards
    ]
    return table_of("Shown neurons in both runs", "neuron", columns, rows)
