"""Methods that reward the student's own rollouts: GRPO with one reward or another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from torch import Tensor

from neuron_opsd.config import Config
from neuron_opsd.method.rewards import (
    certainty_rewards,
    cluster_rewards,
    entropy_rewards,
    majority_rewards,
)
from neuron_opsd.methods.method import GROUPS, Method, Oracle, Preset, sections
from neuron_opsd.models.roles import Learner
from neuron_opsd.stages.centring import refuse_centring
from neuron_opsd.stages.policy_gradient import (
    Rewards,
    certainties,
    policy_gradient,
    rewarded_groups,
)
from neuron_opsd.stages.training import Batch, RolloutGroups, Sequences
from neuron_opsd.stages.training_rollouts import VotedGroup, check_group, vote_on_policy


class Reinforcement(Method):
    """GRPO on the student's own rollouts."""

    acts_on = (
        "the distribution that was sampled from: over the trie of the choices where "
        "there are any"
    )
    settings = GROUPS
    votes = True

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse a group of a single rollout, and choices that are centred."""
        check_group(config)
        refuse_centring(config)

    @abstractmethod
    def rewards(self, learner: Learner, groups: Sequence[VotedGroup]) -> Rewards:
        """Return for every group a reward of each of its completions."""

    def roll_out(self, learner: Learner, batch: Batch) -> RolloutGroups:
        """Return the student's own rollouts, rewarded."""
        groups = vote_on_policy(learner, batch, self.config)
        count = self.config.distill.num_samples
        rewards = self.rewards(learner, [group.first(count) for group in groups])
        return rewarded_groups(
            groups,
            rewards,
            scale=self.config.policy.scale_rewards,
            kl_weight=self.weight_of_divergence,
        )

    def loss(self, learner: Learner, sequences: Sequences) -> Tensor:
        """Return the clipped loss, and the divergence from where training began."""
        weight = self.weight_of_divergence
        return policy_gradient(learner, sequences, self.config, weight)

    @property
    def weight_of_divergence(self) -> float:
        """Weight of the divergence from where training began."""
        chosen = self.config.policy.kl_weight
        return self.kl_weight if chosen is None else chosen


TTRL_SETTINGS: Final = sections(
    policy={"kl_weight": 0.0},
    distill={
        "num_samples": 32,
        "temperature": 1.0,
        "batch_size": 16,
        "schedule": "cosine",
    },
)
"""What the public code trains with besides votes."""


class TTRL(Reinforcement):
    """Reinforces rollouts that give the majority's answer."""

    name = "ttrl"
    source = "Zuo et al., arXiv:2504.16084"
    notes = (
        "all rollouts that are trained on vote, and `policy.num_votes` draws others "
        "that only vote. By default 8 are drawn, as in the comparison of "
        "arXiv:2607.02460; the preset has the 64 votes and 32 trained rollouts of the "
        "public code",
        "a rollout whose answer cannot be read has no vote and no reward; in the "
        "public code such rollouts vote together unless removed, so a model that "
        "seldom finishes would be rewarded for not finishing",
        "arXiv:2607.02460 takes the checkpoint of its ttrl that is best by true "
        "answers; here the last step counts for every method",
        "updates are on fresh rollouts, one a step, so no ratio is ever clipped",
    )
    preset = Preset(
        5e-7,
        {
            "learning rate": "5e-7 (full)",
            "schedule": "cosine after 3 % of warm-up",
            "sampling": "temperature 1",
            "samples": "32; 8 in arXiv:2607.02460",
            "votes": "64; 8 in arXiv:2607.02460",
            "steps": "1 epoch in arXiv:2607.02460",
            "questions": "16 in arXiv:2607.02460",
            "divergence": "0",
        },
        warmup_share=0.03,
        settings=sections(TTRL_SETTINGS, policy={"num_votes": 64}),
    )

    def rewards(self, learner: Learner, groups: Sequence[VotedGroup]) -> Rewards:
        """Return 1 for the voted answer."""
        del learner
        return [
            majority_rewards(g.answers, g.vote.pseudo_label, g.same) for g in groups
        ]


class Intuitor(Reinforcement):
    """Reinforces rollouts of whose tokens the model is certain.

    Certainty is that of the whole vocabulary also where choices were sampled: over the
    trie, all rollouts of a question that part at one token would have one reward.
    """

    name = "intuitor"
    acts_on = f"{Reinforcement.acts_on}; the reward is of the whole vocabulary"
    source = "Zhao et al., arXiv:2505.19590"
    notes = (
        "a rollout whose answer cannot be read gets the reward of the least certain "
        "one of its question; in the public code it is rewarded for its certainty, and "
        "a loop that never ends is the most certain",
    )
    kl_weight = 0.005
    preset = Preset(
        3e-6,
        {
            "learning rate": "3e-6 (full)",
            "schedule": "cosine after 10 % of warm-up",
            "sampling": "not known to us",
            "samples": "7 or 8",
            "steps": "1 epoch",
            "questions": "128",
            "divergence": "0.005",
        },
        warmup_share=0.1,
        settings=sections(
            policy={"kl_weight": kl_weight},
            distill={"num_samples": 7, "batch_size": 128, "schedule": "cosine"},
        ),
    )

    def rewards(self, learner: Learner, groups: Sequence[VotedGroup]) -> Rewards:
        """Return the mean self-certainty of each rollout."""
        found = certainties(learner, groups, self.config.distill)
        return [
            certainty_rewards([certainty for certainty, _ in pairs], group.answers)
            for group, pairs in zip(groups, found, strict=True)
        ]


class RENT(Reinforcement):
    """Reinforces rollouts whose tokens the model wrote with low entropy."""

    name = "rent"
    acts_on = Intuitor.acts_on
    source = "RENT, arXiv:2505.22660"
    notes = (
        "the reward of a rollout whose answer cannot be read is -7 nats, as in the "
        "public code with its format option",
    )
    kl_weight = 0.001
    preset = Preset(
        1e-6,
        {
            "learning rate": "1e-6 (full)",
            "sampling": "not known to us",
            "samples": "5",
            "divergence": "0.001",
        },
        settings=sections(policy={"kl_weight": kl_weight}, distill={"num_samples": 5}),
    )

    def rewards(self, learner: Learner, groups: Sequence[VotedGroup]) -> Rewards:
        """Return minus the mean entropy of each rollout."""
        found = certainties(learner, groups, self.config.distill)
        return [
            entropy_rewards([entropy for _, entropy in pairs], group.answers)
            for group, pairs in zip(groups, found, strict=True)
        ]


class EMPO(Reinforcement):
    """Reinforces rollouts by the share of others with the same answer."""

    name = "empo"
    source = "EMPO, arXiv:2504.05812"
    notes = (
        "a rollout whose answer cannot be read is in no cluster and has no reward, and "
        "no rollout has one where no two answers are the same, as in the public code",
    )
    preset = Preset(
        1e-6,
        {
            "learning rate": "1e-6 (full)",
            "schedule": "constant, no warm-up",
            "sampling": "left to its trainer",
            "samples": "7 to 12",
            "divergence": "0",
        },
        warmup_share=0.0,
        settings=sections(
            policy={"kl_weight": 0.0},
            distill={"num_samples": 7, "schedule": "constant"},
        ),
    )

    def rewards(self, learner: Learner, groups: Sequence[VotedGroup]) -> Rewards:
        """Return the share of the group that gives the same answer."""
        del learner
        return [cluster_rewards(group.answers, group.same) for group in groups]


class OracleGRPO(Oracle, Reinforcement):
    """Reinforces rollouts that give the gold answer."""

    name = "oracle-grpo"
    source = "upper bound of ttrl"
    notes = ("its preset is ttrl's without the extra rollouts that only vote",)
    preset = replace(TTRL.preset, settings=TTRL_SETTINGS)

    def rewards(self, learner: Learner, groups: Sequence[VotedGroup]) -> Rewards:
        """Return 1 for the gold answer."""
        del learner
        return [
            majority_rewards(
                g.answers, self.targets[g.example.question_id].answer, g.same
            )
            for g in groups
        ]


METHODS: Final = (TTRL, Intuitor, RENT, EMPO, OracleGRPO)
