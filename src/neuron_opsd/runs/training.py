"""Training in a run directory: checkpoints, metrics and resuming."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any, Final

from neuron_opsd.errors import DataError
from neuron_opsd.methods.method import Method, PoolAnswers
from neuron_opsd.models.roles import LanguageModel
from neuron_opsd.pipeline import Prepared
from neuron_opsd.processes.stopping import STOPPING
from neuron_opsd.records import StepMetrics, TrainingExample
from neuron_opsd.runs.adapters import (
    Training,
    drop_all_but,
    drop_candidates,
    keep_after_step,
    latest_with_best,
    lost_adapters,
    write_adapter,
)
from neuron_opsd.runs.checkpoints import forget_lost, go_back, keep_checkpoint
from neuron_opsd.runs.context import RunContext, keep_room, splits_of
from neuron_opsd.runs.courses import Course, Job
from neuron_opsd.runs.inputs import settings_in
from neuron_opsd.runs.machines import load_again
from neuron_opsd.runs.metrics import (
    MetricsHash,
    append_metrics,
    read_metrics,
    sync_metrics,
)
from neuron_opsd.runs.verdicts import training_name, training_verdicts, warn_as_kept
from neuron_opsd.runs.watching import (
    StepWatch,
    skipped_last,
    tell_settings,
    tell_steps,
)
from neuron_opsd.stages.looking import guard_questions
from neuron_opsd.stages.rollouts import PromptedQuestion
from neuron_opsd.stages.teaching import shown_rollouts
from neuron_opsd.stages.training import Earlier, Objective
from neuron_opsd.storage.integrity import CARD, GONE, fault_of
from neuron_opsd.storage.manifest import json_sha256

RANKS: Final = "ranks"
"""Manifest fact: how many processes train, if not one."""


def train_prepared(
    run: RunContext,
    model: LanguageModel,
    training: Training,
    prepared: Prepared,
    method: Method,
) -> tuple[StepMetrics, ...]:
    """Train a method on prepared data."""
    examples = examples_for(method, prepared)
    trained = {example.question_id for example in examples}
    guarded = guard_questions(prepared.library.questions, trained, run.config)
    return train_adapter(run, model, training, examples, method, guarded)


def train_adapter(
    run: RunContext,
    model: LanguageModel,
    training: Training,
    examples: Sequence[TrainingExample],
    objective: Objective,
    guarded: Sequence[PromptedQuestion] = (),
) -> tuple[StepMetrics, ...]:
    """Train an adapter in the run directory, or return a finished one's metrics.

    The guard looks at the student's answers to `guarded`.

    Raises:
        TrainingError: If the loss is not finite, or the settings stop at a collapse.
        TryAgainError: If the disk is full or fails.
    """
    name, work = training.name, run.path(training.work)
    made_from = sources_of(run, training, examples)
    tell_settings(run, training)
    lost = lost_adapters(run, training, made_from)
    if not lost:
        check_metrics(run, training)
        forget_lost(run, training.work)
        metrics = read_metrics(work)
        tell_steps(run, training, metrics, StepWatch(run, metrics).events)
        warn_as_kept(run, training.work, training_name(training.work))
        return metrics
    keep_room(run, model)
    run.machines.release()  # makes room for what is trained
    job = Job(run.config, examples, objective, guarded)
    with run.machines.course(job, model) as course:
        latest = min(min(lost.values()) - 1, latest_with_best(run, training, made_from))
        first_step = go_back(run, course, training.work, made_from, latest)
        if first_step == 0:
            keep_after_step(run, course, training, made_from, ())
        with run.progress.stage(name, run.config.distill.steps, "steps") as done:
            done(first_step)
            keep_ranks(run, name, first_step, course.num_ranks)
            skipped = skipped_last(read_metrics(run.path(training.work)))
            earlier = Earlier(first_step, skipped, splits_of(run, name))
            steps = course.take(earlier)
            metrics = run_steps(run, course, training, made_from, steps, done)
        run.count_tokens(name, sum(m.num_tokens for m in metrics))
        write_adapter(run, course, training, metrics)
    list_training(run, training, made_from)
    drop_all_but(run, training, ())
    return metrics


def keep_ranks(run: RunContext, name: str, first_step: int, now: int) -> None:
    """Record how many processes train; report changes, which alter last bits."""
    before = run.directory.manifest.facts.get(RANKS, {}).get(name, 1)
    if before == now:
        return
    if first_step:
        change = f"processes that train {name} {before} -> {now}"
        run.directory.computed_on_others([change])
    run.directory.note(RANKS, {name: now})


def list_training(
    run: RunContext, training: Training, made_from: Sequence[str]
) -> None:
    """List a finished training's adapter, card and metrics.

    A later card with results replaces the run's own.
    """
    card = f"{training.adapter}/{CARD}"
    sync_metrics(run.path(training.work))
    run.directory.integrity.remove([card])
    run.directory.integrity.record(training.metrics, training.metrics, made_from, None)
    if training.folder and run.path(card).is_file():
        run.directory.integrity.record(card, card, made_from, None)
    seconds = run.directory.manifest.facts["seconds"][training.name]
    run.directory.record(training.adapter, training.adapter, made_from, seconds)


def run_steps(
    run: RunContext,
    course: Course,
    training: Training,
    made_from: Sequence[str],
    steps: Iterator[StepMetrics],
    done: Callable[[int], None],
) -> tuple[StepMetrics, ...]:
    """Take the remaining steps, keeping metrics and checkpoints.

    Signals wait for the end of a step and its checkpoint.
    """
    start = perf_counter()
    work = run.path(training.work)
    metrics = list(read_metrics(work))
    watch, hashed = StepWatch(run, metrics), MetricsHash(work)
    tell_steps(run, training, metrics, watch.events)
    watch.check()
    kept = training_verdicts(run, training.work, made_from)
    with STOPPING.after_the_step(), kept as write_verdicts:
        for taken in steps:
            entry = watch.see(taken)
            metrics.append(entry)
            append_metrics(work, entry)
            tell_steps(run, training, [entry], watch.events)
            done(1)
            step = entry.step + 1
            keep_after_step(run, course, training, made_from, metrics)
            ends = watch.stops or STOPPING.number
            if step % run.config.distill.checkpoint_every == 0 or ends:
                write_verdicts()
                keep_checkpoint(run, course, training.work, step, made_from, hashed)
                drop_candidates(run, training, metrics)
                start = add_seconds(run, training.name, start)
                if ends:
                    break
    if len(metrics) < run.config.distill.steps:
        STOPPING.check()  # otherwise the adapter is written first
    add_seconds(run, training.name, start)
    watch.check()
    return tuple(metrics)


def add_seconds(run: RunContext, name: str, start: float) -> float:
    """Add and return the training time since `start`."""
    now = perf_counter()
    before = run.directory.manifest.facts.get("seconds", {}).get(name, 0.0)
    run.directory.note("seconds", {name: round(before + now - start, 3)})
    return now


def trained_model(run: RunContext, base: LanguageModel, folder: str) -> LanguageModel:
    """Return the base model with an adapter of the run."""
    adapter, machines = run.path(folder), run.machines
    model = load_again(run.directory, run.config, adapter, machines=machines, base=base)
    keep_room(run, model)
    return model


def examples_for(method: Method, prepared: Prepared) -> Sequence[TrainingExample]:
    """Return a method's examples."""

    def texts() -> dict[str, str]:
        contexts = method.config.contexts
        shown = shown_rollouts(prepared.rollouts, prepared.votes, contexts)
        return {rollout.question_id: rollout.completion.text for rollout in shown}

    answers = PoolAnswers(texts, prepared.library.excluded)
    return method.examples(prepared.examples, answers)


def sources_of(
    run: RunContext, training: Training, examples: Sequence[TrainingExample]
) -> list[str]:
    """Name a training's sources, recording hashes of those that are no output.

    They are inputs, settings, examples, and `Training.made_from`.
    """
    settings = f"settings of {training.adapter}"
    shown = f"examples of {training.adapter}"
    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr(example).encode("utf-8", "surrogatepass"))
    run.directory.integrity.add_source(settings, json_sha256(trained_by(run)))
    run.directory.integrity.add_source(shown, digest.hexdigest())
    return ["inputs", settings, shown, *training.made_from]


def trained_by(run: RunContext) -> dict[str, Any]:
    """Return settings without the model's place; its hash counts."""
    settings = settings_in(run.directory, run.config)
    return {name: value for name, value in settings.items() if name != "model.name"}


def check_metrics(run: RunContext, training: Training) -> None:
    """Refuse a finished training whose metrics were changed.

    Restoring them would retrain an intact adapter.
    """
    output = run.directory.manifest.outputs.get(training.metrics)
    fault = GONE if output is None else fault_of(run.directory.folder, output)
    if fault:
        raise DataError(
            f"{run.path(training.metrics)} {fault}, and only training again "
            "could make it; put it back, or delete "
            f"{run.path(training.adapter)} to train again"
        )
