"""The upper bound of reinforcement: 1 for the gold answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neuron_opsd.config import Config
from neuron_opsd.method.rewards import majority_rewards
from neuron_opsd.methods import ttrl
from neuron_opsd.methods.method import GROUPS, Method, Targets
from neuron_opsd.models.roles import Learner
from neuron_opsd.stages.policy_gradient import policy_gradient
from neuron_opsd.stages.training import Objective
from neuron_opsd.stages.writing import Group


def objective(config: Config, targets: Targets) -> Objective:
    """Return GRPO towards the answers it is told."""

    def pay(learner: Learner, groups: Sequence[Group]) -> list[Sequence[float]]:
        del learner
        return [
            majority_rewards(g.answers, targets[g.example.question_id].answer, g.same)
            for g in groups
        ]

    return policy_gradient(config, pay)


METHOD = Method(
    name="oracle-grpo",
    summary="reinforces rollouts that give the gold answer",
    acts_on=ttrl.METHOD.acts_on,
    source="upper bound of ttrl",
    objective=objective,
    preset=replace(ttrl.PRESET, settings=ttrl.GRPO),
    notes=("its preset is ttrl's without the others that vote",),
    settings=GROUPS,
    oracle=True,
)
