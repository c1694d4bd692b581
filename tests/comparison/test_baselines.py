"""Models of a comparison beside the most frequent gold answer, in numbers and words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from comparison_examples import full_comparison
from neuron_opsd.comparison.contrasting import baseline_contrasts, contrasts
from neuron_opsd.comparison.measuring import Frame, Tested, measurements
from neuron_opsd.report.comparison_index import results_from
from neuron_opsd.report.comparison_outcome import opening
from neuron_opsd.report.comparison_tables import overview
from neuron_opsd.results.comparison import (
    BASE,
    BASELINE,
    FORM,
    IN_DOMAIN,
    ComparisonData,
)
from result_examples import CONFIG, OURS, model

CONSTANT = [0 if place % 3 == 2 else 8 for place in range(60)]
"""Right counts of saying ``a`` to everything; ``a`` is true of two thirds."""

HALF = [4] * 60
LAW = Frame(("law",), ("law",), CONFIG, 5)
RIGHT = [8] * 60
NEARLY = [1 if place == 2 else count for place, count in enumerate(CONSTANT)]


def compared(*models: Tested) -> ComparisonData:
    """Return the comparison of models of the source ``law``."""
    sources = ("law",)
    frame = Frame(sources, sources, CONFIG, 5)
    rows = contrasts(models, frame) + baseline_contrasts(models, frame)
    return replace(
        full_comparison(),
        sources=sources,
        targets=sources,
        seeds=(0,),
        steps=(10,),
        starts=(BASE,),
        measurements=measurements(models, sources, sources),
        contrasts=rows,
    )


def trained(base: Sequence[int], ours: Sequence[int]) -> ComparisonData:
    """Return the comparison of a trained model with its base and with form-only."""
    return compared(
        model("law", BASE, {"law": base}),
        model("law", FORM, {"law": HALF}),
        model("law", OURS, {"law": ours}),
    )


def test_every_model_stands_beside_the_most_frequent_gold_answer() -> None:
    data = trained(HALF, RIGHT)
    rows = [row for row in data.contrasts if row.reference == BASELINE]
    above = {row.place.method: row.difference for row in rows}
    assert above[OURS].value == pytest.approx(1 / 3)
    assert above[BASE].value == pytest.approx(1 / 2 - 2 / 3)
    assert above[OURS].low > 0 > above[BASE].high
    assert {row.place.target for row in rows} == {IN_DOMAIN}
    assert all(math.isnan(row.p_adjusted) for row in rows)


def test_seeds_are_drawn_as_well() -> None:
    models = [
        model("law", BASE, {"law": counts}, seed=seed)
        for seed, counts in enumerate([RIGHT, CONSTANT])
    ]
    (row,) = baseline_contrasts(models, LAW)
    assert row.difference.value == pytest.approx(1 / 6)
    assert row.difference.low == 0.0


def test_a_source_without_labels_has_no_baseline() -> None:
    one = model("law", BASE, {"law": RIGHT})
    result = one.tests["law"]
    scores = tuple(replace(s, gold_answer=s.question_id) for s in result.scores)
    other = replace(one, tests={"law": replace(result, scores=scores)})
    assert baseline_contrasts([other], LAW) == ()
    assert baseline_contrasts([replace(one, tests={})], LAW) == ()


@pytest.mark.parametrize("ours", [CONSTANT, NEARLY])
def test_a_model_that_says_one_thing_is_at_the_baseline(ours: list[int]) -> None:
    data = trained(HALF, ours)
    said = opening(data)
    assert "net of form only: at the baseline; it is at the baseline of 66.7 %" in said
    assert "got better" not in said.partition("in-domain ECE")[0]
    (group,) = overview(results_from(data, BASE), "law").groups
    told = {row.name: row.said for row in group.rows}
    assert told[OURS].startswith("in-domain: at the baseline;")


def test_a_model_above_the_baseline_got_better_without_a_word_of_it() -> None:
    said = opening(trained(HALF, RIGHT))
    assert ": got better; in-domain ECE" in said
    assert "baseline" not in said


def test_a_model_below_the_baseline_is_called_that() -> None:
    said = opening(trained([2] * 60, HALF))
    assert "it is below the baseline of 66.7 %, the most frequent gold answer" in said
