"""What votes and measures need of a rollout: neither its text nor its tokens.

Texts and tokens of long traces take thousands of times the room of all the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class RolloutSummary(Protocol):
    """What a rollout and its summary have in common."""

    @property
    def question_id(self) -> str:
        """Id of the question."""

    @property
    def index(self) -> int:
        """Place among the rollouts of the same question and temperature, from 0."""

    @property
    def temperature(self) -> float:
        """0 for the greedy completion."""

    @property
    def answer(self) -> str | None:
        """Normalised final answer, `None` when the text holds none."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the completion, its end token included."""

    @property
    def finished(self) -> bool:
        """False when sampling stopped at the longest length allowed."""

    @property
    def is_closed(self) -> bool:
        """Whether any reasoning was closed, so that there may be an answer."""

    @property
    def logprob(self) -> float:
        """Sum over tokens, in nats."""

    @property
    def entropy(self) -> float:
        """Mean over tokens, in nats."""


@dataclass(frozen=True, slots=True)
class StoredSummary:
    """A rollout without its text and its tokens; the fields are `RolloutSummary`."""

    question_id: str
    index: int
    temperature: float
    answer: str | None
    num_tokens: int
    finished: bool
    is_closed: bool
    logprob: float
    entropy: float
    row: int
    """Where the rollout stands in its file, from 0."""
