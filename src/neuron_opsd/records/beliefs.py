"""What is read off a model before training: beliefs, hidden states and medoids.

Axis: D residual width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Belief:
    """A model's answers to one question without and with demonstrations.

    `stages.pool_beliefs` says how it is measured.
    """

    question_id: str
    answers: tuple[str, ...] = ()
    """The choices, or the samples' distinct answers; empty if none are readable, or
    only the divergence was wanted."""
    student: tuple[float, ...] = ()
    """Log-probability of each answer without demonstrations, in nats."""
    teacher: tuple[float, ...] = ()
    """The same with demonstrations."""
    divergence: float | None = None
    """KL(student || teacher) in nats: of the choice, or per token of a sample; `None`
    if not wanted."""
    num_tokens: int = 0
    """Tokens read for this."""


@dataclass(frozen=True, slots=True, eq=False)
class QuestionState:
    """A model's state for a question before it answers."""

    question_id: str
    values: NDArray[np.float32]
    """``(D,)`` mean of a layer's hidden states over the question's tokens."""


@dataclass(frozen=True, slots=True)
class Medoid:
    """The rollout most like the question's others."""

    question_id: str
    index: int | None
    """Of the rollout; `None` if no rollout holds a readable answer."""
    distance: float | None
    """Mean Jaccard distance of its neurons to the others'."""
    num_read: int = 0
    """Tokens read to find it, prompts included."""
