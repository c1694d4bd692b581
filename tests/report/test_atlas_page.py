"""The page of an atlas: what it says, that it is sound, that no text breaks it."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from neuron_opsd.report.atlas_charts import (
    beside_chart,
    bin_names,
    groups_map,
    layers_chart,
    lifts_map,
    moved_chart,
)
from neuron_opsd.report.atlas_page import chance, outcome, ranged, render_atlas, shade
from neuron_opsd.report.wording import tail, token
from neuron_opsd.results.atlas import (
    DEMONSTRATIONS,
    GROUPS,
    LIFT_EDGES,
    POOL,
    SELECTED,
    AtlasData,
    Beside,
    Found,
    GroupRow,
    LayerRow,
    Moved,
    MovedGroup,
    MovedNeuron,
    NeuronCard,
    OutputRow,
    PushedQuestion,
    PushedToken,
    Rates,
    TokenWeight,
)
from pages import check_inert, check_links, read
from tests.report.test_analysis_page import blank, poisoned

SIZES = {POOL: 400, SELECTED: 80, DEMONSTRATIONS: 120}


def example_groups() -> tuple[GroupRow, ...]:
    """Return the three groups."""
    draws = (Found(0, 0), Found(2, 1))
    return tuple(
        GroupRow(
            name=name,
            num_questions=size,
            mean_size=5000.0,
            mean_length=812.5,
            used=40_000 + size,
            found=None if name == POOL else Found(123, 45),
            by_chance=() if name == POOL else draws,
        )
        for name, size in SIZES.items()
    )


def example_layers(count: int) -> tuple[LayerRow, ...]:
    """Return layers whose shares differ by group."""
    return tuple(
        LayerRow(
            layer=layer,
            shares={
                POOL: 1 / count,
                SELECTED: (1.5 if layer % 2 else 0.5) / count,
                DEMONSTRATIONS: 1 / count,
            },
            used=dict.fromkeys(GROUPS, 100 + layer),
            common=dict.fromkeys(GROUPS, layer),
            lifts=tuple(layer * place for place in range(len(LIFT_EDGES) + 1)),
        )
        for layer in range(count)
    )


def example_card(layer: int, neuron: int, lift: float = 2.0) -> NeuronCard:
    """Return a neuron with all that can be told of one."""
    return NeuronCard(
        layer=layer,
        neuron=neuron,
        why=("more", "common"),
        counts={POOL: 100, SELECTED: round(20 * lift), DEMONSTRATIONS: 30},
        lifts={SELECTED: lift, DEMONSTRATIONS: 1.0},
        expected={SELECTED: 20.0, DEMONSTRATIONS: 30.0},
        q={SELECTED: 1e-9, DEMONSTRATIONS: 0.4},
        mean_score=1.5,
        questions=(
            PushedQuestion("q1", "Which gas do plants take in?", "oxygen", 3.25, ()),
            PushedQuestion("q2", "", None, 3.0, (SELECTED, DEMONSTRATIONS)),
        ),
        tokens=(
            PushedToken("q1", "Which gas do plants take in? It is", " oxygen", 3.25),
        ),
        output=OutputRow((TokenWeight(" gas", 1.25),), (TokenWeight("\n", -0.75),)),
        trained=Rates(12, 17),
        against={POOL: Rates(100, 90), SELECTED: Rates(40, 10)},
    )


def example_atlas(num_layers: int = 6, num_cards: int = 4) -> AtlasData:
    """Return an atlas with all its parts."""
    layers = example_layers(num_layers)
    moved = (MovedNeuron(3, 14, Rates(5, 25)),)
    groups = example_groups()
    return AtlasData(
        title="Neurons of science",
        run="science",
        model="a-model",
        num_layers=num_layers,
        num_neurons=9728,
        num_tested=41_234,
        num_strata=10,
        value="gate",
        selection_rule="fewest-neurons",
        contexts_rule="nearest",
        groups=groups,
        layers=layers,
        cards=tuple(
            example_card(n * num_layers // num_cards, n, 0.4 * n)
            for n in range(num_cards)
        ),
        with_texts=True,
        with_model=True,
        moved=Moved(
            256,
            tuple(
                MovedGroup(name, 128, 0.31, 0.002, (0.2, math.nan, *[0.3] * 4))
                for name in (SELECTED, "not selected")
            ),
            moved,
            moved,
        ),
        beside=Beside(
            "reviews",
            groups,
            layers,
            same_pool=True,
            both_selected=33,
            correlations=dict.fromkeys(GROUPS, 0.87),
            common=dict.fromkeys(GROUPS, 0.64),
            lifts=0.12,
            num_lifts=1234,
        ),
        command="neuron-opsd analyse runs/science --read-model",
        versions={"python": "3.11"},
        data_hashes={"pool": "60303ae2"},
    )


def plain_atlas() -> AtlasData:
    """Return an atlas from a run's files alone."""
    data = example_atlas()
    cards = tuple(
        replace(card, tokens=None, output=None, trained=None, against={})
        for card in data.cards
    )
    return replace(data, cards=cards, with_model=False, moved=None, beside=None)


@pytest.fixture(scope="module")
def page() -> str:
    return render_atlas(example_atlas())


def test_the_page_says_what_matters(page: str) -> None:
    text = read(page).text
    for words in (
        "123 of them are in more and 45 in fewer of the 80 selected questions",
        "2 random draws of such answers find 0 to 2 and 0 to 1",
        "It does not say what they do, or that they cause an answer.",
        "6 layers of 9,728 neurons",
        "Which gas do plants take in?",
        "Of the 256 answers that were read again 12 hold it under the base model",
        "33 questions are selected in both",
        "correlation of lifts in the selected questions is 0.12, over 1,234 neurons",
        "a name for it would be a guess",
        "before it is multiplied by the up-projection",
        "below 0.0001",
        "draws: 0 to 2",
        "60303ae2",
    ):
        assert words in text


def test_the_page_is_sound_and_every_neuron_opens_from_its_cell(page: str) -> None:
    check_links(page)
    for card in example_atlas().cards:
        name = f"n{card.layer}-{card.neuron}"
        assert page.count(f'href="#{name}"') == page.count(f'id="{name}"') == 1


def test_the_page_loads_nothing_and_runs_nothing(page: str) -> None:
    check_inert(page)


def test_equal_atlases_give_equal_pages(page: str) -> None:
    assert render_atlas(example_atlas()) == page


def poisoned_atlas() -> AtlasData:
    """Return an atlas in which every text is hostile but names that are ours."""
    whole = example_atlas()
    cards = tuple(
        replace(
            card,
            questions=tuple(
                replace(poisoned(question), groups=question.groups)
                for question in card.questions
            ),
            tokens=poisoned(card.tokens),
            output=poisoned(card.output),
        )
        for card in whole.cards
    )
    beside = replace(poisoned(whole.beside), groups=whole.groups)
    hostile: AtlasData = poisoned(replace(whole, cards=()))
    return replace(
        hostile, groups=whole.groups, value="gated", cards=cards, beside=beside
    )


def test_no_text_can_break_the_page() -> None:
    page = render_atlas(poisoned_atlas())
    reader = read(page)
    assert not reader.tags & {"script", "img"}
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert "{{ 7*7 }}" in reader.text
    assert "\x1b" not in page
    page.encode()


def test_numbers_that_are_none_are_dashes() -> None:
    text = read(render_atlas(blank(example_atlas()))).text
    assert not re.search(r"\bnan\b", text)
    assert "\N{EM DASH}" in text


def test_what_was_not_read_is_said() -> None:
    text = read(render_atlas(plain_atlas())).text
    assert "Give --read-model, and the questions with --pool, to read this" in text
    assert "Not shown: the model was not read." in text
    assert "Not shown: no other run was named with --against." in text
    assert "Tokens that its output row favours" not in text
    untrained = replace(
        example_atlas(), moved=None, why_not_moved="the run has no adapter yet"
    )
    cards = tuple(replace(card, trained=None) for card in untrained.cards)
    text = read(render_atlas(replace(untrained, cards=cards))).text
    assert "Not shown: the run has no adapter yet." in text


def test_a_run_that_selects_nothing_beyond_its_pool_is_shown() -> None:
    data = plain_atlas()
    rows = tuple(
        replace(
            row,
            shares={POOL: row.shares[POOL]},
            used={POOL: 1},
            common={POOL: 0},
            lifts=(0,) * len(row.lifts),
        )
        for row in data.layers
    )
    cards = tuple(
        replace(card, counts={POOL: 3}, lifts={}, expected={}, q={})
        for card in data.cards
    )
    alone = replace(data, groups=data.groups[:1], layers=rows, cards=cards)
    page = render_atlas(alone)
    check_links(page)
    assert "in fewer of the" not in outcome(alone)
    assert groups_map(alone) == lifts_map(alone) == ""


def test_the_page_of_a_large_model_stays_small() -> None:
    page = render_atlas(replace(example_atlas(36, 96), moved=None))
    check_links(page)
    assert len(page.encode()) < 1_500_000


def test_drawings_are_announced_and_sound() -> None:
    data = example_atlas()
    drawn = [
        *(layers_chart(data), groups_map(data), lifts_map(data)),
        *(moved_chart(data), beside_chart(data)),
    ]
    for picture in drawn:
        root = ET.fromstring(picture)
        assert root.get("role") == "img"
        assert root[0].tag == "title"
        assert root[1].tag == "desc"
    assert drawn[1].count("<rect") == 2 * data.num_layers
    assert "layer 3: 25.0 % of what selected questions hold" in drawn[1]
    assert "1.50 times as much" in drawn[1]
    cells = sum(count > 0 for row in data.layers for count in row.lifts)
    assert drawn[2].count("<rect") == cells
    assert "layer 5: 30 neurons 4 or more times as often" in drawn[2]
    assert "layer 5: 5 neurons 0.25 to 0.5 times as often" in drawn[2]
    assert moved_chart(plain_atlas()) == beside_chart(plain_atlas()) == ""


def test_bins_are_named_by_their_edges() -> None:
    names = bin_names()
    assert len(names) == len(LIFT_EDGES) + 1
    assert (names[0], names[1], names[-1]) == ("below 0.25", "0.25 to 0.5", "4 or more")


@pytest.mark.parametrize(
    ("lift", "kind"),
    [
        (0.1, "down3"),
        (0.3, "down2"),
        (0.7, "down1"),
        (1.0, "level"),
        (1.25, "up1"),
        (2.5, "up2"),
        (9.0, "up3"),
        (math.nan, "level"),
    ],
)
def test_a_cell_is_coloured_by_its_lift(lift: float, kind: str) -> None:
    assert shade(lift) == kind


def test_small_numbers_and_tokens_are_written_so_that_they_are_seen() -> None:
    assert chance(1e-9) == "below 0.0001"
    assert chance(0.0034) == "0.0034"
    assert chance(0.126) == "0.13"
    assert ranged([3, 1, 2]) == "1 to 3"
    assert ranged([2, 2]) == "2"
    assert ranged([]) == "\N{EM DASH}"
    assert token(" a\n") == "\N{OPEN BOX}a\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"
    assert token("") == "(nothing)"
    assert token("\x1b") == "[U+001B]"
    assert tail("one two three", 6) == "\N{HORIZONTAL ELLIPSIS}three"
    assert tail("one two", 9) == "one two"
