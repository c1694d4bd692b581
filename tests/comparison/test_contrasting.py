"""Differences of a comparison, worked by hand and against their slow twins."""

from __future__ import annotations

import math
import random
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest

from neuron_opsd.comparison import measuring
from neuron_opsd.comparison.contrasting import adjusted, contrasts
from neuron_opsd.comparison.measuring import CONTRASTED, Frame, Tested
from neuron_opsd.config import EvaluationConfig
from neuron_opsd.method.calibration import METRICS, ScoreColumns
from neuron_opsd.method.statistics import FloatArray
from neuron_opsd.records.scores import Interval
from neuron_opsd.results.comparison import (
    ALL_SOURCES,
    BASE,
    CROSS_DOMAIN,
    FORM,
    IN_DOMAIN,
    SPECIFICITY,
    Contrast,
    Place,
)
from neuron_opsd.seeds import generator
from neuron_opsd.stages.scoring import mean_of_tests, score_differences
from result_examples import CONFIG, OURS, model

SOURCES = ("law", "art")
TARGETS = ("law", "art", "sea")
TTRL = "ttrl"


def spread(name: str, method: str, seed: int = 0) -> list[int]:
    """Return the counts of 30 questions, others for each set, method and seed."""
    return [int(n) for n in generator(name, method, seed).integers(0, 9, size=30)]


def spread_model(
    source: str, method: str, seed: int = 0, *, start: str = BASE
) -> Tested:
    """Return a model that answered every set."""
    tests = {name: spread(name, f"{source} {method} {start}", seed) for name in TARGETS}
    return model(source, method, tests, seed=seed, start=start)


def all_models(num_seeds: int = 2) -> list[Tested]:
    """Return models of two sources and four methods."""
    return [
        spread_model(source, method, seed)
        for source in SOURCES
        for method in (BASE, FORM, OURS, TTRL)
        for seed in range(num_seeds)
    ]


def run(
    models: Sequence[Tested],
    *,
    config: EvaluationConfig = CONFIG,
    rivals: Sequence[tuple[str, str]] = (),
) -> tuple[Contrast, ...]:
    """Return all contrasts of two sources and three sets."""
    return contrasts(models, Frame(SOURCES, TARGETS, config, 5), rivals)


def found(
    rows: Sequence[Contrast],
    target: str,
    reference: str = BASE,
    *,
    method: str = OURS,
    source: str = "law",
    metric: str = "avg_at_k",
) -> list[Contrast]:
    """Return the rows of one method against one reference on one target."""
    return [
        row
        for row in rows
        if (row.place.target, row.reference) == (target, reference)
        and (row.place.method, row.place.source, row.place.metric)
        == (method, source, metric)
    ]


def only(
    rows: Sequence[Contrast],
    target: str,
    reference: str = BASE,
    *,
    source: str = "law",
    metric: str = "avg_at_k",
) -> Contrast:
    """Return the one row of our method that there must be."""
    (row,) = found(rows, target, reference, source=source, metric=metric)
    return row


def flat(source: str, method: str, seed: int, **counts: int) -> Tested:
    """Return a model that answers all four questions of a set equally often right."""
    return model(source, method, {k: [v] * 4 for k, v in counts.items()}, seed=seed)


def test_one_seed_has_the_interval_that_two_models_have() -> None:
    models = all_models(num_seeds=1)
    rows = run(models)
    tests = {(one.arm.source, one.arm.method): one.tests for one in models}
    for reference in (BASE, FORM):
        before, after = tests["law", reference], tests["law", OURS]
        for name, target in [("law", IN_DOMAIN), ("art", "art"), ("sea", "sea")]:
            expected = score_differences(before[name], after[name], CONFIG, 5)
            for metric in CONTRASTED:
                row = only(rows, target, reference, metric=metric)
                assert row.difference == expected[metric]
        others = ("art", "sea")
        mean = mean_of_tests(
            [before[name] for name in others],
            [after[name] for name in others],
            CONFIG,
            5,
        )
        for metric in CONTRASTED:
            difference = only(rows, CROSS_DOMAIN, reference, metric=metric).difference
            assert (difference.value, difference.low, difference.high) == pytest.approx(
                (mean[metric].value, mean[metric].low, mean[metric].high)
            )


def test_a_constant_gain_by_hand() -> None:
    models = [
        flat("law", BASE, 0, law=4, art=4, sea=4),
        flat("law", OURS, 0, law=6, art=4, sea=2),
    ]
    rows = run(models)
    for target, gain in [("law", 0.25), (IN_DOMAIN, 0.25), (CROSS_DOMAIN, -0.125)]:
        row = only(rows, target)
        assert row.difference == Interval(gain, gain, gain)
        assert row.p_value == pytest.approx(2 / 201)
    assert only(rows, "art").p_value == 1.0
    # Every vote is right afterwards, so there is no AUROC to compare.
    missing = only(rows, "law", metric="auroc")
    assert math.isnan(missing.difference.value)
    assert math.isnan(missing.p_value)
    assert math.isnan(missing.p_adjusted)


def test_seeds_that_disagree_widen_the_interval() -> None:
    base = [flat("law", BASE, seed, law=2) for seed in (0, 1)]
    alike = [flat("law", OURS, seed, law=4) for seed in (0, 1)]
    apart = [flat("law", OURS, 0, law=6), flat("law", OURS, 1, law=2)]
    assert only(run(base + alike), IN_DOMAIN).difference == Interval(0.25, 0.25, 0.25)
    row = only(run(base + apart), IN_DOMAIN)
    assert row.difference == Interval(0.25, 0.0, 0.5)
    # A quarter of the resamples draws the seed without gain twice.
    assert 0.2 < row.p_value < 0.9


def test_the_mean_over_sources_matches_its_slow_twin() -> None:
    models = all_models()
    row = only(run(models), IN_DOMAIN, source=ALL_SOURCES)
    accuracy = {
        (one.arm.source, one.arm.method, one.seed): np.array(
            [score.num_correct / 8 for score in one.tests[one.arm.source].scores]
        )
        for one in models
    }
    num = CONFIG.num_resamples
    questions, seeds = (
        {s: generator(5, label, s).integers(most, size=size) for s in SOURCES}
        for label, most, size in [
            ("bootstrap", 30, (num, 30)),
            ("bootstrap seeds", 2, (2, num)),
        ]
    )
    draws = [
        np.mean(
            [
                (accuracy[s, OURS, k] - accuracy[s, BASE, k])[questions[s][r]].mean()
                for s in SOURCES
                for k in seeds[s][:, r]
            ]
        )
        for r in range(num)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    assert (row.difference.low, row.difference.high) == pytest.approx((low, high))
    sources = [only(run(models), IN_DOMAIN, source=s).difference for s in SOURCES]
    assert row.difference.value == pytest.approx(np.mean([d.value for d in sources]))


@pytest.mark.parametrize(
    ("base_of_art", "expected"),
    [
        pytest.param(4, 0.375 - (-0.125), id="the-same-base"),
        pytest.param(2, 0.375 - 0.125, id="other-answers-of-the-base"),
    ],
)
def test_specificity_by_hand(base_of_art: int, expected: float) -> None:
    models = [
        flat("law", BASE, 0, law=4, art=4),
        flat("art", BASE, 0, law=base_of_art, art=4),
        flat("law", OURS, 0, law=7, art=4),
        flat("art", OURS, 0, law=3, art=4),
    ]
    rows = run(models)
    assert only(rows, SPECIFICITY).difference == Interval(expected, expected, expected)
    assert only(rows, SPECIFICITY, source="art").difference == Interval(0.0, 0.0, 0.0)
    mean = only(rows, SPECIFICITY, source=ALL_SOURCES)
    assert mean.difference.value == pytest.approx(expected / 2)
    assert {r.reference for r in rows if r.place.target == SPECIFICITY} == {BASE}


def test_specificity_compares_sources_seed_by_seed() -> None:
    # The models of the two sources drift alike with the seed, which says nothing.
    models = [flat(source, BASE, seed, law=4) for source in SOURCES for seed in (0, 1)]
    models += [flat("law", OURS, seed, law=5 + 2 * seed) for seed in (0, 1)]
    models += [flat("art", OURS, seed, law=4 + 2 * seed) for seed in (0, 1)]
    difference = only(run(models), SPECIFICITY).difference
    assert difference == Interval(0.125, 0.125, 0.125)


def test_the_mean_specificity_draws_a_seed_for_all_sources() -> None:
    # At either seed one source is specific by 2 of 8 and the other is not.
    models = [
        flat(source, method, seed, law=4, art=4)
        if method == BASE
        else flat(source, OURS, seed, **{"law": 4, "art": 4, source: own})
        for source, gains in [("law", (6, 4)), ("art", (4, 6))]
        for seed, own in enumerate(gains)
        for method in (BASE, OURS)
    ]
    rows = run(models)
    assert only(rows, SPECIFICITY).difference == Interval(0.125, 0.0, 0.25)
    mean = only(rows, SPECIFICITY, source=ALL_SOURCES)
    assert mean.difference == Interval(0.125, 0.125, 0.125)


def test_specificity_needs_the_models_of_all_other_sources() -> None:
    models = [flat(source, BASE, 0, law=4) for source in SOURCES]
    alone = [*models, flat("law", OURS, 0, law=6)]
    assert not found(run(alone), SPECIFICITY)
    other_seed = [*alone, flat("art", OURS, 1, law=6), flat("art", BASE, 1, law=4)]
    assert not found(run(other_seed), SPECIFICITY)
    one_source = contrasts(alone, Frame(("law",), ("law",), CONFIG, 5))
    assert SPECIFICITY not in {row.place.target for row in one_source}


def test_models_that_began_from_the_form_have_the_same_references() -> None:
    models = [
        flat("law", BASE, 0, law=2),
        flat("law", FORM, 0, law=4),
        model("law", BASE, {"law": [4] * 4}, start=FORM),
        model("law", OURS, {"law": [7] * 4}, start=FORM),
    ]
    rows = run(models)
    assert only(rows, IN_DOMAIN, BASE).difference.value == 0.625
    assert only(rows, IN_DOMAIN, FORM).difference.value == 0.375
    assert only(rows, IN_DOMAIN).place.start == FORM
    # Where training begins is a model of its own, and no method.
    assert not found(rows, IN_DOMAIN, FORM, method=BASE)


def test_form_only_is_taken_at_the_same_step_or_at_its_last() -> None:
    models = [
        model("law", FORM, {"law": [1] * 4}, step=10),
        model("law", FORM, {"law": [3] * 4}, step=20),
        model("law", OURS, {"law": [4] * 4}, step=10),
        model("law", OURS, {"law": [4] * 4}, step=30),
    ]
    rows = run(models)
    gains = {r.place.step: r.difference.value for r in found(rows, IN_DOMAIN, FORM)}
    assert gains == {10: 0.375, 30: 0.125}


def test_no_model_is_compared_with_itself() -> None:
    rows = run(all_models())
    methods = {(row.place.method, row.reference) for row in rows}
    assert methods == {(FORM, BASE), (OURS, BASE), (OURS, FORM)} | {
        (TTRL, BASE),
        (TTRL, FORM),
    }


def test_a_warm_start_is_compared_with_where_it_began() -> None:
    rows = run(
        [
            model("law", FORM, {"law": [1] * 4}, step=10),
            model("law", FORM, {"law": [3] * 4}, step=20),
            model("law", OURS, {"law": [5] * 4}, step=10, start=FORM),
            model("law", OURS, {"law": [5] * 4}, step=20, start=FORM),
        ]
    )
    gains = {r.place.step: r.difference.value for r in found(rows, IN_DOMAIN, FORM)}
    assert gains == {10: 0.25, 20: 0.25}


def test_rivals_are_compared_at_the_same_start_source_and_step() -> None:
    models = all_models()
    rows = run(models, rivals=[(OURS, TTRL), (OURS, "none such"), (OURS, BASE)])
    rival = only(rows, IN_DOMAIN, TTRL).difference
    ours, theirs = (found(rows, IN_DOMAIN, method=m)[0] for m in (OURS, TTRL))
    assert rival.value == pytest.approx(ours.difference.value - theirs.difference.value)
    later = [*models, model("law", OURS, {"law": spread("law", "later")}, step=20)]
    rows = run(later, rivals=[(OURS, TTRL)])
    steps = {row.place.step for row in rows if row.reference == TTRL}
    assert steps == {10}


def test_a_reference_that_is_named_as_a_rival_stands_once() -> None:
    models = [
        *(flat("law", method, 0, law=2) for method in (BASE, FORM, OURS)),
        *(
            model("law", method, {"law": [4] * 4}, start=FORM, step=10)
            for method in (BASE, FORM, OURS)
        ),
    ]
    rows = run(models, rivals=[(OURS, BASE), (OURS, FORM)])
    names = [(row.place, row.reference) for row in rows]
    assert len(set(names)) == len(names)


def test_only_the_seeds_of_both_models_count() -> None:
    models = [
        *(flat("law", BASE, seed, law=2) for seed in (0, 2)),
        flat("law", OURS, 0, law=4),
        flat("law", OURS, 1, law=8),
    ]
    assert only(run(models), IN_DOMAIN).difference == Interval(0.25, 0.25, 0.25)
    assert not found(run(models[1:]), IN_DOMAIN)


def test_a_set_that_was_not_answered_leaves_out_what_needs_it() -> None:
    models = all_models(num_seeds=1)
    tests = {name: spread(name, "short") for name in ("law", "sea")}
    whole = [one for one in models if (one.arm.source, one.arm.method) != ("law", OURS)]
    rows = run([*whole, model("law", OURS, tests)])
    assert found(rows, IN_DOMAIN)
    assert found(rows, IN_DOMAIN, source=ALL_SOURCES)
    assert found(rows, "sea")
    assert not found(rows, "art")
    assert not found(rows, CROSS_DOMAIN)
    assert found(rows, CROSS_DOMAIN, source="art")
    assert not found(rows, CROSS_DOMAIN, source=ALL_SOURCES)


def test_nothing_tested_is_nothing_compared() -> None:
    assert run([]) == ()
    assert run([flat("law", BASE, 0, law=2)]) == ()


def test_only_the_same_questions_are_paired() -> None:
    models = [
        model("law", BASE, {"law": [1, 2, 3]}),
        model("law", OURS, {"law": [1, 2]}),
    ]
    with pytest.raises(ValueError, match="cannot pair law"):
        run(models)


def test_neither_the_order_of_models_nor_others_beside_them_change_a_row() -> None:
    models = all_models()
    rows = run(models)
    assert run(random.Random(1).sample(models, len(models))) == rows
    fewer = run([one for one in models if one.arm.method != TTRL])
    for one, other in zip(
        fewer, (row for row in rows if row.place.method != TTRL), strict=True
    ):
        assert (one.place, one.difference, one.p_value) == (
            other.place,
            other.difference,
            other.p_value,
        )


def test_what_is_compared_is_a_measure() -> None:
    assert set(CONTRASTED) <= set(METRICS)


def row_of(
    p_value: float,
    target: str = IN_DOMAIN,
    *,
    source: str = "law",
    method: str = OURS,
    reference: str = BASE,
    step: int = 10,
) -> Contrast:
    """Return a contrast that has nothing but a p-value."""
    place = Place(BASE, source, method, step, target, "ece")
    return Contrast(place, reference, Interval(0.0, 0.0, 0.0), p_value, math.nan)


def adjusted_values(*rows: Contrast) -> list[float]:
    """Return the adjusted p-values."""
    return [row.p_adjusted for row in adjusted(rows)]


def test_a_family_holds_all_methods_and_sources() -> None:
    rows = (row_of(0.01), row_of(0.02, source="art"), row_of(0.03, method=TTRL))
    assert adjusted_values(*rows) == pytest.approx([0.03, 0.04, 0.04])


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(row_of(0.03, CROSS_DOMAIN), id="target-kind"),
        pytest.param(row_of(0.03, "sea"), id="single-set"),
        pytest.param(row_of(0.03, reference=FORM), id="reference"),
        pytest.param(row_of(0.03, source=ALL_SOURCES), id="mean-over-sources"),
        pytest.param(row_of(0.03, step=5), id="earlier-step"),
        pytest.param(row_of(math.nan, method=TTRL), id="no-p-value"),
    ],
)
def test_other_families_do_not_count(other: Contrast) -> None:
    first, second = adjusted_values(row_of(0.02), other)
    assert first == pytest.approx(0.02)
    assert second == pytest.approx(other.p_value, nan_ok=True)


def test_single_sets_and_last_steps_share_a_family() -> None:
    rows = (row_of(0.01, "sea"), row_of(0.02, "art"), row_of(0.5, "sky", step=5))
    assert adjusted_values(*rows) == pytest.approx([0.02, 0.02, 0.5])
    last = (row_of(0.01), row_of(0.5, step=5), row_of(0.02, method=TTRL, step=20))
    assert adjusted_values(*last) == pytest.approx([0.02, 0.5, 0.02])


def test_a_difference_with_two_names_is_tested_once() -> None:
    rows = run(all_models())
    for source in SOURCES:
        own, summary = (only(rows, name, source=source) for name in (source, IN_DOMAIN))
        assert (own.difference, own.p_value, own.p_adjusted) == (
            summary.difference,
            summary.p_value,
            summary.p_adjusted,
        )


def test_every_p_value_is_adjusted_and_never_lowered() -> None:
    for row in run(all_models()):
        assert row.p_value <= row.p_adjusted <= 1.0


def test_each_model_is_measured_once_for_all_its_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts: list[int] = []
    original = measuring.contrasted

    def counted(columns: ScoreColumns, weights: FloatArray) -> FloatArray:
        counts.append(len(weights))
        return original(columns, weights)

    monkeypatch.setattr(measuring, "contrasted", counted)
    models = all_models()
    run(models, rivals=[(OURS, TTRL)])
    num_measured = len(models) * len(TARGETS)
    # Each once as it is, and once on all resamples.
    assert sorted(counts) == [1] * num_measured + [CONFIG.num_resamples] * num_measured


def test_memory_stays_near_what_the_module_says() -> None:
    models = all_models()
    config = EvaluationConfig(num_resamples=2000)
    tracemalloc.start()
    run(models, config=config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = len(models) * 2000 * len(CONTRASTED) * 8
    # Besides: a mean per pair of methods, and the weights of one part.
    assert peak < 4 * held + (4 << 20)
