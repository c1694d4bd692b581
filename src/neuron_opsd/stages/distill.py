"""Losses of training towards a teacher's distribution or towards given completions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neuron_opsd.config import DistillConfig
from neuron_opsd.method.losses import distillation_loss, imitation_loss
from neuron_opsd.models.roles import Learner
from neuron_opsd.stages.training import Sequences, student_pairs


def loss_to_teacher(
    learner: Learner, sequences: Sequences, config: DistillConfig
) -> Tensor:
    """Return the divergence of student from teacher, summed over completion tokens.

    The student answers without the context that the teacher sees; the divergence is
    taken at every token of its answer, the end token included, over the whole
    vocabulary or the part of it that the settings name.

    Source: Eq. 10 of arXiv:2607.02460.
    """
    pairs = [
        (learner.encode(s.example.teacher_prompt), s.completion.token_ids)
        for s in sequences
    ]
    # The teacher goes first, while nothing of the student's graph is alive.
    teacher = learner.teacher(pairs)
    student = learner.student(student_pairs(learner, sequences))
    weights = token_counts(sequences, student.hidden)
    return distillation_loss(student, teacher, config, weights)


def loss_to_completions(
    learner: Learner, sequences: Sequences, config: DistillConfig
) -> Tensor:
    """Return the cross-entropy of completions, summed over their tokens."""
    student = learner.student(student_pairs(learner, sequences))
    tokens = completion_tokens(sequences, student.hidden)
    weights = token_counts(sequences, student.hidden)
    return imitation_loss(student, tokens, config.chunk_positions, weights)


def completion_tokens(sequences: Sequences, like: Tensor) -> Tensor:
    """Return the completion tokens ``(N,)`` of all sequences, where a tensor is."""
    ids = [token for s in sequences for token in s.completion.token_ids]
    return torch.tensor(ids, device=like.device)


def token_counts(sequences: Sequences, like: Tensor) -> Tensor | None:
    """Return how often each completion token ``(N,)`` counts, `None` for once each."""
    if all(s.count == 1 for s in sequences):
        return None
    return per_token([s.count for s in sequences], sequences, like)


def per_token(values: Sequence[float], sequences: Sequences, like: Tensor) -> Tensor:
    """Return each sequence's value at all its completion tokens, ``(N,)``."""
    sizes = torch.tensor([len(s.completion.token_ids) for s in sequences])
    each = torch.tensor(values, dtype=torch.float32).repeat_interleave(sizes)
    return each.to(like.device)
