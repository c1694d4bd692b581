"""How the models of a comparison stand to one answer for every question."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from neuron_opsd.comparison.measuring import Arm, Tested, Tests, by_arm, place_of
from neuron_opsd.config import EvaluationConfig
from neuron_opsd.method.calibration import columns_of
from neuron_opsd.method.labels import baseline_answer
from neuron_opsd.method.resampling import Resampled, over_seeds, resample
from neuron_opsd.method.statistics import percentile_intervals
from neuron_opsd.records.scores import TestResult
from neuron_opsd.results.comparison import BASE, BASELINE, IN_DOMAIN, Contrast
from neuron_opsd.seeds import generator
from neuron_opsd.stages.scoring import constant_scores, mean_accuracy

METRIC: Final = "avg_at_k"


def baseline_contrasts(
    tested: Sequence[Tested],
    sources: Sequence[str],
    config: EvaluationConfig,
    seed: int,
) -> tuple[Contrast, ...]:
    """Return by how much models exceed the most frequent gold answer in-domain.

    The untrained model is among them. Intervals are over questions and seeds, as those
    between models are. No p-value is there: nothing is claimed but that a model is not
    above the baseline. Sources whose gold answers do not repeat have no row.

    Args:
        tested: In any order; models of other sources are left out.
        sources: Each also the name of its own test set.
        config: Number of resamples.
        seed: The comparison's.
    """
    rows = []
    for arm, seeds in by_arm(tested, sources).items():
        above = above_baseline_of(arm, list(seeds.values()), config, seed)
        if above is not None:
            (interval,) = percentile_intervals(above.values, above.draws)
            place = place_of(arm, IN_DOMAIN, METRIC)
            rows.append(Contrast(place, BASELINE, interval, math.nan, math.nan))
    return tuple(sorted(rows, key=lambda row: (row.place.start != BASE, order(row))))


def order(row: Contrast) -> tuple[str, str, str, int]:
    """Return what rows of one kind of start are sorted by."""
    place = row.place
    return place.start, place.source, place.method, place.step


def above_baseline_of(
    arm: Arm, by_seed: Sequence[Tests], config: EvaluationConfig, seed: int
) -> Resampled | None:
    """Return by how much the models of an arm exceed the baseline, over their seeds."""
    results = [tests[arm.source] for tests in by_seed if arm.source in tests]
    if not results or baseline_answer(results[0].scores) is None:
        return None
    constant = constant_result(results[0])
    reference, *models = resample(
        mean_accuracy,
        [columns_of(one.scores) for one in (constant, *results)],
        len(constant.scores),
        config.num_resamples,
        generator(seed, "bootstrap", arm.source),
    )
    differences = [model - reference for model in models]
    return over_seeds(differences, generator(seed, "bootstrap seeds", arm.source))


def constant_result(result: TestResult) -> TestResult:
    """Return the result of giving the most frequent gold answer to every question."""
    answer = baseline_answer(result.scores) or ""
    return replace(result, scores=constant_scores(result.scores, answer))
