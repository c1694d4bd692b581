"""What the models of a comparison measured on resampled questions, target by target.

A test set is resampled for all models at once and each model is measured once, whatever
the number of differences taken later. What sums test sets up is arithmetic on that.
Axes: R resamples, M measures.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Final, TypeAlias

import numpy as np

from neuron_opsd.comparison.measuring import Arm, ByArm
from neuron_opsd.config import EvaluationConfig
from neuron_opsd.method.calibration import METRICS, ScoreColumns
from neuron_opsd.method.resampling import Resampled, resample
from neuron_opsd.method.statistics import FloatArray
from neuron_opsd.results.comparison import CROSS_DOMAIN, SPECIFICITY
from neuron_opsd.seeds import generator
from neuron_opsd.stages.scoring import paired_columns

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
"""The measures of `METRICS` that are compared."""

Model: TypeAlias = tuple[Arm, int]
"""An arm and a seed."""

Drawn: TypeAlias = Mapping[Model, Resampled]
"""What each model measured on one target."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What all contrasts of a comparison share."""

    sources: tuple[str, ...]
    """Each also the name of its own test set."""
    targets: tuple[str, ...]
    """Names of the test sets."""
    config: EvaluationConfig
    seed: int


def target_draws(models: ByArm, frame: Frame) -> Iterator[tuple[str, Drawn]]:
    """Yield every target with what the models measured on it.

    Single test sets come in their order, each source's followed by the specificity of
    that source's models; the cross-domain mean of the models that answered all sets but
    their own comes last.
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
    """Return the names of all test sets but the source's own."""
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
    """Return ``(R, M)``, the measures that are compared."""
    return np.stack([METRICS[name](columns, weights) for name in CONTRASTED], axis=1)


def specificities(source: str, drawn: Drawn, sources: Sequence[str]) -> Drawn:
    """Return what the models of a source measure beyond those of other sources.

    On the source's own test set, less the mean over the models of the other sources
    (same start, method, step and seed), all of which must be there. The untrained
    model's is 0 where it gave every source the same answers, so that it then cancels
    from the difference to it.
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
