"""What is read off a model before training: beliefs, hidden states and medoids.

Axis: D residual width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Belief:
    """What the model answers to one question without and with demonstrations.

    `stages.pool_beliefs` says how it is measured.
    """

    question_id: str
    answers: tuple[str, ...] = ()
    """The choices, or the different answers of the samples; empty where none of these
    can be read, or only the divergence was asked for."""
    student: tuple[float, ...] = ()
    """Log-probability of each answer without demonstrations, in nats."""
    teacher: tuple[float, ...] = ()
    """The same with demonstrations."""
    divergence: float | None = None
    """KL(student || teacher) in nats: of the choice, or per token of a sample; `None`
    where nobody asked for it."""
    num_tokens: int = 0
    """Tokens that were read to know all this."""


@dataclass(frozen=True, slots=True, eq=False)
class QuestionState:
    """What a model holds of a question before it answers."""

    question_id: str
    values: NDArray[np.float32]
    """``(D,)`` mean of a layer's hidden states over the question's tokens."""


@dataclass(frozen=True, slots=True)
class Medoid:
    """The rollout of a question that the others of the question are most like."""

    question_id: str
    index: int | None
    """Of the rollout; `None` where none holds an answer that can be read."""
    distance: float | None
    """Mean Jaccard distance of its neurons to those of the others."""
    num_read: int = 0
    """Tokens that passes went over to find it, prompts included."""
