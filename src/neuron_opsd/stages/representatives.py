"""The rollout that stands for each question: what is shown, scored and selected by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from neuron_opsd.config import Config
from neuron_opsd.records import RolloutSummary, Vote
from neuron_opsd.stages.teaching import fits

R = TypeVar("R", bound=RolloutSummary)
"""A rollout or its summary."""


def representatives(
    rollouts: Iterable[R], votes: Mapping[str, Vote], config: Config
) -> dict[str, R]:
    """Return the rollout that stands for each question.

    It is the one a demonstration would show, and its neurons are the question's; the
    first one where none can be shown.
    """
    chosen: dict[str, R] = {}
    first: dict[str, R] = {}
    for rollout in rollouts:
        first.setdefault(rollout.question_id, rollout)
        if fits(rollout, votes, config.contexts):
            chosen.setdefault(rollout.question_id, rollout)
    return {**first, **chosen}


def own_answers(chosen: Mapping[str, RolloutSummary]) -> dict[str, str | None]:
    """Return the answer that stands for each question."""
    return {question_id: rollout.answer for question_id, rollout in chosen.items()}
