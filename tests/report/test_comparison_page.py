"""The page of a comparison: its claims by hand, its numbers in place, its soundness."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from comparison_examples import (
    METHODS,
    empty_comparison,
    full_comparison,
    small_comparison,
    troubled_comparison,
)
from neuron_opsd.method.calibration import METRICS
from neuron_opsd.records.scores import Interval
from neuron_opsd.report.charts.heat_map import STRONGEST
from neuron_opsd.report.charts.labels import (
    STRONG_LETTER,
)
from neuron_opsd.report.charts.svg import NARROW, PALETTE, SERIES
from neuron_opsd.report.comparison_charts import (
    PANELS,
    heat_maps,
    method_forest,
    role_of,
    step_chart,
    trade_off,
)
from neuron_opsd.report.comparison_index import Results, results_from
from neuron_opsd.report.comparison_outcome import (
    BELOW_FORM,
    FORM_ALONE,
    FORM_UNKNOWN,
    LITTLE_MORE,
    ONLY_FORM,
    gain_verdict,
    opening,
)
from neuron_opsd.report.comparison_page import equality, render_comparison
from neuron_opsd.report.comparison_tables import CONSTANT, p_words
from neuron_opsd.report.measures import METRIC_KINDS
from neuron_opsd.report.wording import number, percent, points
from neuron_opsd.results.comparison import (
    ALL_SOURCES,
    BASE,
    CROSS_DOMAIN,
    FORM,
    IN_DOMAIN,
    SPECIFICITY,
    BudgetLine,
    ComparisonData,
    Contrast,
    Place,
)
from pages import HOSTILE, check_inert, check_links, read, read_tables
from tests.report.test_charts import contrast as contrast_ratio

EXAMPLES: dict[str, Callable[[], ComparisonData]] = {
    "full": full_comparison,
    "small": small_comparison,
    "troubled": troubled_comparison,
    "empty": empty_comparison,
}
FIXED = {BASE, FORM, IN_DOMAIN, CROSS_DOMAIN, SPECIFICITY, ALL_SOURCES, *METRICS}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: render_comparison(data()) for name, data in EXAMPLES.items()}


def difference(low: float, high: float, p_adjusted: float = 0.001) -> Contrast:
    """Return a difference of which nothing but its interval matters."""
    place = Place(BASE, "sst2", "lmsi", 150, IN_DOMAIN, "avg_at_k")
    interval = Interval((low + high) / 2, low, high)
    return Contrast(place, BASE, interval, p_adjusted, p_adjusted)


GAIN, LOSS, NOTHING = difference(0.02, 0.1), difference(-0.1, -0.02), difference(-1, 1)


@pytest.mark.parametrize(
    ("gain", "net", "said"),
    [
        (GAIN, GAIN, "got better"),
        (GAIN, NOTHING, ONLY_FORM),
        (GAIN, LOSS, BELOW_FORM),
        (GAIN, None, FORM_UNKNOWN),
        (NOTHING, GAIN, "no difference seen"),
        (LOSS, GAIN, "got worse"),
        (difference(-0.1, -0.02, 0.2), GAIN, "got worse, not after Holm's correction"),
        (None, GAIN, "not measured"),
        (difference(0.02, 0.1, 0.3), GAIN, "got better, not after Holm's correction"),
        (GAIN, difference(0.02, 0.1, math.nan), "got better"),
    ],
)
def test_a_gain_is_one_only_where_form_does_not_explain_it(
    gain: Contrast | None, net: Contrast | None, said: str
) -> None:
    assert gain_verdict(gain, net, 0.01) == said


def test_what_form_only_training_gains_is_form() -> None:
    assert gain_verdict(GAIN, None, 0.01, FORM) == FORM_ALONE


@pytest.mark.parametrize(
    ("gain", "net", "said"),
    [
        (difference(0.001, 0.009), GAIN, "no difference that matters"),
        (difference(-0.009, -0.001), GAIN, "no difference that matters"),
        (difference(0.001, 0.009, 0.3), GAIN, "no difference that matters"),
        (difference(0.001, 0.019), GAIN, "got better"),
        (GAIN, difference(0.001, 0.009), LITTLE_MORE),
    ],
)
def test_a_difference_too_small_to_matter_is_no_gain(
    gain: Contrast, net: Contrast, said: str
) -> None:
    assert gain_verdict(gain, net, 0.01) == said


def test_the_opening_of_a_warm_start_says_where_training_began() -> None:
    data = full_comparison()
    rows = tuple(
        row
        for row in data.contrasts
        if row.place.start == FORM or row.place.method == FORM
    )
    measured = tuple(
        row
        for row in data.measurements
        if row.place.start == FORM or row.place.method in (BASE, FORM, "prompted")
    )
    warm = replace(data, contrasts=rows, measurements=measured)
    assert opening(warm).startswith("From form-only: neuron-opsd ")
    assert "points" in opening(warm)


def test_the_opening_states_base_and_net_of_form_and_the_interval() -> None:
    data = small_comparison()
    rows = [
        replace(row, difference=Interval(0.061, 0.03, 0.092), p_adjusted=0.001)
        if row.reference == BASE
        else replace(row, difference=Interval(0.012, -0.008, 0.031))
        for row in data.contrasts
        if row.place.metric == "avg_at_k"
    ]
    said = opening(replace(data, contrasts=tuple(rows)))
    assert said.startswith(
        "neuron-opsd on sst2: +6.1 points (+3.0 to +9.2) against base in-domain, "
        "+1.2 points (\N{MINUS SIGN}0.8 to +3.1) net of form only: above base, but no "
        "difference seen from form-only training; cross-domain "
    )


def test_p_values_have_as_many_digits_as_they_bear() -> None:
    assert [p_words(p) for p in (0.0004, 0.0123, 1.0, math.nan)] == [
        "p < .001",
        "p .012",
        "p 1.000",
        "",
    ]


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ((2400, 2400), "Prompts are equal for all methods."),
        (
            (2400, 4800),
            "Prompts are not equal: on sst2 from 2,400 (form-only) to 4,800 (lmsi).",
        ),
        (
            (2400,),
            "Prompts cannot be compared: fewer than two methods were trained.",
        ),
    ],
)
def test_budgets_that_differ_are_said_to(prompts: tuple[float, ...], said: str) -> None:
    lines = tuple(
        BudgetLine(BASE, "sst2", method, count, 1, 1, 1)
        for method, count in zip((FORM, "lmsi"), prompts, strict=False)
    )
    assert equality(replace(small_comparison(), budgets=lines))[0] == said


def test_a_method_that_draws_nothing_does_not_count_as_unequal() -> None:
    lines = tuple(
        BudgetLine(BASE, "sst2", method, 1, count, 1, 1)
        for method, count in ((FORM, 0), ("lmsi", 30), ("ttrl", 30))
    )
    assert equality(replace(small_comparison(), budgets=lines))[1:] == [
        "Generated tokens are equal for all methods.",
        "No tokens are generated by form-only.",
    ]


def test_every_accuracy_and_error_stands_in_its_row(pages: Mapping[str, str]) -> None:
    data, tables = full_comparison(), read_tables(pages["full"])
    columns = (*data.sources, ALL_SOURCES)
    for metric, label, write in (
        ("avg_at_k", "Avg@8, mean accuracy", percent),
        ("ece", "ECE, calibration error", number),
    ):
        for start, rows in zip(data.starts, tables[label][::3], strict=True):
            assert rows[0] == ["method", *columns]
            results = results_from(data, start)
            for target, part in zip(
                (IN_DOMAIN, CROSS_DOMAIN), halves(rows), strict=True
            ):
                for name, *cells in part:
                    if name == CONSTANT:
                        continue
                    for source, cell in zip(columns, cells, strict=True):
                        assert cell.split(" ")[0] == first_word(
                            results, (source, name, target, metric), write
                        )


def halves(rows: list[list[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """Return the rows under in-domain and under the cross-domain mean."""
    middle = rows.index(["mean of cross-domain sets"])
    assert rows[1] == [IN_DOMAIN]
    return rows[2:middle], rows[middle + 1 :]


def first_word(
    results: Results,
    place: tuple[str, str, str, str],
    write: Callable[[float | None], str],
) -> str:
    """Return the number that a cell should begin with."""
    source, name, target, metric = place
    if name == "base, majority vote":
        name, metric = BASE, "maj_at_k"
    found = results.measurement(source, name, target, metric)
    return write(None if found is None else found.value).split(" ")[0]


def test_every_cell_of_the_matrices_is_the_measure_of_its_place(
    pages: Mapping[str, str],
) -> None:
    data, tables = full_comparison(), read_tables(pages["full"])
    rows = next(t for t in tables["Avg@8, mean accuracy"] if t[1] == [BASE])
    results = results_from(data, BASE)
    assert rows[0] == ["trained on", *data.targets]
    method, seen = "", 0
    for row in rows[1:]:
        if len(row) == 1:
            method = row[0]
            continue
        source = data.sources[0] if method == BASE else row[0]
        for target, cell in zip(data.targets, row[1:], strict=True):
            place = (source, method, target, "avg_at_k")
            assert cell.split(" ")[0] == first_word(results, place, percent)
            seen += 1
    assert seen == 8 + 8 * 6 + 6 * 6 * 8


def test_every_difference_stands_in_the_overview(pages: Mapping[str, str]) -> None:
    data = full_comparison()
    label = f"Every method against base and form-only, {ALL_SOURCES}"
    for start, rows in zip(data.starts, read_tables(pages["full"])[label], strict=True):
        results = results_from(data, start)
        for name, *cells in (row for row in rows[1:] if len(row) > 1):
            wanted = [
                results.contrast((ALL_SOURCES, name, target, "avg_at_k"), reference)
                for target in (IN_DOMAIN, CROSS_DOMAIN)
                for reference in (BASE, FORM)
            ]
            for contrast, cell in zip(wanted, cells, strict=False):
                value = None if contrast is None else contrast.difference.value
                assert cell.split(" ")[0] == points(value)


def test_the_specificity_of_every_source_is_shown(pages: Mapping[str, str]) -> None:
    data = full_comparison()
    first, second = read_tables(pages["full"])["Source specificity, points of accuracy"]
    results = results_from(data, BASE)
    (row,) = [row for row in first if row[0] == "neuron-opsd"]
    for source, cell in zip(data.sources, row[1:], strict=False):
        place = (source, "neuron-opsd", SPECIFICITY, "avg_at_k")
        contrast = results.contrast(place, BASE)
        assert contrast is not None
        assert cell.startswith(points(contrast.difference.value))
    assert first != second


def test_a_method_that_saw_gold_answers_is_marked_wherever_it_stands(
    pages: Mapping[str, str],
) -> None:
    text = read(pages["troubled"]).text
    assert "Saw gold answers. oracle-grpo \N{DAGGER}: shown as an upper limit" in text
    assert not re.findall("oracle-grpo(?! \N{DAGGER})", text)


def test_failures_and_missing_cells_are_told_before_the_results(
    pages: Mapping[str, str],
) -> None:
    page = pages["troubled"]
    text = read(page).text
    assert "1 cell of the comparison ended without a result" in text
    assert "3 cells are still to be run" in text
    assert "seed 1 of ttrl was run with another version" in text
    (rows,) = read_tables(page)["Failed cells"]
    assert rows[1] == ["lmsi", "arc_easy", BASE, "2", "the loss was not a number"]
    assert page.index('id="warnings"') < page.index('id="differences-1"')


def test_many_warnings_are_folded_and_none_is_lost() -> None:
    warnings = tuple(f"no. {n};" for n in range(11))
    page = render_comparison(replace(full_comparison(), warnings=warnings))
    shown, _, more = page.partition("<summary>3 more warnings")
    assert all(f"no. {n};" in (shown if n < 8 else more) for n in range(11))


def test_a_start_from_form_only_is_said_to_be_one(pages: Mapping[str, str]) -> None:
    text = read(pages["full"]).text
    assert "training began from the form-only model" in text
    assert "Training began from the form-only model, so the gain" in text
    assert "training began from the form-only" not in read(pages["small"]).text


def test_rows_of_the_base_start_stand_for_models_that_belong_to_every_start() -> None:
    data = full_comparison()
    base, form = (results_from(data, start) for start in (BASE, FORM))
    place = ("sst2", BASE, IN_DOMAIN, "avg_at_k")
    assert form.measurement(*place) == base.measurement(*place) is not None
    own = ("sst2", "lmsi", IN_DOMAIN, "avg_at_k")
    assert form.measurement(*own) != base.measurement(*own)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_page_is_sound_html(pages: Mapping[str, str], name: str) -> None:
    check_links(pages[name])


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_page_loads_nothing_and_runs_nothing(
    pages: Mapping[str, str], name: str
) -> None:
    check_inert(pages[name])


def test_the_policy_allows_this_style_sheet_and_no_other(
    pages: Mapping[str, str],
) -> None:
    page = pages["full"]
    match = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert match is not None
    digest = base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()
    (policy,) = [v for v in read(page).values("content") if "default-src" in v]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; ")
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_drawing_has_a_title(pages: Mapping[str, str], name: str) -> None:
    for opening_tag in re.findall(r"<svg[^>]*>.{0,40}", pages[name]):
        assert 'role="img"' in opening_tag
        assert "><title>" in opening_tag


def test_every_table_scrolls_in_a_box_of_its_own(pages: Mapping[str, str]) -> None:
    page = pages["full"]
    assert page.count("<table") == len(
        re.findall(r'<div class="scroll" [^>]*>\s*<table', page)
    )


def test_equal_data_give_equal_bytes(pages: Mapping[str, str]) -> None:
    assert render_comparison(full_comparison()) == pages["full"]


def test_the_order_of_the_rows_does_not_matter(pages: Mapping[str, str]) -> None:
    data = troubled_comparison()
    turned = replace(
        data, measurements=data.measurements[::-1], contrasts=data.contrasts[::-1]
    )
    assert render_comparison(turned) == pages["troubled"]


def test_a_large_comparison_stays_below_four_megabytes(
    pages: Mapping[str, str],
) -> None:
    assert len(pages["full"].encode()) < 4_000_000


def poisoned(value: Any) -> Any:
    """Return a copy in which every free text is hostile; equal texts stay equal."""
    if isinstance(value, str):
        return value if value in FIXED else f"{value[:6]}{HOSTILE}{value}"
    if isinstance(value, Mapping):
        return {poisoned(key): poisoned(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(map(poisoned, value))
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        return replace(value, **{name: poisoned(part) for name, part in parts.items()})
    return value


def test_hostile_text_in_every_field_stays_text(pages: Mapping[str, str]) -> None:
    page = render_comparison(poisoned(troubled_comparison()))
    page.encode("utf-8")
    reader = read(page)
    assert reader.tags == read(pages["troubled"]).tags
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert not reader.values("src")
    assert "{{ 7*7 }}" in reader.text
    assert "[U+001B][31m[U+0000][U+202E][U+2066][U+D800]" in reader.text
    assert not set(page) & {"\x1b", "\x00", "\u202e", "\u2066", "\ud800"}


def test_numbers_that_are_not_numbers_are_dashes() -> None:
    data = small_comparison()
    nothing = Interval(math.nan, math.nan, math.nan)
    blank = replace(
        data,
        measurements=tuple(
            replace(row, value=math.nan, by_seed=(math.nan,))
            for row in data.measurements
        ),
        contrasts=tuple(
            replace(row, difference=nothing, p_value=math.nan, p_adjusted=math.nan)
            for row in data.contrasts
        ),
    )
    text = read(render_comparison(blank)).text
    assert not re.search(r"\bnan\b", text)
    assert "in-domain accuracy was not compared with base" in text


def test_a_comparison_without_results_still_has_a_page(
    pages: Mapping[str, str],
) -> None:
    text = read(pages["empty"]).text
    assert "12 cells are still to be run" in text
    assert "No differences were measured." in text
    render_comparison(
        replace(
            empty_comparison(),
            sources=(),
            targets=(),
            methods=(),
            starts=(),
            seeds=(),
            steps=(),
        )
    )


def test_every_metric_that_is_measured_has_a_table(pages: Mapping[str, str]) -> None:
    labels = {kind.label.replace("@k", "@8") for kind in METRIC_KINDS}
    assert labels <= set(read_tables(pages["full"]))


def test_a_map_has_one_scale_of_colours_for_all_methods() -> None:
    results = results_from(full_comparison(), BASE)
    maps = heat_maps(results)
    strengths = [
        float(value)
        for drawing in maps
        for value in re.findall(r'fill-opacity="([\d.]+)"', drawing)
    ]
    assert len(maps) == 6
    assert len(strengths) == 6 * 6 * 8
    assert max(strengths) == 0.5
    assert all(drawing.count('class="own"') == 6 for drawing in maps)


def test_a_map_colours_gain_and_loss_apart_and_writes_the_number() -> None:
    data = small_comparison()
    rows = [
        replace(row, difference=Interval(value, value - 0.01, value + 0.01))
        for row in data.contrasts
        for value in [0.1 if row.place.target == "sst2" else -0.05]
        if row.place.target in ("sst2", "arc_easy")
    ]
    (drawing, *_) = heat_maps(results_from(replace(data, contrasts=tuple(rows)), BASE))
    assert 'class="gain" fill-opacity="0.50"' in drawing
    assert 'class="loss" fill-opacity="0.25"' in drawing
    assert ">+10<" in drawing
    assert ">\N{MINUS SIGN}5.0<" in drawing


def test_a_forest_writes_every_number_that_it_draws() -> None:
    results = results_from(full_comparison(), BASE)
    drawing = method_forest(results, ALL_SOURCES, PANELS[0])
    for line in results.trained:
        place = (ALL_SOURCES, line.name, IN_DOMAIN, "avg_at_k")
        gain = results.contrast(place, BASE)
        assert gain is not None
        assert f"{line.name} {points(gain.difference.value)} (" in drawing


def test_a_model_without_a_mean_over_sources_is_left_out_of_the_plane() -> None:
    results = results_from(troubled_comparison(), BASE)
    assert "lmsi" not in trade_off(results, ALL_SOURCES)
    assert "lmsi" in trade_off(results, "sst2")


def test_a_long_name_in_bold_ends_within_the_chart_of_steps() -> None:
    data, long = full_comparison(), "neuron-opsd-balanced-by-own-answers"
    methods = [
        replace(line, name=long) if line.name == "neuron-opsd" else line
        for line in data.methods
    ]
    rows = [
        replace(row, place=replace(row.place, method=long))
        for row in data.measurements
        if row.place.method == "neuron-opsd"
    ]
    changed = replace(data, methods=tuple(methods), measurements=tuple(rows))
    drawing = step_chart(results_from(changed, BASE), "sst2", "avg_at_k")
    ((left, name),) = re.findall(r'<text x="([\d.]+)"[^>]*>(neuron[^<]*)<', drawing)
    assert len(name) == 18
    assert float(left) + STRONG_LETTER * len(name) <= NARROW


def test_a_method_keeps_its_colour_from_start_to_start() -> None:
    data = full_comparison()
    roles = [
        [role_of(results_from(data, start), line.name) for line in METHODS]
        for start in (BASE, FORM)
    ]
    assert roles[0] == roles[1]
    assert len(set(roles[0])) == len(METHODS) - 1  # base and prompted are untrained


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_names_in_colour_can_be_read(scheme: int) -> None:
    paper = PALETTE["paper"][scheme]
    assert all(contrast_ratio(pair[scheme], paper) >= 4.5 for pair in SERIES)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("role", ["after", "before"])
def test_numbers_on_the_strongest_colour_can_be_read(role: str, scheme: int) -> None:
    colour, paper, ink = (PALETTE[one][scheme] for one in (role, "paper", "ink"))
    assert contrast_ratio(mixed(colour, paper, STRONGEST), ink) >= 4.5


def mixed(colour: str, paper: str, share: float) -> str:
    """Return the colour that a share of one over another gives."""
    parts = (
        share * int(colour[i : i + 2], 16) + (1 - share) * int(paper[i : i + 2], 16)
        for i in (1, 3, 5)
    )
    return "#" + "".join(f"{round(part):02x}" for part in parts)
