"""What is read off a model for the choice of demonstrations. Axis: D residual width."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
