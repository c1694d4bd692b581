"""Training on what rollouts were paid: GRPO, whatever the reward.

A step is one update on the student's fresh rollouts. The log-probabilities that count
are those of the distribution that was sampled from: of the whole vocabulary where the
answer is free, renormalised over the trie of the choices where it is one of these.

Source: Shao et al., arXiv:2402.03300.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TypeAlias

import torch
from torch import Tensor

from neuron_opsd.config import Config
from neuron_opsd.errors import NotFiniteError
from neuron_opsd.method.policy import Limits, PolicyTokens, certainty, policy_loss
from neuron_opsd.method.rewards import advantages
from neuron_opsd.models.decoding.choices import allowed_tokens
from neuron_opsd.models.roles import Learner
from neuron_opsd.models.room import in_halves
from neuron_opsd.records import Completion, TokenIds
from neuron_opsd.stages.centring import refuse_centring
from neuron_opsd.stages.distill import (
    completion_tokens,
    per_token,
    student_pairs,
)
from neuron_opsd.stages.rollouts import choice_tokens
from neuron_opsd.stages.training import (
    Examples,
    Objective,
    RolloutGroup,
    TrainingSequence,
)
from neuron_opsd.stages.writing import (
    Group,
    asked,
    check_group,
    sequences_of,
    vote_on_policy,
)

Payment: TypeAlias = Callable[[Learner, Sequence[Group]], list[Sequence[float]]]
"""Gives for every group one reward for each of its completions that is trained on."""


def policy_gradient(config: Config, pay: Payment, kl_weight: float = 0.0) -> Objective:
    """Return GRPO on the student's own rollouts.

    Args:
        config: How many rollouts a question has, and the clip.
        pay: The reward.
        kl_weight: Weight of the divergence from the model where training began, if the
            settings name none.

    Raises:
        ConfigError: If a group would be a single rollout, or choices are centred.
    """
    check_group(config)
    refuse_centring(config)
    chosen = config.policy.kl_weight
    weight = kl_weight if chosen is None else chosen
    limits = Limits(config.policy.clip_low, config.policy.clip_high, weight)

    def write(learner: Learner, batch: Examples, step: int) -> list[RolloutGroup]:
        groups = vote_on_policy(learner, batch, step, config)
        paid = pay(learner, [group.trained for group in groups])
        refuse_not_finite(groups, paid)
        return [
            paid_lesson(group, rewards)
            for group, rewards in zip(groups, paid, strict=True)
        ]

    def loss(learner: Learner, exercises: Sequence[TrainingSequence]) -> Tensor:
        pairs = student_pairs(learner, exercises)
        reference = learner.reference(pairs) if weight else None
        student = learner.student(pairs)
        tokens = PolicyTokens(
            targets=completion_tokens(exercises, student.hidden),
            advantages=per_token(
                [e.advantage for e in exercises], exercises, student.hidden
            ),
            weights=per_token([e.count for e in exercises], exercises, student.hidden),
            allowed=[a for e in exercises for a in allowed(learner, e)],
            temperature=config.distill.temperature,
        )
        chunk = config.distill.chunk_positions
        return policy_loss(student, reference, tokens, limits, chunk)

    return Objective(write, loss)


def refuse_not_finite(groups: Sequence[Group], paid: Sequence[Sequence[float]]) -> None:
    """Refuse rewards that are no numbers.

    Raises:
        NotFiniteError: Naming their questions.
    """
    wrong = [
        group.example.question_id
        for group, rewards in zip(groups, paid, strict=True)
        if not all(map(math.isfinite, rewards))
    ]
    if wrong:
        raise NotFiniteError("what rollouts are paid is not finite", (), wrong)


def paid_lesson(group: Group, rewards: Sequence[float]) -> RolloutGroup:
    """Return the lesson of a question whose rollouts were paid."""
    gains = advantages(rewards, scale=group.config.policy.scale_rewards)
    completions = group.completions[: len(rewards)]
    # Equal completions are paid alike, so one of them can stand for all.
    gain_of = {
        completion.token_ids: gain
        for completion, gain in zip(completions, gains, strict=True)
    }
    exercises = tuple(
        replace(e, advantage=gain_of[e.completion.token_ids])
        for e in sequences_of(group.example, completions)
    )
    return RolloutGroup(
        exercises, group.completions, fmean(rewards), group.vote.agreement
    )


def allowed(learner: Learner, exercise: TrainingSequence) -> Sequence[TokenIds]:
    """Return which tokens each token was drawn from; none stands for all."""
    tokens = exercise.completion.token_ids
    if not exercise.example.choices:
        return [()] * len(tokens)
    return allowed_tokens(choice_tokens(learner, asked(exercise.example)), tokens)


def certainties(
    learner: Learner, groups: Sequence[Group], config: Config
) -> list[list[tuple[float, float]]]:
    """Return mean self-certainty and mean entropy per token of every completion.

    They are those of the student's whole distribution at the positions that predict
    the completion, the end token's included; in nats.

    Raises:
        NotFiniteError: If one is no number: the least of a group would hide it.
    """
    distinct = [
        e for group in groups for e in sequences_of(group.example, group.completions)
    ]

    def of_some(exercises: Sequence[TrainingSequence]) -> list[tuple[float, float]]:
        with torch.no_grad():
            chunk = config.distill.chunk_positions
            states = learner.student(student_pairs(learner, exercises))
            found = certainty(states, chunk)
        sizes = [len(e.completion.token_ids) for e in exercises]
        columns = [[float(p.mean()) for p in values.split(sizes)] for values in found]
        return list(zip(*columns, strict=True))

    means = in_halves(distinct, of_some, "the certainty of a completion")
    wrong = [
        e.example.question_id
        for e, values in zip(distinct, means, strict=True)
        if not all(map(math.isfinite, values))
    ]
    if wrong:
        raise NotFiniteError("the certainty of rollouts is not finite", (), wrong)
    of: dict[tuple[str, TokenIds], tuple[float, float]] = {
        (e.example.question_id, e.completion.token_ids): values
        for e, values in zip(distinct, means, strict=True)
    }

    def looked_up(group: Group, completion: Completion) -> tuple[float, float]:
        return of[group.example.question_id, completion.token_ids]

    return [[looked_up(group, c) for c in group.completions] for group in groups]
