"""Losses of training towards a teacher's distribution or towards given completions."""

from __future__ import annotations

from torch import Tensor

from neuron_opsd.config import DistillConfig
from neuron_opsd.method.losses import distillation_loss, imitation_loss
from neuron_opsd.models.roles import Learner
from neuron_opsd.stages.engine_gap import token_weights
from neuron_opsd.stages.sequences import (
    Sequences,
    completion_tokens,
    student_pairs,
    teacher_pairs,
)


def loss_to_teacher(
    learner: Learner, sequences: Sequences, config: DistillConfig
) -> Tensor:
    """Return the divergence of student from teacher, summed over completion tokens.

    The student answers without the context that the teacher sees; the divergence is
    taken at every token of its answer, the end token included, over the whole
    vocabulary or the part of it that the settings name.

    Source: Eq. 10 of arXiv:2607.02460.
    """
    # The teacher goes first, while nothing of the student's graph is alive.
    teacher = learner.teacher(teacher_pairs(learner, sequences))
    student = learner.student(student_pairs(learner, sequences))
    weights = token_weights(student, sequences, config, of_drawn=False)
    return distillation_loss(student, teacher, config, weights)


def loss_to_completions(
    learner: Learner, sequences: Sequences, config: DistillConfig
) -> Tensor:
    """Return the cross-entropy of completions, summed over their tokens."""
    student = learner.student(student_pairs(learner, sequences))
    tokens = completion_tokens(sequences, student.hidden)
    weights = token_weights(student, sequences, config, of_drawn=True)
    return imitation_loss(student, tokens, config.chunk_positions, weights)
