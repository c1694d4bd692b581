"""Majority voting over the answers of one question's rollouts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from neuron_opsd.answers.readers import Reader
from neuron_opsd.records import RolloutSummary, Vote

R = TypeVar("R", bound=RolloutSummary)
"""A rollout or its summary."""


def tally(
    question_id: str,
    answers: Sequence[str | None],
    same: Callable[[str, str], bool] = operator.eq,
) -> Vote:
    """Count the answers and name the most frequent one.

    An answer joins the earliest one that it is the `same` as; each distinct answer is
    compared once. Unreadable answers (`None`) do not vote but stay in the denominator,
    so a model that seldom finishes cannot look confident. Ties go to the earliest
    answer.

    Source: confidence as max count over rollouts, arXiv:2607.02460, appendix C.1.
    """
    if not answers:
        raise ValueError(f"question {question_id!r} has no answers to vote on")
    counts: dict[str, int] = {}
    joined: dict[str, str] = {}
    for answer in answers:
        if answer is None:
            continue
        if answer not in joined:
            joined[answer] = next((old for old in counts if same(old, answer)), answer)
        counts[joined[answer]] = counts.get(joined[answer], 0) + 1
    # A dict keeps first-seen order and max() keeps the first maximum.
    pseudo_label = max(counts, key=counts.__getitem__, default=None)
    return Vote(question_id, pseudo_label, counts, len(answers), joined)


def tally_votes(
    rollouts: Iterable[RolloutSummary], readers: Mapping[str, Reader] | None = None
) -> dict[str, Vote]:
    """Vote on every question by its sampled rollouts; greedy ones do not vote.

    Rollouts come in any order and vote by `index`. Without readers by question id,
    equal spelling decides. Votes are by question id, in order of first appearance.
    """
    given: dict[str, list[tuple[int, str | None]]] = {}
    for rollout in rollouts:
        if rollout.temperature > 0.0:
            group = given.setdefault(rollout.question_id, [])
            group.append((rollout.index, rollout.answer))
    votes: dict[str, Vote] = {}
    for question_id, group in given.items():
        group.sort(key=operator.itemgetter(0))
        same = operator.eq if readers is None else readers[question_id].same
        votes[question_id] = tally(question_id, [answer for _, answer in group], same)
        group.clear()  # each vote replaces the rollouts it came from
    return votes


def sampled_rollouts(rollouts: Iterable[R]) -> dict[str, list[R]]:
    """Return sampled rollouts by question id, each question's by index."""
    groups: dict[str, list[R]] = {}
    for rollout in rollouts:
        if rollout.temperature > 0.0:
            groups.setdefault(rollout.question_id, []).append(rollout)
    for group in groups.values():
        group.sort(key=operator.attrgetter("index"))
    return groups
