"""Figures: where marks lie by hand, then what every drawing must be."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import combinations, pairwise
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from neuron_opsd.records import StepMetrics
from neuron_opsd.records.scores import Bin, Interval
from neuron_opsd.report.charts.intervals import (
    IntervalChart,
    IntervalRow,
    interval_strip,
)
from neuron_opsd.report.charts.labels import (
    place_labels,
    shared,
    short_name,
    spread,
    text_box,
)
from neuron_opsd.report.charts.plot import Box, Scale, round_ticks, share_axis
from neuron_opsd.report.charts.svg import LETTER, PALETTE, share_bar, tag
from neuron_opsd.report.condense import (
    level_shares,
    pool_summary,
    thinned,
    training_summary,
)
from neuron_opsd.report.run_charts import (
    agreement_histogram,
    forest_plot,
    neuron_chart,
    reliability_diagram,
    running_mean,
    training_chart,
)
from neuron_opsd.report.run_page import page_figures
from report_examples import (
    example_pool,
    example_report,
    example_scores,
    example_training,
)


def all_figures() -> list[Markup]:
    """Return every announced drawing of the example."""
    drawn = page_figures(example_report())
    reliability = [picture for _, picture in drawn.pop("reliability")]
    return [*drawn.values(), *reliability]


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.2 for ``#rrggbb``."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2.2."""
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_a_scale_maps_ends_to_ends_and_a_point_to_the_middle() -> None:
    assert [Scale(0, 2, 10, 30)(value) for value in (0, 1, 2)] == [10, 20, 30]
    assert Scale(5, 5, 10, 30)(5) == 20


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 100, ("0", "25", "50", "75", "100")),
        (0, 1, ("0.00", "0.25", "0.50", "0.75", "1.00")),
        (-0.11, 0.07, ("\N{MINUS SIGN}0.10", "\N{MINUS SIGN}0.05", "0.00", "0.05")),
        (0, 2.8, ("0", "1", "2")),
        (4036, 6300, ("5,000", "6,000")),
        (3, 3, ("3.00",)),
    ],
)
def test_ticks_are_round(low: float, high: float, labels: tuple[str, ...]) -> None:
    assert round_ticks(low, high).labels == labels


def test_shares_are_marked_in_percent() -> None:
    assert share_axis("x").ticks.labels == ("0 %", "25 %", "50 %", "75 %", "100 %")


def test_words_and_attributes_are_escaped() -> None:
    drawn = tag("text", "a<b>\x1b", class_='x"y', stroke_width=1.25)
    assert drawn == (
        '<text class="x&#34;y" stroke-width="1.2">a&lt;b&gt;[U+001B]</text>'
    )


def test_a_bin_lies_where_its_numbers_say() -> None:
    # 46 + 0.5 * 336 across; 262 - 1 * 226 upwards.
    drawn = reliability_diagram("any", [Bin(0, 1, 0.5, 1.0, 3)], [])
    assert 'cx="214" cy="36" r="9"' in drawn
    assert "Before: 100 % right where 50 % agree. After: nothing measured." in drawn


def test_empty_bins_and_bins_without_a_number_are_left_out() -> None:
    bins = [Bin(0, 0.5, math.nan, math.nan, 0), Bin(0.5, 1, math.nan, 0.5, 2)]
    assert reliability_diagram("any", bins, bins) == ""


def test_agreement_is_counted_by_level() -> None:
    score = example_scores("any", 0.5, 3.0)[0]
    three, eight = (replace(score, agreement=share) for share in (3 / 8, 1.0))
    assert level_shares([three, eight, eight, eight], 8) == [
        *(0, 0, 0, 0.25, 0, 0, 0, 0),
        0.75,
    ]


def test_every_question_of_the_pool_is_drawn_once() -> None:
    selection, votes = example_pool(600)
    drawn = neuron_chart(pool_summary(selection, votes))
    said = re.findall(r"<title>(\d+) (selected|not selected)</title>", drawn)
    totals = {"selected": 0, "not selected": 0}
    for count, kind in said:
        totals[kind] += int(count)
    assert totals == {"selected": 120, "not selected": 480}


def test_a_large_pool_gives_a_small_drawing() -> None:
    assert len(neuron_chart(pool_summary(*example_pool(20_000)))) < 80_000


def test_a_pool_whose_counts_are_all_equal_can_be_drawn() -> None:
    selection, votes = example_pool(30)
    equal = [replace(entry, neuron_count=7) for entry in selection]
    drawn = neuron_chart(pool_summary(equal, votes))
    assert "\N{GREEK SMALL LETTER RHO} \N{EM DASH}" in drawn
    assert "nan" not in drawn


def test_many_steps_are_averaged_and_infinite_ones_left_out() -> None:
    values = [(float(step), 1.0) for step in range(10_000)]
    assert len(thinned([*values, (10_000.0, math.inf)])) == 240
    assert thinned([(0.0, math.nan), (1.0, 2.0)]) == [(1.0, 2.0)]


def test_a_running_mean_keeps_a_constant() -> None:
    assert running_mean([(float(x), 2.0) for x in range(50)])[::49] == [(0, 2), (49, 2)]


def test_training_without_a_finite_loss_is_not_drawn() -> None:
    steps = [replace(step, loss=math.nan) for step in example_training(3)]
    assert training_chart(training_summary(steps), ()) == ""


def test_one_step_can_be_drawn() -> None:
    step = StepMetrics(0, 0.0, 1.0, 1e-4, 3, 1.0, 0.0, 0.0, 1.0)
    ET.fromstring(training_chart(training_summary([step]), ()))


def test_intervals_that_are_not_numbers_are_said_and_not_drawn() -> None:
    unknown = Interval(math.nan, math.nan, math.nan)
    test = replace(
        example_report().tests[0], delta={"avg_at_k": unknown}, net_of_form=None
    )
    assert forest_plot([test], {}, "avg_at_k") == ""
    assert interval_strip(unknown, "after") == ""
    mixed = forest_plot([test], {"avg_at_k": Interval(0.1, 0.0, 0.2)}, "avg_at_k")
    assert "not measured" in mixed


def test_a_chart_of_intervals_draws_and_says_every_row() -> None:
    known, unknown = Interval(0.2, 0.1, 0.3), Interval(math.nan, 0, 0)
    rows = [
        IntervalRow((("one", "+0.2"), ("net", "+0.1")), (known, known)),
        IntervalRow((("other", "not measured"),), (unknown,)),
    ]
    drawn = IntervalChart("Title", "Of numbers.", rows, "units").draw()
    assert "Of numbers. one +0.2, net +0.1; other not measured." in drawn
    assert drawn.count('class="mark after"') == drawn.count('class="mark net"') == 1
    assert drawn.count("whisker") == 2


def test_nothing_to_draw_gives_nothing() -> None:
    assert reliability_diagram("any", (), ()) == ""
    assert agreement_histogram("any", (), ()) == ""
    assert neuron_chart(None) == neuron_chart(pool_summary((), {})) == ""
    assert training_chart(training_summary(()), ()) == ""
    assert forest_plot((), {}, "ece") == ""


def test_every_figure_is_well_formed_and_announced() -> None:
    drawn = all_figures()
    assert len(drawn) == 10
    for picture in drawn:
        root = ET.fromstring(picture)
        title, description = root[0], root[1]
        assert (title.tag, description.tag) == ("title", "desc")
        assert root.get("role") == "img"
        assert root.get("aria-label") == f"{title.text}. {description.text}"


def test_no_figure_holds_a_style_attribute_or_a_colour_of_its_own() -> None:
    for picture in all_figures():
        assert " style=" not in picture
        assert not re.search(r"#[0-9a-f]{3,6}\b", picture)
        assert "nan" not in picture.lower().replace("unanimous", "")


def test_drawings_stay_inside_their_frame() -> None:
    for picture in all_figures():
        root = ET.fromstring(picture)
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for element in root.iter():
            for key in ("x", "x1", "x2", "cx"):
                assert 0 <= float(element.get(key, 0)) <= width
            for key in ("y", "y1", "y2", "cy"):
                assert 0 <= float(element.get(key, 0)) <= height


def test_a_share_bar_never_leaves_its_track() -> None:
    assert 'width="60"' in share_bar(1.7, "after")
    assert share_bar(-1.0, "after").count("<rect") == 2


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("role", ["ink", "muted", "before", "after", "net"])
def test_words_have_enough_contrast(role: str, scheme: int) -> None:
    for ground in ("paper", "panel"):
        assert contrast(PALETTE[role][scheme], PALETTE[ground][scheme]) >= 4.5


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_the_colours_of_the_data_are_different_colours(scheme: int) -> None:
    colours = [PALETTE[role][scheme] for role in ("before", "after", "net")]
    assert all(one != other for one, other in combinations(colours, 2))


def test_a_long_name_loses_its_middle() -> None:
    assert short_name("lmsi", 12) == "lmsi"
    assert (
        short_name("neuron-opsd-word-nearest", 13)
        == "neuron\N{HORIZONTAL ELLIPSIS}earest"
    )


def test_heights_move_apart_no_more_than_they_must() -> None:
    assert spread([10, 12, 40], gap=14, low=0, high=100) == [10, 24, 40]
    assert spread([95, 99], gap=14, low=0, high=100) == [86, 100]
    assert spread([], gap=14, low=0, high=100) == []


@given(st.lists(st.floats(0, 100), max_size=7))
def test_spread_heights_keep_gap_order_and_room(heights: list[float]) -> None:
    moved = spread(heights, gap=14, low=0, high=100)
    ranked = [moved[i] for i in sorted(range(len(heights)), key=heights.__getitem__)]
    assert all(later - earlier >= 14 - 1e-9 for earlier, later in pairwise(ranked))
    assert all(-1e-9 <= height <= 100 + 1e-9 for height in moved)


ROOM: Box = (0, 0, 360, 300)


@pytest.mark.parametrize("seed", range(40))
def test_names_of_marks_do_not_lie_over_each_other(seed: int) -> None:
    draws = np.random.default_rng(seed).uniform((20, 20), (340, 280), (8, 2))
    marks = [(float(x), float(y)) for x, y in draws]
    labels = place_labels(["a method's name"] * len(marks), marks, ROOM)
    boxes = [label.box for label in labels]
    covered = sum(
        shared(one, other) for i, one in enumerate(boxes) for other in boxes[:i]
    )
    assert covered == 0
    assert all(shared(box, ROOM) > 0.999 * shared(box, box) for box in boxes)


def test_a_name_stands_right_of_a_lone_mark() -> None:
    (label,) = place_labels(["base"], [(100, 100)], ROOM)
    assert label.at[0] == 110
    assert not label.far
    assert text_box("base", label.at)[2] == 110 + 4 * LETTER
