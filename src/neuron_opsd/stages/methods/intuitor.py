"""Intuitor: reinforcement by the model's own certainty of each token it wrote."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.models.protocol import Learner
from neuron_opsd.stages.methods import ttrl
from neuron_opsd.stages.methods.method import GROUPS, Method, Targets
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
        return [
            [certainty for certainty, _ in group]
            for group in certainties(learner, groups, config)
        ]

    return policy_gradient(config, pay, KL_WEIGHT)


METHOD = Method(
    name="intuitor",
    summary="reinforces rollouts of whose tokens the model is certain",
    acts_on=f"{ttrl.METHOD.acts_on}; the reward is of the whole vocabulary",
    source="Zhao et al., arXiv:2505.19590",
    objective=objective,
    settings=GROUPS,
)
