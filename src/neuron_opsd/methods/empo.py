"""EMPO: reinforcement by how many rollouts of a question give the same answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.method.rewards import cluster_rewards
from neuron_opsd.methods import ttrl
from neuron_opsd.methods.method import GROUPS, Method, Targets
from neuron_opsd.methods.preset import preset
from neuron_opsd.models.roles import Learner
from neuron_opsd.stages.policy_gradient import policy_gradient
from neuron_opsd.stages.training import Objective
from neuron_opsd.stages.writing import Group


def objective(config: Config, targets: Targets) -> Objective:
    """Return GRPO on the share of an answer's cluster."""
    del targets
    return policy_gradient(config, pay)


def pay(learner: Learner, groups: Sequence[Group]) -> list[Sequence[float]]:
    """Pay the share of the group that gives the same answer."""
    del learner
    return [cluster_rewards(group.answers, group.same) for group in groups]


PRESET: Final = preset(
    1e-6,
    {
        "learning rate": "1e-6 (full)",
        "schedule": "constant, no warm-up",
        "sampling": "left to its trainer",
        "samples": "7 to 12",
        "divergence": "0",
    },
    warmup_share=0.0,
    settings={
        "policy": {"kl_weight": 0.0},
        "distill": {"num_samples": 7, "schedule": "constant"},
    },
)

METHOD = Method(
    name="empo",
    summary="reinforces rollouts by the share of others with the same answer",
    acts_on=ttrl.METHOD.acts_on,
    source="EMPO, arXiv:2504.05812",
    objective=objective,
    preset=PRESET,
    notes=(
        "a rollout whose answer cannot be read is in no cluster and is paid nothing, "
        "and nobody is paid where no two answers are the same, as in the public code",
    ),
    settings=GROUPS,
)
