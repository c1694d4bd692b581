"""What the models of a run scored on its tests, compared and written as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from neuron_opsd.config import FORM_ONLY, Config
from neuron_opsd.records.scores import Interval, TestResult
from neuron_opsd.report.condense import baseline_of, measured, num_levels
from neuron_opsd.results.run import TestComparison
from neuron_opsd.runs.context import TestSet
from neuron_opsd.stages.scoring import above_baseline, mean_of_tests, score_differences
from neuron_opsd.storage.codecs import without_nan

Results = Mapping[str, TestResult]
"""By name of the test set."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the models of a run answered to its tests."""

    before: Results
    after: Results
    controls: Mapping[str, Results]
    """By name; a control need not have answered every set."""


def compare_tests(
    tests: Sequence[TestSet], findings: Findings, config: Config
) -> tuple[TestComparison, ...]:
    """Compare the models on every test set, in the order given."""
    return tuple(compare_test(test, findings, config) for test in tests)


def compare_test(test: TestSet, findings: Findings, config: Config) -> TestComparison:
    """Compare the models on one test set."""
    settings, seed, name = config.evaluation, config.seed, test.name
    before, after = findings.before[name], findings.after[name]
    controls = {
        label: results[name]
        for label, results in findings.controls.items()
        if name in results
    }
    form = controls.get(FORM_ONLY)
    levels = num_levels(s.num_rollouts for s in chain(before.scores, after.scores))
    told = partial(measured, num_bins=settings.num_bins, levels=levels)
    return TestComparison(
        name=name,
        in_domain=test.in_domain,
        num_questions=len(before.scores),
        before=told(before),
        after=told(after),
        delta=score_differences(before, after, settings, seed),
        controls={label: told(result) for label, result in controls.items()},
        net_of_form=None
        if form is None
        else score_differences(form, after, settings, seed),
        above_baseline=above_baselines(before, after, config),
        baseline=baseline_of(before.scores),
    )


def above_baselines(
    before: TestResult, after: TestResult, config: Config
) -> dict[str, Interval]:
    """Return by how much two models exceed the most frequent gold answer."""
    found = {
        "before": above_baseline(before, config.evaluation, config.seed),
        "after": above_baseline(after, config.evaluation, config.seed),
    }
    return {name: one for name, one in found.items() if one is not None}


def cross_domain(
    tests: Sequence[TestSet], findings: Findings, config: Config
) -> Mapping[str, Interval]:
    """Return the mean differences over the test sets of other domains."""
    names = [test.name for test in tests if not test.in_domain]
    if not names:
        return {}
    return mean_of_tests(
        [findings.before[name] for name in names],
        [findings.after[name] for name in names],
        config.evaluation,
        config.seed,
    )


def comparison_entry(comparison: TestComparison) -> dict[str, Any]:
    """Return one test set's entry of `evaluation.json`."""
    entry: dict[str, Any] = {
        "domain": "in" if comparison.in_domain else "cross",
        "num_questions": comparison.num_questions,
        "before": without_nan(comparison.before.metrics),
        "after": without_nan(comparison.after.metrics),
        "delta": without_nan(comparison.delta),
        "controls": {
            label: without_nan(result.metrics)
            for label, result in comparison.controls.items()
        },
    }
    if comparison.above_baseline:
        entry["above_baseline"] = without_nan(comparison.above_baseline)
    if comparison.net_of_form is not None:
        entry["net_of_form"] = without_nan(comparison.net_of_form)
    return entry


def unsettled_entry(comparison: TestComparison, config: Config) -> dict[str, Any]:
    """Return how many comparisons of each model's answers were not resolved.

    Only expressions can fail to be; with other readers there is no such entry.
    """
    if not config.answers.may_leave_open:
        return {}
    models = {"before": comparison.before, "after": comparison.after}
    models |= comparison.controls
    counts = {label: result.num_unsettled for label, result in models.items()}
    return {"unsettled_comparisons": counts}
