"""What progress, and so a tracker of experiments, is told of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuron_opsd.records import StepMetrics
from neuron_opsd.runs.adapters import Training
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.findings import Results
from neuron_opsd.runs.inputs import settings_in
from neuron_opsd.runs.metrics import numbers_of, read_metrics


def tell_settings(run: RunContext, training: Training) -> None:
    """Tell what a training is done with."""
    run.log_settings(training.name, settings_in(run.directory, run.config))


def tell_steps(
    run: RunContext,
    training: Training,
    metrics: Sequence[StepMetrics],
    events: Mapping[int, Sequence[str]],
) -> None:
    """Tell what steps measured, and what was warned of at each."""
    for entry in metrics:
        said = events.get(entry.step, ())
        run.log_metrics(training.name, entry.step, numbers_of(entry), said)


def tell_results(run: RunContext, training: str, models: Mapping[str, Results]) -> None:
    """Tell what models scored on the tests, as one step after the last.

    A measure is named like ``exam/after/avg_at_k``.
    """
    measures = {
        f"{test}/{label}/{name}": value
        for label, tests in models.items()
        for test, result in tests.items()
        for name, value in result.metrics.items()
    }
    run.log_metrics(training, run.config.distill.steps, measures)


def tell_again(run: RunContext, training: Training, after: Results) -> None:
    """Tell all of a training that has ended, in this process or an earlier one."""
    tell_settings(run, training)
    tell_steps(run, training, read_metrics(run.directory.path(training.work)), {})
    tell_results(run, training.name, {"after": after})
