"""The training loop, and on-policy distillation as what it is used for.

The loop is a generator of one record per optimiser step: it neither prints nor writes,
so its caller logs, checkpoints or stops. What is trained on and towards what is an
`Objective`: two functions. A method is one such pair.

Axes: N completion tokens of a micro-batch, D residual width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias

import torch
from torch import Tensor

from neuron_opsd.config import Config, DistillConfig
from neuron_opsd.errors import TrainingError
from neuron_opsd.method.divergence import distillation_loss, imitation_loss
from neuron_opsd.method.one_pass import Readout
from neuron_opsd.method.schedule import batch_at, learning_rate_at
from neuron_opsd.models.protocol import Learner, Pair, Sampling
from neuron_opsd.records import (
    Completion,
    Message,
    Question,
    StepMetrics,
    TrainingExample,
)
from neuron_opsd.seeds import derive_seed, generator
from neuron_opsd.stages.rollouts import Asked, Draw, complete, top_share

Examples: TypeAlias = Sequence[TrainingExample]

Writer: TypeAlias = Callable[[Learner, Examples, int], list[Completion]]
"""Gives the completions that a step trains on."""

Loss: TypeAlias = Callable[[Learner, Examples, Sequence[Completion]], Tensor]
"""Gives the sum over all completion tokens of a micro-batch, in nats."""


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
        completions = objective.write(learner, batch, step)
        num_tokens = sum(len(c.token_ids) for c in completions)
        loss = gather_gradients(learner, batch, completions, objective, tuning)
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
        yield StepMetrics(
            step=step,
            loss=loss,
            grad_norm=grad_norm,
            learning_rate=rate,
            num_tokens=num_tokens,
            mean_length=num_tokens / len(batch),
            truncated=fmean(not c.finished for c in completions),
            entropy=fmean(c.entropy for c in completions),
            top_answer_share=top_share([c.text for c in completions])[1],
        )


def gather_gradients(
    learner: Learner,
    batch: Examples,
    completions: Sequence[Completion],
    objective: Objective,
    config: DistillConfig,
) -> float:
    """Add up the gradient of a batch, micro-batch by micro-batch; return the loss."""
    num_tokens = sum(len(c.token_ids) for c in completions)
    total = 0.0
    for start in range(0, len(batch), config.micro_batch_size):
        part = slice(start, start + config.micro_batch_size)
        term = objective.loss(learner, batch[part], completions[part]) / num_tokens
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


def distillation(config: Config) -> Objective:
    """Return on-policy distillation towards the teacher who sees the context.

    The student answers without the context; at every token of its answer, the end
    token included, the loss is the divergence of its distribution from the teacher's:
    over the whole vocabulary, or the part of it that the settings name.

    Source: Eq. 10 of arXiv:2607.02460.
    """

    def loss(
        learner: Learner, batch: Examples, completions: Sequence[Completion]
    ) -> Tensor:
        ids = [c.token_ids for c in completions]
        teacher_pairs = [
            (learner.encode(e.teacher_prompt), y)
            for e, y in zip(batch, ids, strict=True)
        ]
        # The teacher goes first, while nothing of the student's graph is alive.
        hidden, head = learner.teacher_hidden(teacher_pairs), learner.teacher_head()
        teacher = Readout(hidden, head.weight, head.softcap)
        student = student_readout(learner, batch, completions)
        return distillation_loss(student, teacher, config.distill)

    return Objective(on_policy(config), loss)


def imitation(config: Config, write: Writer) -> Objective:
    """Return supervised training on given completions, with cross-entropy."""

    def loss(
        learner: Learner, batch: Examples, completions: Sequence[Completion]
    ) -> Tensor:
        ids = [token for c in completions for token in c.token_ids]
        targets = torch.tensor(ids, device=learner.facts.device)
        student = student_readout(learner, batch, completions)
        return imitation_loss(student, targets, config.distill.chunk_positions)

    return Objective(write, loss)


def student_readout(
    learner: Learner, batch: Examples, completions: Sequence[Completion]
) -> Readout:
    """Return what makes the student's logits at all completion tokens of a batch."""
    pairs: list[Pair] = [
        (learner.encode(example.student_prompt), completion.token_ids)
        for example, completion in zip(batch, completions, strict=True)
    ]
    head = learner.student_head()
    return Readout(learner.student_hidden(pairs), head.weight, head.softcap)


def on_policy(config: Config) -> Writer:
    """Return the writer of the student's own rollouts."""
    sampling = Sampling(
        temperature=config.distill.temperature,
        max_new_tokens=config.rollouts.max_new_tokens,
        stop_at_newline=config.prompts.form == "plain",
    )

    def write(learner: Learner, batch: Examples, step: int) -> list[Completion]:
        seeds = [
            [derive_seed(config.seed, "train", step, place, example.question_id)]
            for place, example in enumerate(batch)
        ]
        draw = Draw(sampling, seeds)
        (groups,) = complete(learner, [asked(e) for e in batch], [draw])
        return [group[0] for group in groups]

    return write


def asked(example: TrainingExample) -> Asked:
    """Return an example as a question that the student is asked."""
    question = Question(
        example.question_id, (Message("user", ""),), choices=example.choices
    )
    return Asked(question, example.student_prompt, example.choices)


def random_choices(config: Config) -> Writer:
    """Return the writer of the form-only control: uniformly random choices.

    For questions without choices it takes the base model's own answers to other
    questions, which the caller puts into the examples' `choices`.
    """

    def write(learner: Learner, batch: Examples, step: int) -> list[Completion]:
        completions = []
        for place, example in enumerate(batch):
            rng = generator(config.seed, "form-only", step, place, example.question_id)
            text = example.choices[int(rng.integers(len(example.choices)))]
            ids = learner.encode_answer(example.student_prompt, text)
            completions.append(Completion(ids, text, True, 0.0, 0.0))  # noqa: FBT003
        return completions

    return write
