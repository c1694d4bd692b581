"""Means over seeds, sets and sources, worked by hand."""

from __future__ import annotations

import math
import random

import pytest

from neuron_opsd.comparison.measuring import Tested, measurements
from neuron_opsd.method.calibration import METRICS
from neuron_opsd.results.comparison import (
    ALL_SOURCES,
    BASE,
    CROSS_DOMAIN,
    FORM,
    IN_DOMAIN,
    Measurement,
    Place,
)
from result_examples import OURS, model

SOURCES = ("law", "art")
TARGETS = ("law", "art", "sea")

LAW = [
    model("law", OURS, {"law": [8, 4], "art": [4, 4], "sea": [2]}, seed=0),
    model("law", OURS, {"law": [4, 4], "art": [2, 2], "sea": [0]}, seed=1),
]
ART = [
    model("art", OURS, {"law": [0, 0], "art": [8, 8], "sea": [4]}, seed=0),
    model("art", OURS, {"law": [4, 4], "art": [6, 6], "sea": [0]}, seed=1),
]


def found(
    models: list[Tested], source: str, target: str, metric: str = "avg_at_k"
) -> list[Measurement]:
    """Return the rows of our method at one place, of which there is one at most."""
    place = Place(BASE, source, OURS, 10, target, metric)
    return [row for row in measurements(models, SOURCES, TARGETS) if row.place == place]


@pytest.mark.parametrize(
    ("source", "target", "value", "by_seed"),
    [
        ("law", "law", 0.625, (0.75, 0.5)),
        ("law", IN_DOMAIN, 0.625, (0.75, 0.5)),
        ("law", "art", 0.375, (0.5, 0.25)),
        ("law", "sea", 0.125, (0.25, 0.0)),
        ("law", CROSS_DOMAIN, 0.25, (0.375, 0.125)),
        ("art", CROSS_DOMAIN, 0.25, (0.25, 0.25)),
        (ALL_SOURCES, IN_DOMAIN, 0.75, (0.875, 0.625)),
        (ALL_SOURCES, CROSS_DOMAIN, 0.25, (0.3125, 0.1875)),
    ],
)
def test_means_by_hand(
    source: str, target: str, value: float, by_seed: tuple[float, ...]
) -> None:
    (row,) = found(LAW + ART, source, target)
    assert row.value == pytest.approx(value)
    assert row.by_seed == pytest.approx(by_seed)


def test_every_measure_of_every_target_has_one_row() -> None:
    rows = measurements(LAW + ART, SOURCES, TARGETS)
    # Two sources with three sets and two summaries each, and the summaries' means.
    assert len(rows) == len({row.place for row in rows}) == 12 * len(METRICS)
    assert {row.place.metric for row in rows} == set(METRICS)


def test_a_model_that_did_not_answer_every_set_has_no_cross_domain_mean() -> None:
    prompted = model("law", OURS, {"law": [8, 4]})
    assert found([prompted], "law", IN_DOMAIN)
    assert not found([prompted], "law", CROSS_DOMAIN)
    assert not found([prompted], "law", "art")


def test_a_seed_that_did_not_answer_a_set_stays_out_of_its_means() -> None:
    half = model("law", OURS, {"law": [8, 8], "art": [8, 8]}, seed=2)
    models = [*LAW, half]
    assert found(models, "law", "art")[0].by_seed == (0.5, 0.25, 1.0)
    assert found(models, "law", CROSS_DOMAIN) == found(LAW, "law", CROSS_DOMAIN)


def test_a_single_set_has_no_cross_domain_mean() -> None:
    rows = measurements([model("law", OURS, {"law": [8]})], ["law"], ["law"])
    assert CROSS_DOMAIN not in {row.place.target for row in rows}


def test_a_mean_over_sources_needs_all_of_them() -> None:
    assert not found(LAW, ALL_SOURCES, IN_DOMAIN)
    assert not found([LAW[0], ART[1]], ALL_SOURCES, IN_DOMAIN)


def test_a_mean_over_sources_keeps_the_seeds_that_all_sources_have() -> None:
    (row,) = found([*LAW, ART[1]], ALL_SOURCES, IN_DOMAIN)
    assert row.by_seed == (0.625,)
    # Sources weigh alike: the means 0.625 of two seeds and 0.75 of one.
    assert row.value == pytest.approx(0.6875)


def test_a_measure_that_a_seed_lacks_has_no_mean() -> None:
    # Where all votes are right there is no AUROC.
    models = [LAW[0], model("law", OURS, {"law": [8, 8]}, seed=1)]
    (row,) = found(models, "law", IN_DOMAIN, "auroc")
    assert not math.isnan(row.by_seed[0])
    assert math.isnan(row.by_seed[1])
    assert math.isnan(row.value)


def test_models_and_results_nobody_asked_for_are_left_out() -> None:
    extra = [
        model("war", OURS, {"law": [8, 8]}),
        model("law", OURS, {"law": [8, 4], "war": [8]}, seed=7, step=20),
    ]
    rows = measurements(extra, SOURCES, TARGETS)
    assert {row.place.source for row in rows} == {"law"}
    assert {row.place.target for row in rows} == {"law", IN_DOMAIN}


def test_the_order_of_the_models_does_not_matter() -> None:
    models = LAW + ART
    shuffled = random.Random(0).sample(models, len(models))
    # As text, in which a missing number is like another.
    assert repr(measurements(shuffled, SOURCES, TARGETS)) == repr(
        measurements(models, SOURCES, TARGETS)
    )


def test_rows_follow_start_then_source_then_method() -> None:
    models = [
        model("art", "b", {"art": [8, 8]}, start=FORM),
        model("art", "b", {"art": [8, 8]}),
        model("law", "b", {"law": [8, 8]}),
        model("law", "a", {"law": [8, 8]}),
    ]
    rows = measurements(models, SOURCES, TARGETS)
    places = [row.place for row in rows]
    order = dict.fromkeys((p.start, p.source, p.method) for p in places)
    assert list(order) == [
        (BASE, "law", "a"),
        (BASE, "law", "b"),
        (BASE, "art", "b"),
        (BASE, ALL_SOURCES, "b"),
        (FORM, "art", "b"),
    ]


def test_a_model_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"method='neuron-opsd'.* twice with seed 0"):
        measurements([LAW[0], LAW[0]], SOURCES, TARGETS)
