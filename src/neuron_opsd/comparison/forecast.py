"""What is left of a comparison and how long it will take: `compare --dry-run`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from neuron_opsd.beliefs import TAUGHT
from neuron_opsd.comparison.comparison import (
    Comparison,
    ComparisonContext,
    cells_of,
    group_outputs,
    set_up,
    settings_of,
)
from neuron_opsd.comparison.run_group import cell_folder, method_for, outputs_for
from neuron_opsd.comparison.variants import Variant, config_of, with_form
from neuron_opsd.config import Config
from neuron_opsd.methods import Target, captures, needs_contexts, needs_neurons
from neuron_opsd.models.load import learner_of
from neuron_opsd.planning import costs
from neuron_opsd.planning.estimate import Reading, clock_of, count_work, try_base
from neuron_opsd.planning.step_trials import size_of_step, try_step, warm_up
from neuron_opsd.planning.trials import Trial
from neuron_opsd.planning.workload import Cost, Rates, Work, writes_elsewhere
from neuron_opsd.progress import Progress
from neuron_opsd.stages.rollouts import ask


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is left of a comparison."""

    num_cells: int
    """Models to train in all."""
    left: Mapping[str, int]
    """Untrained models by method."""
    step_seconds: Mapping[str, float] = field(default_factory=dict)
    """Per optimiser step, by method."""
    test_seconds: float | None = None
    """To test one model on all sets."""
    seconds: float | None = None
    """For all that is left."""
    why_untimed: str = ""
    """Why there are no times; empty if there are."""


def forecast(comparison: Comparison, config: Config, progress: Progress) -> Forecast:
    """Count what is left, and time samples of it on the first source."""
    context = set_up(comparison, config, progress)
    comparison = context.comparison
    cells = cells_of(context)
    left = [
        cell
        for cell in cells
        if cell_folder(cell.method) not in group_outputs(comparison, cell.group)
    ]
    counted = Forecast(len(cells), dict(Counter(cell.method for cell in left)))
    if writes_free(context) and writes_elsewhere(context.config):
        return replace(counted, why_untimed=costs.WHY_UNTIMED)
    variants = with_form(comparison.variants)
    source = next(iter(comparison.sources))
    inputs = context.inputs[source]
    trial = Trial(
        context.model,
        context.config,
        clock_of(context.model.facts.device),
        any(map(captures, settings_of(context).values())),
    )
    with progress.stage("measuring", 3 + len(variants), "samples") as done:
        found = try_base(trial, inputs, done)
        steps = {}
        for variant in variants:
            steps[variant.name] = step_seconds(context, variant, found)
            done(1)
    work = count_work(context.model, inputs, context.config, found)
    rates = found.rates
    own = config.evaluation.num_samples
    asked = work.tests, rates, context.config, (own,), work.tested
    tested = costs.answering(*asked).seconds
    last = config.distill.steps
    num_tests = 1 + sum(step < last for step in comparison.shown_steps)
    training = sum(steps[cell.method] * last + num_tests * tested for cell in left)
    groups = {cell.group for cell in left}
    shared = sum(
        tested + group_seconds(context, start, work, rates) for _, _, start in groups
    )
    return replace(
        counted,
        step_seconds=steps,
        test_seconds=tested,
        seconds=training + shared,
    )


def writes_free(context: ComparisonContext) -> bool:
    """Return whether any question is answered freely."""
    sets = [
        questions
        for one in context.inputs.values()
        for questions in (one.pool, *(test.questions for test in one.tests))
    ]
    return any(not a.written for some in sets for a in ask(some, context.config))


def step_seconds(context: ComparisonContext, variant: Variant, found: Reading) -> float:
    """Time one optimiser step of a method on samples."""
    config = config_of(variant, context.config)
    trial = Trial(context.model, config, clock_of(context.model.facts.device))
    learner = learner_of(context.model, config.distill, config.seed)
    shown = found.trained
    if not needs_contexts(config):
        shown = tuple(replace(e, teacher_prompt=e.student_prompt) for e in shown)
    targets = {e.question_id: Target("yes", "yes") for e in shown}  # for an oracle
    method = method_for(variant, config, targets)
    examples = method.examples(shown, found.answers(config))
    size = size_of_step(trial, examples, found.rates)
    warm_up(trial, learner, examples, method, size)
    return try_step(trial, learner, examples, method, size)


def group_seconds(
    context: ComparisonContext, start: str, work: Work, rates: Rates
) -> float:
    """Return a group's time without training and testing the trained."""
    config = context.config
    variants = context.comparison.trained_from(start)
    configs = [config_of(variant, config) for variant in variants]
    read = {own.contexts.answer for own in configs if needs_neurons(own)}
    # Methods share what they read.
    shared: dict[str, Cost] = {}
    for own in configs:
        suffix = outputs_for(config, own).taught
        shared |= {
            f"{name}{suffix if name in TAUGHT else ''}": cost
            for name, cost in costs.passes(work, rates, own).items()
        }
    with_teacher = [own for own in configs if needs_contexts(own)]
    return (
        costs.with_demonstrations(work, rates, config).seconds
        + costs.rollouts(work, rates, config).seconds
        + len(read) * costs.reading_off(work.pool, work.written, rates).seconds
        + sum(cost.seconds for cost in shared.values())
        + sum(costs.teacher_check(work, rates, own).seconds for own in with_teacher)
    )
