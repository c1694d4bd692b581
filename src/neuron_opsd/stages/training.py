"""The training loop, which every method shares.

The loop is a generator of one record per optimiser step: it neither prints nor writes,
so its caller logs, checkpoints or stops. What is trained on and towards what is an
`Objective`: two functions. A method is one such pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias

from torch import Tensor

from neuron_opsd.config import Config, DistillConfig
from neuron_opsd.errors import TrainingError
from neuron_opsd.method.schedule import batch_at, learning_rate_at
from neuron_opsd.models.protocol import Learner
from neuron_opsd.records import Completion, StepMetrics, TrainingExample
from neuron_opsd.seeds import derive_seed
from neuron_opsd.stages.rollouts import top_share

Examples: TypeAlias = Sequence[TrainingExample]


@dataclass(frozen=True, slots=True)
class Exercise:
    """One completion that a step trains on."""

    example: TrainingExample
    completion: Completion
    count: int = 1
    """How often it was drawn; it counts as often, in one pass."""
    advantage: float = 0.0
    """What it was paid above its group, where a method pays."""

    @property
    def num_tokens(self) -> int:
        """Completion tokens, repeats counted."""
        return self.count * len(self.completion.token_ids)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one step makes of one question."""

    exercises: tuple[Exercise, ...]
    drawn: tuple[Completion, ...] = ()
    """All that was drawn for it, trained on or not; empty where no model wrote."""
    reward: float | None = None
    """Mean over the rollouts that were paid."""
    agreement: float | None = None
    """Share of the drawn that agree with their vote."""

    @property
    def shown(self) -> tuple[Completion, ...]:
        """What was drawn, or else what is trained on."""
        return self.drawn or tuple(e.completion for e in self.exercises)


Writer: TypeAlias = Callable[[Learner, Examples, int], list[Lesson]]
"""Makes a batch's lessons for a step, one for each question."""

Loss: TypeAlias = Callable[[Learner, Sequence[Exercise]], Tensor]
"""Gives the sum over all completion tokens of some exercises, repeats counted."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What a method trains on, and towards what."""

    write: Writer
    loss: Loss


def train(
    learner: Learner,
    examples: Examples,
    objective: Objective,
    config: Config,
    first_step: int = 0,
) -> Iterator[StepMetrics]:
    """Train the student and yield one record per optimiser step.

    The loss is the mean over all completion tokens of a batch, whatever the size of
    micro-batches. Which questions a step meets and what is drawn in it depend on the
    step alone, so a run that goes on at `first_step` takes the same path.

    Raises:
        TrainingError: If loss or gradient is no longer finite; no weight has moved
            in that step.
    """
    tuning = config.distill
    seed = derive_seed(config.seed, "train")
    for step in range(first_step, tuning.steps):
        places = batch_at(step, len(examples), tuning.batch_size, seed)
        batch = [examples[i] for i in places]
        lessons = objective.write(learner, batch, step)
        exercises = all_exercises(lessons)
        loss = gather_gradients(learner, exercises, objective, tuning)
        rate = learning_rate_at(step, tuning)
        try:
            grad_norm = learner.step(rate)
        except FloatingPointError as error:
            raise TrainingError(
                f"step {step}: {error} after questions "
                f"{', '.join(example.question_id for example in batch)}; lower "
                "distill.learning_rate or look at these questions"
            ) from error
        move_teacher(learner, step, tuning)
        yield metrics_of(step, lessons, loss, grad_norm, rate)


def metrics_of(
    step: int, lessons: Sequence[Lesson], loss: float, grad_norm: float, rate: float
) -> StepMetrics:
    """Say what a step did."""
    shown = [completion for lesson in lessons for completion in lesson.shown]
    exercises = all_exercises(lessons)
    return StepMetrics(
        step=step,
        loss=loss,
        grad_norm=grad_norm,
        learning_rate=rate,
        num_tokens=sum(e.num_tokens for e in exercises),
        mean_length=mean([len(c.token_ids) for c in shown]) or 0.0,
        truncated=mean([not c.finished for c in shown]) or 0.0,
        entropy=mean([c.entropy for c in shown]) or 0.0,
        top_answer_share=top_share([c.text for c in shown])[1],
        num_generated=sum(len(c.token_ids) for lesson in lessons for c in lesson.drawn),
        reward=mean([lesson.reward for lesson in lessons]),
        agreement=mean([lesson.agreement for lesson in lessons]),
    )


def all_exercises(lessons: Sequence[Lesson]) -> list[Exercise]:
    """Return all that a step trains on."""
    return [exercise for lesson in lessons for exercise in lesson.exercises]


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are there, `None` where none is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def gather_gradients(
    learner: Learner,
    exercises: Sequence[Exercise],
    objective: Objective,
    config: DistillConfig,
) -> float:
    """Add up the gradient of a batch, micro-batch by micro-batch; return the loss."""
    num_tokens = sum(exercise.num_tokens for exercise in exercises)
    total = 0.0
    for start in range(0, len(exercises), config.micro_batch_size):
        part = exercises[start : start + config.micro_batch_size]
        term = objective.loss(learner, part) / num_tokens
        term.backward()
        total += term.item()
    return total


def move_teacher(learner: Learner, step: int, config: DistillConfig) -> None:
    """Bring the teacher's weights along after a step.

    Source: Algorithm 1 of arXiv:2607.02460 for `ema`.
    """
    if config.teacher == "ema":
        learner.update_teacher(config.ema_rate)
    elif config.teacher == "live" or (
        config.teacher == "periodic" and (step + 1) % config.teacher_period == 0
    ):
        learner.update_teacher(1.0)
