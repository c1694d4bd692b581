"""Intuitor: reinforcement by the model's own certainty of each token it wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.method.rewards import certainty_rewards
from neuron_opsd.methods import ttrl
from neuron_opsd.methods.method import GROUPS, Method, Targets
from neuron_opsd.methods.preset import preset
from neuron_opsd.models.roles import Learner
from neuron_opsd.stages.policy_gradient import certainties, policy_gradient
from neuron_opsd.stages.training import Objective
from neuron_opsd.stages.writing import Group

KL_WEIGHT: Final = 0.005
"""Weight of the divergence from the model where training began, as the paper has it."""


def objective(config: Config, targets: Targets) -> Objective:
    """Return GRPO on the mean self-certainty of a rollout's tokens.

    Certainty is that of the whole vocabulary also where choices were sampled: over the
    trie, all rollouts of a question that part at one token would be paid alike.
    """
    del targets

    def pay(learner: Learner, groups: Sequence[Group]) -> list[Sequence[float]]:
        found = certainties(learner, groups, config)
        return [
            certainty_rewards([certainty for certainty, _ in pairs], group.answers)
            for group, pairs in zip(groups, found, strict=True)
        ]

    return policy_gradient(config, pay, KL_WEIGHT)


PRESET: Final = preset(
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
    settings={
        "policy": {"kl_weight": KL_WEIGHT},
        "distill": {"num_samples": 7, "batch_size": 128, "schedule": "cosine"},
    },
)

METHOD = Method(
    name="intuitor",
    summary="reinforces rollouts of whose tokens the model is certain",
    acts_on=f"{ttrl.METHOD.acts_on}; the reward is of the whole vocabulary",
    source="Zhao et al., arXiv:2505.19590",
    objective=objective,
    preset=PRESET,
    kl_weight=KL_WEIGHT,
    notes=(
        "a rollout whose answer cannot be read is paid as little as the least certain "
        "of its question; in the public code it is paid for its certainty, and a "
        "loop that never ends is the most certain",
    ),
    settings=GROUPS,
)
