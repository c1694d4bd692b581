"""Rewards of methods that learn without labels, and the advantages that they give.

Completions of one question are a group of G. An answer that could not be read is
`None`. Plain Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Final

from neuron_opsd.answers.votes import tally

UNREAD_REWARD: Final = -7.0
"""Reward, in nats, that RENT's code gives where no answer can be read."""

LEAST_DEVIATION: Final = 1e-6
"""Added to the deviation that rewards are divided by, as in verl; TRL adds 1e-4."""


def majority_rewards(
    answers: Sequence[str | None], label: str | None, same: Callable[[str, str], bool]
) -> tuple[float, ...]:
    """Reward each answer that is the label: ``r_i = 1[answer_i = label]``.

    Without a label, since no vote could be held, there is no reward. `same` is asked
    with the label first.

    Source: TTRL, arXiv:2504.16084; an oracle where the label is the true answer.
    """
    return tuple(
        float(label is not None and answer is not None and same(label, answer))
        for answer in answers
    )


def cluster_rewards(
    answers: Sequence[str | None], same: Callable[[str, str], bool]
) -> tuple[float, ...]:
    """Reward the share of an answer's cluster: ``r_i = |cluster of answer_i| / G``.

    Clusters are those of `votes.tally`. An answer that could not be read has no reward,
    and there is none at all where every cluster is of one answer.

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

    Certainties are means per token, in nats. An answer that could not be read has the
    least reward of the group, so that no endless loop is rewarded for its certainty.

    Source: Intuitor, arXiv:2505.19590; what is unread is ours.
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

    Entropies are means per token, in nats; an answer that could not be read has
    `UNREAD_REWARD`. Source: RENT, arXiv:2505.22660.
    """
    return tuple(
        UNREAD_REWARD if answer is None else -entropy
        for entropy, answer in zip(entropies, answers, strict=True)
    )


def advantages(rewards: Sequence[float], *, scale: bool = True) -> tuple[float, ...]:
    """Return how far each reward of a group lies above their mean.

    ``A_i = (r_i - mean(r)) / (std(r) + 1e-6)``, with G - 1 under the root of the
    deviation, as in verl; TRL 1.16 adds `1e-4`. Where all rewards are alike, or there
    is one alone, all have exactly 0 (verl gives one alone its whole reward). Without
    `scale` nothing is divided, as in Dr. GRPO, arXiv:2503.20783.

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
