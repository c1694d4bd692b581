"""Measures of the models of a comparison: means over seeds, resampled questions.

A test set is resampled for all models at once and each is measured once; differences
and summaries are arithmetic on that. Axes: R resamples, M measures.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Final, TypeAlias

import numpy as np

from neuron_opsd.config import EvaluationConfig
from neuron_opsd.method.calibration import METRICS, ScoreColumns
from neuron_opsd.method.resampling import Resampled, resample
from neuron_opsd.method.statistics import FloatArray
from neuron_opsd.records.scores import TestResult
from neuron_opsd.results.comparison import (
    ALL_SOURCES,
    BASE,
    CROSS_DOMAIN,
    IN_DOMAIN,
    SPECIFICITY,
    SUMMARIES,
    Measurement,
    Place,
)
from neuron_opsd.seeds import generator
from neuron_opsd.stages.scoring import paired_columns

Tests: TypeAlias = Mapping[str, TestResult]
"""Test set name to one model's result."""


@dataclass(frozen=True, slots=True, order=True)
class Arm:
    """What models that differ only in their seed have in common."""

    start: str
    source: str
    method: str
    step: int
    """Optimiser steps before the test; 0 if untrained."""


@dataclass(frozen=True, slots=True)
class Tested:
    """One model of the comparison with its test results."""

    __test__ = False  # pytest would take the name for a test class

    arm: Arm
    seed: int
    tests: Tests
    """By test set; some may be missing."""


ByArm: TypeAlias = Mapping[Arm, Mapping[int, Tests]]

BySeed: TypeAlias = Mapping[int, FloatArray]
"""Seed to all measures, in the order of `METRICS`."""


def by_arm(tested: Sequence[Tested], sources: Sequence[str]) -> ByArm:
    """Group the results of these sources by arm and seed, ascending."""
    arms: dict[Arm, dict[int, Tests]] = {}
    for one in sorted(tested, key=lambda one: (one.arm, one.seed)):
        if one.arm.source not in sources:
            continue
        seeds = arms.setdefault(one.arm, {})
        if one.seed in seeds:
            raise ValueError(f"{one.arm} appears twice with seed {one.seed}")
        seeds[one.seed] = one.tests
    return arms


def place_of(arm: Arm, target: str, metric: str) -> Place:
    """Return where an arm's number belongs."""
    return Place(arm.start, arm.source, arm.method, arm.step, target, metric)


def measurements(
    tested: Sequence[Tested], sources: Sequence[str], targets: Sequence[str]
) -> tuple[Measurement, ...]:
    """Return every measure of every model as its mean over seeds.

    A model counts on the test sets it answered, and in the cross-domain mean if it
    answered all sets but its source's own. The mean over sources needs a value for each
    and a seed that was run on all; its `by_seed` holds those seeds. A measure missing
    for one seed has no mean (NaN). Models of other sources and results on other test
    sets are ignored.
    """
    measured: dict[tuple[Arm, str], dict[int, FloatArray]] = {}
    for arm, seeds in by_arm(tested, sources).items():
        for seed, tests in seeds.items():
            for target, values in target_values(tests, arm.source, targets):
                measured.setdefault((arm, target), {})[seed] = values
    rows = [
        row
        for (arm, target), by_seed in measured.items()
        for row in arm_rows(arm, target, mean_of(by_seed), list(by_seed.values()))
    ]
    rows += source_mean_rows(measured, sources)
    order = place_order(sources, targets)
    return tuple(sorted(rows, key=lambda row: order(row.place)))


def target_values(
    tests: Tests, source: str, targets: Sequence[str]
) -> Iterator[tuple[str, FloatArray]]:
    """Yield one model's measures per test set and summary; NaN where missing."""
    values = {
        name: np.array([tests[name].metrics.get(metric, np.nan) for metric in METRICS])
        for name in targets
        if name in tests
    }
    yield from values.items()
    if source in values:
        yield IN_DOMAIN, values[source]
    others = [name for name in targets if name != source]
    if others and all(name in values for name in others):
        yield CROSS_DOMAIN, np.mean([values[name] for name in others], axis=0)


def mean_of(by_seed: BySeed) -> FloatArray:
    """Average every measure over seeds."""
    return np.asarray(np.mean(list(by_seed.values()), axis=0), dtype=np.float64)


def source_mean_rows(
    measured: Mapping[tuple[Arm, str], BySeed], sources: Sequence[str]
) -> Iterator[Measurement]:
    """Yield the means over all sources, if none is missing."""
    summed_up = {
        (replace(arm, source=ALL_SOURCES), target)
        for arm, target in measured
        if target in {IN_DOMAIN, CROSS_DOMAIN}
    }
    for arm, target in sorted(summed_up):
        keys = [(replace(arm, source=source), target) for source in sources]
        parts = [measured[key] for key in keys if key in measured]
        common = [seed for seed in parts[0] if all(seed in part for part in parts)]
        if len(parts) < len(sources) or not common:
            continue
        by_seed = [
            np.mean([part[seed] for part in parts], axis=0) for seed in sorted(common)
        ]
        mean = np.mean([mean_of(part) for part in parts], axis=0)
        yield from arm_rows(arm, target, mean, by_seed)


def arm_rows(
    arm: Arm, target: str, mean: FloatArray, by_seed: Sequence[FloatArray]
) -> Iterator[Measurement]:
    """Yield one row per measure."""
    for column, metric in enumerate(METRICS):
        yield Measurement(
            place_of(arm, target, metric),
            float(mean[column]),
            tuple(float(values[column]) for values in by_seed),
        )


def place_order(
    sources: Sequence[str], targets: Sequence[str]
) -> Callable[[Place], tuple[object, ...]]:
    """Return the sort key of rows.

    By start (the base first), source (their mean last), method, step, target (summaries
    first) and measure.
    """
    in_order = [*sources, ALL_SOURCES], [*SUMMARIES, *targets], METRICS
    of_source, of_target, of_metric = (
        {name: rank for rank, name in enumerate(names)} for names in in_order
    )
    return lambda place: (
        place.start != BASE,
        place.start,
        of_source[place.source],
        place.method,
        place.step,
        of_target[place.target],
        of_metric[place.metric],
    )


CONTRASTED: Final = (
    "avg_at_k",
    "maj_at_k",
    "balanced_accuracy",
    "macro_f1",
    "ece",
    "brier",
    "auroc",
    "overconfidence",
    "unanimity",
)

Model: TypeAlias = tuple[Arm, int]
"""Arm and seed."""

Drawn: TypeAlias = Mapping[Model, Resampled]
"""Resampled measures of each model on one target."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What all contrasts of a comparison share."""

    sources: tuple[str, ...]
    """Each also names its own test set."""
    targets: tuple[str, ...]
    config: EvaluationConfig
    seed: int


def target_draws(models: ByArm, frame: Frame) -> Iterator[tuple[str, Drawn]]:
    """Yield every target with its models' resampled measures.

    Test sets keep their order, each source's followed by the specificity of its models.
    Last comes the cross-domain mean of models that answered all sets but their own.
    """
    sums: dict[Model, Resampled] = {}
    for target in frame.targets:
        drawn = test_draws(target, models, frame)
        yield target, drawn
        if target in frame.sources:
            yield SPECIFICITY, specificities(target, drawn, frame.sources)
        for (arm, seed), part in drawn.items():
            others = foreign_sets(arm, frame)
            if target in others and all(name in models[arm][seed] for name in others):
                key = arm, seed
                sums[key] = sums[key] + part if key in sums else part
    yield (
        CROSS_DOMAIN,
        {key: total / len(foreign_sets(key[0], frame)) for key, total in sums.items()},
    )


def foreign_sets(arm: Arm, frame: Frame) -> list[str]:
    """Return all test sets but the source's own."""
    return [name for name in frame.targets if name != arm.source]


def test_draws(name: str, models: ByArm, frame: Frame) -> Drawn:
    """Resample one test set for all models that answered it."""
    results = {
        (arm, seed): tests[name]
        for arm, seeds in models.items()
        for seed, tests in seeds.items()
        if name in tests
    }
    if not results:
        return {}
    first = next(iter(results.values()))
    drawn = resample(
        contrasted,
        [paired_columns(first, result, frame.config)[1] for result in results.values()],
        len(first.scores),
        frame.config.num_resamples,
        generator(frame.seed, "bootstrap", name),
    )
    return dict(zip(results, drawn, strict=True))


def contrasted(columns: ScoreColumns, weights: FloatArray) -> FloatArray:
    """Return the compared measures, ``(R, M)``."""
    return np.stack([METRICS[name](columns, weights) for name in CONTRASTED], axis=1)


def specificities(source: str, drawn: Drawn, sources: Sequence[str]) -> Drawn:
    """Return how much a source's models exceed those of other sources.

    On the source's own test set, against the mean over the other sources' models of the
    same start, method, step and seed, all of which must exist. It is 0 for an untrained
    model that gave every source the same answers, and then cancels.
    """
    others = [other for other in sources if other != source]
    found: dict[Model, Resampled] = {}
    for (arm, seed), own in drawn.items():
        if arm.source != source or not others:
            continue
        models = [(replace(arm, source=other), seed) for other in others]
        if all(model in drawn for model in models):
            total = reduce(operator.add, (drawn[model] for model in models))
            found[arm, seed] = own - total / len(others)
    return found
