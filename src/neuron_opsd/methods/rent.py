"""RENT: reinforcement by low entropy of the tokens written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.method.rewards import entropy_rewards
from neuron_opsd.methods import intuitor
from neuron_opsd.methods.method import GROUPS, Method, Targets
from neuron_opsd.methods.preset import preset
from neuron_opsd.models.roles import Learner
from neuron_opsd.stages.policy_gradient import certainties, policy_gradient
from neuron_opsd.stages.training import Objective
from neuron_opsd.stages.writing import Group

KL_WEIGHT: Final = 0.001
"""Weight of the divergence from the model where training began, as the paper has it."""


def objective(config: Config, targets: Targets) -> Objective:
    """Return GRPO on minus the mean entropy of a rollout's tokens."""
    del targets

    def pay(learner: Learner, groups: Sequence[Group]) -> list[Sequence[float]]:
        found = certainties(learner, groups, config)
        return [
            entropy_rewards([entropy for _, entropy in pairs], group.answers)
            for group, pairs in zip(groups, found, strict=True)
        ]

    return policy_gradient(config, pay, KL_WEIGHT)


PRESET: Final = preset(
    1e-6,
    {
        "learning rate": "1e-6 (full)",
        "sampling": "not known to us",
        "samples": "5",
        "divergence": "0.001",
    },
    settings={"policy": {"kl_weight": KL_WEIGHT}, "distill": {"num_samples": 5}},
)

METHOD = Method(
    name="rent",
    summary="reinforces rollouts whose tokens the model wrote with low entropy",
    acts_on=intuitor.METHOD.acts_on,
    source="RENT, arXiv:2505.22660",
    objective=objective,
    preset=PRESET,
    kl_weight=KL_WEIGHT,
    notes=(
        "a rollout whose answer cannot be read is paid -7 nats, as in the public code "
        "with its format option",
    ),
    settings=GROUPS,
)
