"""Objectives for tests: of two functions, of given rollouts, of a given reward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from neuron_opsd.config import Config
from neuron_opsd.methods.imitation import Imitation
from neuron_opsd.methods.reinforcement import Reinforcement
from neuron_opsd.models.roles import Learner
from neuron_opsd.stages.policy_gradient import Rewards
from neuron_opsd.stages.training import Batch, RolloutGroups, TrainingSequence
from neuron_opsd.stages.training_rollouts import VotedGroup

RolloutFunction: TypeAlias = Callable[[Learner, Batch], RolloutGroups]
Reward: TypeAlias = Callable[[Learner, Sequence[VotedGroup]], Rewards]


@dataclass(frozen=True)
class TwoFunctions:
    """An objective of two functions."""

    roll_out: RolloutFunction
    loss: Callable[[Learner, Sequence[TrainingSequence]], Tensor]


class Imitating(Imitation):
    """Imitation of what a function rolls out."""

    name = "imitating"

    def __init__(self, config: Config, rollouts: RolloutFunction) -> None:
        """Take the settings and the function."""
        super().__init__(config)
        self.rollouts = rollouts

    def roll_out(self, learner: Learner, batch: Batch) -> RolloutGroups:
        """Return what the function does."""
        return self.rollouts(learner, batch)


class Rewarding(Reinforcement):
    """GRPO on what a function rewards."""

    name = "rewarding"

    def __init__(self, config: Config, reward: Reward, kl_weight: float = 0.0) -> None:
        """Take the settings, the function, and the weight of the divergence."""
        policy = config.policy.model_copy(update={"kl_weight": kl_weight})
        super().__init__(config.model_copy(update={"policy": policy}))
        self.reward = reward

    def rewards(self, learner: Learner, groups: Sequence[VotedGroup]) -> Rewards:
        """Return what the function does."""
        return self.reward(learner, groups)
