"""Losses of training towards a teacher's distribution or towards given completions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neuron_opsd.config import Config
from neuron_opsd.method.divergence import distillation_loss, imitation_loss
from neuron_opsd.models.roles import Learner
from neuron_opsd.records import Pair
from neuron_opsd.stages.training import Objective, RolloutFunction, TrainingSequence
from neuron_opsd.stages.writing import on_policy


def distillation(config: Config, write: RolloutFunction | None = None) -> Objective:
    """Return distillation towards the teacher who sees the context.

    The student answers without the context; at every token of its answer, the end
    token included, the loss is the divergence of its distribution from the teacher's:
    over the whole vocabulary, or the part of it that the settings name.

    Args:
        config: Names the divergence.
        write: Makes what is trained on; the student's own rollouts when left out.

    Source: Eq. 10 of arXiv:2607.02460.
    """

    def loss(learner: Learner, exercises: Sequence[TrainingSequence]) -> Tensor:
        pairs = [
            (learner.encode(e.example.teacher_prompt), e.completion.token_ids)
            for e in exercises
        ]
        # The teacher goes first, while nothing of the student's graph is alive.
        teacher = learner.teacher(pairs)
        student = learner.student(student_pairs(learner, exercises))
        weights = token_counts(exercises, student.hidden)
        return distillation_loss(student, teacher, config.distill, weights)

    return Objective(on_policy(config) if write is None else write, loss)


def imitation(config: Config, write: RolloutFunction) -> Objective:
    """Return supervised training on given completions, with cross-entropy."""

    def loss(learner: Learner, exercises: Sequence[TrainingSequence]) -> Tensor:
        student = learner.student(student_pairs(learner, exercises))
        targets = completion_tokens(exercises, student.hidden)
        weights = token_counts(exercises, student.hidden)
        return imitation_loss(student, targets, config.distill.chunk_positions, weights)

    return Objective(write, loss)


def student_pairs(
    learner: Learner, exercises: Sequence[TrainingSequence]
) -> list[Pair]:
    """Return the student's prompts with the completions that follow them."""
    return [
        (learner.encode(e.example.student_prompt), e.completion.token_ids)
        for e in exercises
    ]


def completion_tokens(exercises: Sequence[TrainingSequence], like: Tensor) -> Tensor:
    """Return the completion tokens ``(N,)`` of all exercises, where a tensor is."""
    ids = [token for e in exercises for token in e.completion.token_ids]
    return torch.tensor(ids, device=like.device)


def token_counts(exercises: Sequence[TrainingSequence], like: Tensor) -> Tensor | None:
    """Return how often each completion token ``(N,)`` counts, `None` for once each."""
    if all(e.count == 1 for e in exercises):
        return None
    return per_token([e.count for e in exercises], exercises, like)


def per_token(
    values: Sequence[float], exercises: Sequence[TrainingSequence], like: Tensor
) -> Tensor:
    """Return each exercise's value at all its completion tokens, ``(N,)``."""
    sizes = [len(e.completion.token_ids) for e in exercises]
    each = torch.tensor(values, dtype=torch.float32).repeat_interleave(
        torch.tensor(sizes)
    )
    return each.to(like.device)
