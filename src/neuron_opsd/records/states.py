"""What a model holds of questions. Axis: D residual width."""

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
