"""Training warnings per step, and numbers for trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from neuron_opsd.errors import TrainingError, clauses
from neuron_opsd.method.guard import Guard
from neuron_opsd.method.spikes import SpikeWatch
from neuron_opsd.records import Collapse, StepMetrics
from neuron_opsd.runs.adapters import Training
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.findings import Results
from neuron_opsd.runs.inputs import settings_in
from neuron_opsd.runs.metrics import numbers_of, read_metrics
from neuron_opsd.stages.engine_gap import WARNED as GAP_WARNED


class StepWatch:
    """Watches all steps of a training, earlier ones included.

    So a resumed run warns as one that never stopped.
    """

    def __init__(self, run: RunContext, metrics: Sequence[StepMetrics]) -> None:
        self.run = run
        self._spikes = SpikeWatch()
        self._stood_out = False
        self.guard = Guard(run.config.guard)
        self.events: dict[int, list[str]] = {}
        for entry in metrics:
            self.see(entry)

    def see(self, entry: StepMetrics) -> StepMetrics:
        """Return a record with its spike; warn where one begins."""
        entry = replace(entry, spike=round(self._spikes.see(entry), 2))
        if entry.skipped:
            self._warn(
                entry.step,
                f"step {entry.step} was skipped and nothing was learnt from it: "
                f"{entry.skipped}",
            )
        if entry.engine_gap is not None and entry.engine_gap > GAP_WARNED:
            self._warn(entry.step, gap_text(entry.step, entry.engine_gap))
        if entry.spike and not self._stood_out:
            self._warn(entry.step, spike_text(entry))
        self._stood_out = entry.spike > 0.0
        for sign in self.guard.add(entry):
            self._warn(entry.step, collapse_text(sign))
        return entry

    def _warn(self, step: int, text: str) -> None:
        self.events.setdefault(step, []).append(text)
        self.run.warn(text)

    @property
    def stops(self) -> bool:
        """Whether a sign was seen at which the settings stop."""
        return self.run.config.guard.on_collapse == "stop" and bool(self.guard.seen)

    def check(self) -> None:
        """Stop at a sign, if the settings say so."""
        if not self.stops:
            return
        found = clauses([sign_text(sign) for sign in self.guard.seen.values()])
        raise TrainingError(
            f"the student collapses: {found}; training was stopped "
            "(guard.on_collapse=stop) and its last checkpoint is intact; start again "
            "with fewer steps, a lower distill.learning_rate or guard.keep=best, or "
            "resume with --set guard.on_collapse=warn to train on"
        )


def spike_text(entry: StepMetrics) -> str:
    """Say what stands out in a step and what to do."""
    what, value = "loss", entry.loss
    if entry.reward is not None:
        what, value = "gradient's norm", entry.grad_norm
    return (
        f"step {entry.step}: the {what} is {value:.3g}, {entry.spike:.0f} times that "
        "of the steps before; if it stays there or happens again, lower "
        "distill.learning_rate or distill.max_grad_norm"
    )


def gap_text(step: int, gap: float) -> str:
    """Say that rollouts come from another distribution."""
    return (
        f"step {step}: the engine's log-probabilities are {gap:.3f} nats a token from "
        f"the trainer's, above {GAP_WARNED}; importance weights make up for some of "
        "it (distill.importance_clip), and model.compute=float32 lowers it"
    )


def skipped_last(metrics: Sequence[StepMetrics]) -> int:
    """Count the skipped steps at the end."""
    count = 0
    for entry in reversed(metrics):
        if not entry.skipped:
            break
        count += 1
    return count


def collapse_text(sign: Collapse) -> str:
    """Explain a sign of collapse and what to do."""
    return (
        f"{sign_text(sign)}; fewer steps or a lower distill.learning_rate may help, "
        "and guard.keep=best ends with the best step"
    )


def sign_text(sign: Collapse) -> str:
    """Name a sign of collapse and its step."""
    return f"step {sign.step}: {sign.sign} ({sign.value:.3g}, limit {sign.limit:.3g})"


def tell_settings(run: RunContext, training: Training) -> None:
    """Log a training's settings."""
    run.log_settings(training.name, settings_in(run.directory, run.config))


def tell_steps(
    run: RunContext,
    training: Training,
    metrics: Sequence[StepMetrics],
    events: Mapping[int, Sequence[str]],
) -> None:
    """Log metrics and warnings of steps."""
    for entry in metrics:
        said = events.get(entry.step, ())
        run.log_metrics(training.name, entry.step, numbers_of(entry), said)


def tell_results(run: RunContext, training: str, models: Mapping[str, Results]) -> None:
    """Log test scores as one step after the last.

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
    """Log a finished training again in full."""
    tell_settings(run, training)
    tell_steps(run, training, read_metrics(run.path(training.work)), {})
    tell_results(run, training.name, {"after": after})
