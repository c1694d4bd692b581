"""Rewards for learning without labels, and their advantages. Plain Python.

A group is the G completions of one question; unreadable answers are `None`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Final

from neuron_opsd.answers.votes import tally

UNREAD_REWARD: Final = -7.0
"""Of RENT's code for unreadable answers, in nats."""

LEAST_DEVIATION: Final = 1e-6
"""Added to the deviation that rewards are divided by, as in verl; TRL adds 1e-4."""


def majority_rewards(
    answers: Sequence[str | None], label: str | None, same: Callable[[str, str], bool]
) -> tuple[float, ...]:
    """Reward each answer that equals the label: ``r_i = 1[answer_i = label]``.

    Without a label all rewards are 0. `same` takes the label first.

    Source: TTRL, arXiv:2504.16084; an oracle if the label is the true answer.
    """
    return tuple(
        float(label is not None and answer is not None and same(label, answer))
        for answer in answers
    )


def cluster_rewards(
    answers: Sequence[str | None], same: Callable[[str, str], bool]
) -> tuple[float, ...]:
    """Reward the share of an answer's cluster: ``r_i = |cluster of answer_i| / G``.

    Clusters are as in `votes.tally`. Unreadable answers get 0; so do all if no cluster
    has two answers.

    Source: EMPO, arXiv:2504.05812, and the upper threshold of its code.
    """
    if not answers:
        return ()
    counts = tally("", answers, same).counts
    sizes: dict[str | None, int] = dict.fromkeys(answers, 0)
    if max(counts.values(), default=1) > 1:
        for answer in [one for one in sizes if one is not None]:
            first = next(one for one in counts if one == answer or same(one, answer))
            sizes[answer] = counts[first]
    return tuple(sizes[answer] / len(answers) for answer in answers)


def certainty_rewards(
    certainties: Sequence[float], answers: Sequence[str | None]
) -> tuple[float, ...]:
    """Reward self-certainty: ``r_i = 1/T_i sum_t KL(uniform || p_t)``.

    Certainties are means per token, in nats. Unreadable answers get the group's least,
    so that no endless loop is rewarded.

    Source: Intuitor, arXiv:2505.19590; the rule for unreadable ones is ours.
    """
    least = min(certainties)
    return tuple(
        least if answer is None else certainty
        for certainty, answer in zip(certainties, answers, strict=True)
    )


def entropy_rewards(
    entropies: Sequence[float], answers: Sequence[str | None]
) -> tuple[float, ...]:
    """Reward low entropy: ``r_i = -1/T_i sum_t H(p_t)``.

    Entropies are means per token, in nats; unreadable answers get `UNREAD_REWARD`.
    Source: RENT, arXiv:2505.22660.
    """
    return tuple(
        UNREAD_REWARD if answer is None else -entropy
        for entropy, answer in zip(entropies, answers, strict=True)
    )


def advantages(rewards: Sequence[float], *, scale: bool = True) -> tuple[float, ...]:
    """Return how far each reward of a group is above their mean.

    ``A_i = (r_i - mean(r)) / (std(r) + 1e-6)``, with G - 1 in the deviation, as in
    verl; TRL 1.16 adds `1e-4`. Equal rewards, or a single one, give exactly 0 (verl
    gives a single one its whole reward). Without `scale` nothing is divided, as in Dr.
    GRPO, arXiv:2503.20783.

    Source: GRPO, arXiv:2402.03300.
    """
    if all(reward == rewards[0] for reward in rewards):
        return (0.0,) * len(rewards)
    mean = fmean(rewards)
    differences = [reward - mean for reward in rewards]
    if not scale:
        return tuple(differences)
    freedom = max(len(rewards) - 1, 1)
    deviation = math.hypot(*differences) / math.sqrt(freedom)
    return tuple(d / (deviation + LEAST_DEVIATION) for d in differences)
