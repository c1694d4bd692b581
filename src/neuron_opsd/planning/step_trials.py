"""Time the parts of an optimiser step, and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import save_file
from torch import Tensor

from neuron_opsd.models.library_errors import saving
from neuron_opsd.models.roles import Learner
from neuron_opsd.planning.samples import grown
from neuron_opsd.planning.trials import Trial, affordable, spread
from neuron_opsd.planning.workload import Rates
from neuron_opsd.processes.memory import held_memory
from neuron_opsd.records import TrainingExample
from neuron_opsd.stages.training import (
    Batch,
    Objective,
    TrainingSequence,
    all_sequences,
    gather_gradients,
    move_teacher,
)
from neuron_opsd.storage.disk import disk_errors
from neuron_opsd.storage.files import sha256_file

TRAINING_SECONDS = 6.0
"""Budget for all parts of a step."""

NUM_PARTS = 4
"""Parts of similar length: rollouts, and gradients three times."""

SAVED_BYTES = 128 * 2**20
"""Bytes of a checkpoint written to extrapolate to all."""


@dataclass(frozen=True, slots=True)
class StepSize:
    """How much of an optimiser step a sample covers."""

    written: int
    """Questions answered, at most `distill.batch_size`."""
    trained: int
    """Questions trained on, at most `distill.micro_batch_size`."""
    rest: float = 0.0
    """Expected further tokens of a completion cut by the sample."""
    write_scale: float = 1.0
    """How much longer writing takes with uncut completions."""


def size_of_step(
    trial: Trial, examples: Sequence[TrainingExample], rates: Rates
) -> StepSize:
    """Return how many questions a sample of a step can afford."""
    tuning = trial.config.distill
    student = sum(len(trial.model.encode(e.student_prompt)) for e in examples)
    teacher = sum(len(trial.model.encode(e.teacher_prompt)) for e in examples)
    # A pass with gradient takes about as long as three without.
    each = (teacher * rates.showing + 3 * student * rates.reading) / len(examples)
    allowed = TRAINING_SECONDS / NUM_PARTS
    whole = min(tuning.micro_batch_size, tuning.batch_size)
    writing = student * rates.reading / len(examples)
    written = affordable(writing, allowed, tuning.batch_size)
    if tuning.tuning == "full":
        # Gradients of all weights take the same time and room in every pass, so a
        # smaller sample would not tell.
        return StepSize(written, whole)
    return StepSize(written, affordable(each, allowed, whole))


def warm_up(
    trial: Trial,
    learner: Learner,
    examples: Sequence[TrainingExample],
    objective: Objective,
    size: StepSize,
) -> None:
    """Step on the longest examples, to reach a run's peak memory."""
    ordered = sorted(examples, key=partial(example_length, learner))
    longest = [ordered[-1 - i % len(ordered)] for i in range(size.trained)]
    made = all_sequences(objective.roll_out(learner, Batch(longest, 0)))
    train_on(learner, made[: size.trained], objective, trial, size)
    update(learner, trial)


def try_step(
    trial: Trial,
    learner: Learner,
    examples: Sequence[TrainingExample],
    objective: Objective,
    size: StepSize,
) -> float:
    """Return an optimiser step's seconds; call `warm_up` first."""
    tuning = trial.config.distill
    ordered = sorted(examples, key=partial(example_length, learner))
    batch = spread(ordered, size.written)
    groups, writing = trial.timed(lambda: objective.roll_out(learner, Batch(batch, 1)))
    made = all_sequences(groups)
    scale = tuning.batch_size / size.written
    writing *= size.write_scale * scale
    some = spread(made, min(size.trained, len(made)))
    go = partial(train_on, learner, some, objective, trial, size)
    _, first = trial.timed(go)
    passes = scale * len(made) / len(some)
    _, again = trial.timed(go) if passes > 1.0 else (None, first)
    _, updating = trial.timed(partial(update, learner, trial))
    # The first pass after an update also prepares the teacher.
    gathering = max(0.0, first - again) + again * passes
    return writing + gathering + updating


def example_length(learner: Learner, example: TrainingExample) -> tuple[int, int]:
    """Return the tokens of the student's prompt, then of the teacher's."""
    student = len(learner.encode(example.student_prompt))
    return student, len(learner.encode(example.teacher_prompt))


def train_on(
    learner: Learner,
    sequences: Sequence[TrainingSequence],
    objective: Objective,
    trial: Trial,
    size: StepSize,
) -> None:
    """Accumulate the gradient of some sequences, in one micro-batch."""
    whole = [replace(s, completion=grown(s.completion, size.rest)) for s in sequences]
    gather_gradients(learner, whole, objective, trial.config.distill)


def update(learner: Learner, trial: Trial) -> None:
    """Step at learning rate 0, so no weight changes, and move the teacher."""
    learner.step(0.0)
    move_teacher(learner, trial.config.distill.teacher_period - 1, trial.config.distill)


def try_saving(trial: Trial, learner: Learner) -> tuple[float, int]:
    """Write part of a checkpoint.

    Returns:
        Estimated seconds for a whole one, and the peak memory.
    """
    state, copying = trial.timed(learner.state)
    total = sum(value.nbytes for value in state.values())
    part: dict[str, Tensor] = {}
    for name, value in state.items():
        if not part or sum(kept.nbytes for kept in part.values()) < SAVED_BYTES:
            part[name] = value

    def save(folder: Path) -> None:
        with disk_errors(folder, total), saving():
            save_file(part, folder / "part.safetensors")
        sha256_file(folder / "part.safetensors")

    with TemporaryDirectory() as folder:
        _, writing = trial.timed(partial(save, Path(folder)))
    written = sum(value.nbytes for value in part.values())
    device = learner.facts.device
    # The copy is already held; safetensors makes another to write from.
    extra = 0 if device.startswith("cuda") else total
    return copying + writing * total / written, held_memory(device) + extra
