"""What rollouts are like, without labels: repetition, unanimity and so on.

Axes: Q questions, k different answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from neuron_opsd.method.beliefs import entropy_of
from neuron_opsd.records import Reading

RUN: Final = 4
"""Tokens per run."""
REACH: Final = 256
"""Tokens back within which a run is a repeat; phrases that return later are no loop."""
UNREAD: Final = ""
"""Label of rollouts without a readable answer."""


def repetition(token_ids: Sequence[int]) -> float:
    """Return the share of runs of `RUN` tokens that repeat a recent one.

    Source: rep-n of Welleck et al., arXiv:1908.04319, over runs in place of tokens and
    within `REACH` tokens.
    """
    last_at: dict[tuple[int, ...], int] = {}
    num_runs = len(token_ids) - RUN + 1
    repeated = 0
    for place in range(num_runs):
        run = tuple(token_ids[place : place + RUN])
        repeated += place - last_at.get(run, -REACH - 1) <= REACH
        last_at[run] = place
    return repeated / num_runs if num_runs > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model answers to one question; all values are JSON."""

    shares: Mapping[str, float]
    """Probability or share of rollouts of each answer, by label; sums to one with
    `UNREAD`."""
    length: float
    """Mean tokens of a rollout."""
    truncated: float
    repetition: float
    entropy: float
    """Per token, in nats."""
    divergence: float
    """KL(model || base), of the choice or summed over a rollout's tokens."""
    num_tokens: int
    """Its tokens; 1 for a choice."""
    surprise: float
    """KL(base || model), of the choice or summed over the base rollout's tokens."""
    num_base_tokens: int
    num_rollouts: int
    """0 if shares are exact probabilities."""

    @property
    def read(self) -> dict[str, float]:
        """Shares of the readable answers."""
        return {label: share for label, share in self.shares.items() if label}


def reading_of(answers: Sequence[Answers], base: Sequence[Answers]) -> Reading:
    """Summarise a model's answers to Q questions, against the base's."""
    marginal: Counter[str] = Counter()
    for one in answers:
        marginal.update(one.shares)
    overall = [share / len(answers) for share in marginal.values()]
    return Reading(
        mean_length=fmean(one.length for one in answers),
        truncated=fmean(one.truncated for one in answers),
        repetition=fmean(one.repetition for one in answers),
        entropy=fmean(one.entropy for one in answers),
        agreement=fmean(max(one.read.values(), default=0.0) for one in answers),
        top_answer_share=max(overall),
        information=entropy_of(overall)
        - fmean(entropy_of(one.shares.values()) for one in answers),
        base_agreement=fmean(map(meeting, answers, base)),
        divergence=sum(one.divergence for one in answers)
        / sum(one.num_tokens for one in answers),
        surprise=sum(one.surprise for one in answers)
        / sum(one.num_base_tokens for one in answers),
        num_rollouts=sum(one.num_rollouts for one in answers),
    )


def meeting(one: Answers, other: Answers) -> float:
    """Return how probably two say the same; for one with itself, two rollouts."""
    same = sum(share * other.read.get(label, 0.0) for label, share in one.read.items())
    count = one.num_rollouts
    if one is not other or count == 0:
        return same
    # Each rollout equals itself, which says nothing.
    return max(0.0, same * count - sum(one.read.values())) / max(1, count - 1)
