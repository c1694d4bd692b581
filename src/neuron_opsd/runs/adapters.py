"""A training's adapters: the last, those kept after given steps, and the best.

Candidates for the best are kept while a checkpoint may still lead to them.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.method.guard import best_step, collapses
from neuron_opsd.records import Kept, StepMetrics
from neuron_opsd.runs.checkpoints import checkpoint_steps
from neuron_opsd.runs.context import RunContext
from neuron_opsd.runs.courses import Course
from neuron_opsd.runs.metrics import METRICS, read_metrics
from neuron_opsd.runs.prepare import inside
from neuron_opsd.storage.files import discard, write_folder

CANDIDATES: Final = "candidates"
"""Folder of adapters that may prove best."""


@dataclass(frozen=True, slots=True)
class Training:
    """What a training is called, and where its files are."""

    name: str
    folder: str = ""
    """Folder of metrics, checkpoints and adapter. Empty: the run directory, with
    metrics and checkpoints in `train/`."""
    keep_after: tuple[int, ...] = ()
    """Step counts after which the adapter is also kept."""
    made_from: tuple[str, ...] = ()
    """Inputs of the objective besides settings and examples."""

    @property
    def adapter(self) -> str:
        """Path and name of the adapter in the run directory."""
        return inside(self.folder, "adapter")

    @property
    def work(self) -> str:
        """Folder of metrics and checkpoints."""
        return inside(self.folder, "train")

    @property
    def metrics(self) -> str:
        """Path of the metrics, also their name."""
        return f"{self.work}/{METRICS}"

    def kept(self, step: int) -> str:
        """Path of the adapter kept after `step` steps."""
        return inside(self.folder, f"adapter-{step:06d}")

    def candidate(self, step: int) -> str:
        """Path of an adapter that may be the best."""
        return f"{self.work}/{CANDIDATES}/step-{step:06d}"


def lost_adapters(
    run: RunContext, training: Training, made_from: Sequence[str]
) -> dict[str, int]:
    """Return missing adapters and their step counts."""
    after = {training.kept(step): step for step in training.keep_after}
    after[training.adapter] = run.config.distill.steps + 1
    stands = run.directory.integrity.is_current
    return {n: step for n, step in after.items() if not stands(n, n, made_from)}


def keep_adapter(
    run: RunContext, course: Course, name: str, made_from: Sequence[str]
) -> None:
    """Write the current adapter."""
    write_folder(run.path(name), course.save_adapter, course.num_bytes)
    run.directory.record(name, name, made_from)


def keep_after_step(
    run: RunContext,
    course: Course,
    training: Training,
    made_from: Sequence[str],
    metrics: Sequence[StepMetrics],
) -> None:
    """Write the adapter if wanted after this step, or if best so far."""
    count = len(metrics)
    if count in training.keep_after:
        keep_adapter(run, course, training.kept(count), made_from)
    looked = count == 0 or metrics[-1].look is not None
    if looked and best_of(run, metrics) == count:
        keep_adapter(run, course, training.candidate(count), made_from)


def best_of(run: RunContext, metrics: Sequence[StepMetrics]) -> int | None:
    """Return the step count of the best adapter, `None` if none is kept.

    Before any look it is 0, the untrained adapter.
    """
    if run.config.guard.keep == "last":
        return None
    best = best_step(metrics, run.config.guard)
    return 0 if best is None else best.num_steps


def kept_of(config: Config, metrics: Sequence[StepMetrics]) -> Kept | None:
    """Return the step a training ends with, `None` for the last.

    It is the last unless a sign of collapse was seen.
    """
    if config.guard.keep == "last" or not collapses(metrics, config.guard):
        return None
    return best_step(metrics, config.guard)


def latest_with_best(
    run: RunContext, training: Training, made_from: Sequence[str]
) -> int:
    """Return the last step at which training can resume with its best adapter."""
    if run.config.guard.keep == "last":
        return run.config.distill.steps
    metrics = read_metrics(run.path(training.work))
    stands = run.directory.integrity.is_current
    count = len(metrics)
    while count and (best := best_of(run, metrics[:count])) is not None:
        name = training.candidate(best)
        if stands(name, name, made_from):
            break
        count = max(best - 1, 0)
    return count


def drop_candidates(
    run: RunContext, training: Training, metrics: Sequence[StepMetrics]
) -> None:
    """Delete candidates that can no longer be the best."""
    counts = [len(metrics), *checkpoint_steps(run, training.work)]
    drop_all_but(
        run, training, {best_of(run, metrics[:count]) for count in counts if metrics}
    )


def drop_all_but(
    run: RunContext, training: Training, steps: Collection[int | None]
) -> None:
    """Delete candidates of all other steps."""
    kept = {training.candidate(step) for step in steps if step is not None}
    home = f"{training.work}/{CANDIDATES}/"
    gone = [
        name
        for name in run.directory.manifest.outputs
        if name.startswith(home) and name not in kept
    ]
    run.directory.forget(gone)
    for name in gone:
        discard(run.path(name))


def write_adapter(
    run: RunContext,
    course: Course,
    training: Training,
    metrics: Sequence[StepMetrics],
) -> None:
    """Write the final adapter: the last, or the best."""
    path, best = run.path(training.adapter), kept_of(run.config, metrics)
    if best is None:
        write_folder(path, course.save_adapter, course.num_bytes)
        return
    source = run.path(training.candidate(best.num_steps))

    def fill(folder: Path) -> None:
        shutil.copytree(source, folder, dirs_exist_ok=True)

    write_folder(path, fill, course.num_bytes)
