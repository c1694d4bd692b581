"""Training on rewards of rollouts: GRPO, whatever the reward.

A step is one update on fresh rollouts. Log-probabilities are of the distribution
sampled from: the whole vocabulary, or the trie of the choices.

Source: Shao et al., arXiv:2402.03300.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TypeAlias

import torch
from torch import Tensor

from neuron_opsd.config import Config, DistillConfig
from neuron_opsd.method.policy import Limits, PolicyTokens, certainty, policy_loss
from neuron_opsd.method.rewards import advantages
from neuron_opsd.models.decoding.choices import allowed_tokens
from neuron_opsd.models.roles import Learner
from neuron_opsd.records import TokenIds
from neuron_opsd.stages.engine_gap import token_weights
from neuron_opsd.stages.rollouts import choice_tokens
from neuron_opsd.stages.sequences import (
    Sequences,
    TrainingSequence,
    completion_tokens,
    per_token,
    refuse_not_finite,
    student_pairs,
)
from neuron_opsd.stages.splitting import in_passes
from neuron_opsd.stages.training import RolloutGroup, RolloutGroups
from neuron_opsd.stages.training_rollouts import VotedGroup, asked, sequences_of

Rewards: TypeAlias = list[Sequence[float]]
"""For every group, a reward for each completion trained on."""


def rewarded_groups(
    groups: Sequence[VotedGroup], rewards: Rewards, *, scale: bool, kl_weight: float
) -> RolloutGroups:
    """Return what to train on, from rollouts with rewards.

    Those with advantage 0 are idle unless a divergence moves them too.
    """
    names = (group.example.question_id for group in groups)
    refuse_not_finite(
        "the rewards of rollouts are not finite", zip(names, rewards, strict=True)
    )
    found = []
    for group, values in zip(groups, rewards, strict=True):
        completions = group.completions[: len(values)]
        gains = advantages(values, scale=scale)
        # Equal completions have equal rewards, so one can represent all.
        gain_of = dict(zip((c.token_ids for c in completions), gains, strict=True))
        sequences = tuple(
            replace(s, advantage=gain, idle=gain == 0.0 and kl_weight == 0.0)
            for s in sequences_of(group.example, completions)
            for gain in (gain_of[s.completion.token_ids],)
        )
        mean, agreement = fmean(values), group.vote.agreement
        found.append(RolloutGroup(sequences, group.completions, mean, agreement))
    return found


def policy_gradient(
    learner: Learner, sequences: Sequences, config: Config, kl_weight: float
) -> Tensor:
    """Return the clipped loss of GRPO, summed over completion tokens."""
    pairs = student_pairs(learner, sequences)
    reference = learner.reference(pairs) if kl_weight else None
    student = learner.student(pairs)
    like = student.hidden
    weights = token_weights(student, sequences, config.distill, of_drawn=True)
    if weights is None:
        weights = torch.ones(len(like), device=like.device)
    tokens = PolicyTokens(
        targets=completion_tokens(sequences, like),
        advantages=per_token([s.advantage for s in sequences], sequences, like),
        weights=weights,
        allowed=[a for s in sequences for a in allowed(learner, s)],
        temperature=config.distill.temperature,
    )
    limits = Limits(config.policy.clip_low, config.policy.clip_high, kl_weight)
    chunk = config.distill.chunk_positions
    return policy_loss(student, reference, tokens, limits, chunk)


def allowed(learner: Learner, sequence: TrainingSequence) -> Sequence[TokenIds]:
    """Return the tokens allowed at each position; empty for all."""
    tokens = sequence.completion.token_ids
    if not sequence.example.choices:
        return [()] * len(tokens)
    return allowed_tokens(choice_tokens(learner, asked(sequence.example)), tokens)


def certainties(
    learner: Learner, groups: Sequence[VotedGroup], config: DistillConfig
) -> list[list[tuple[float, float]]]:
    """Return each completion's mean self-certainty and entropy per token, in nats.

    Over the whole distribution at the positions that predict it, the end token
    included.

    Raises:
        NotFiniteError: If one is not finite: a group's minimum would hide it.
    """
    distinct = [
        s for group in groups for s in sequences_of(group.example, group.completions)
    ]

    def of_some(sequences: Sequences) -> list[tuple[float, float]]:
        states = learner.student(student_pairs(learner, sequences))
        found = certainty(states, config.chunk_positions)
        sizes = [len(s.completion.token_ids) for s in sequences]
        columns = [[float(p.mean()) for p in values.split(sizes)] for values in found]
        return list(zip(*columns, strict=True))

    pairs, what = student_pairs(learner, distinct), "the certainty of a completion"
    means = in_passes(learner, distinct, pairs, of_some, what)
    names = [s.example.question_id for s in distinct]
    refuse_not_finite(
        "the certainty of rollouts is not finite", zip(names, means, strict=True)
    )
    keys = ((s.example.question_id, s.completion.token_ids) for s in distinct)
    of = dict(zip(keys, means, strict=True))
    return [
        [of[group.example.question_id, c.token_ids] for c in group.completions]
        for group in groups
    ]
