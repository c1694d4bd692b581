"""TTRL: reinforcement, 1 for the majority's answer and 0 for any other."""

from __future__ import annotations

from collections.abc import Sequence

from neuron_opsd.config import Config
from neuron_opsd.method.rewards import majority_rewards
from neuron_opsd.models.protocol import Learner
from neuron_opsd.stages.methods.method import GROUPS, Method, Targets
from neuron_opsd.stages.policy_gradient import policy_gradient
from neuron_opsd.stages.training import Objective
from neuron_opsd.stages.writing import Group


def objective(config: Config, targets: Targets) -> Objective:
    """Return GRPO towards the answer of the vote of the same step."""
    del targets
    return policy_gradient(config, pay)


def pay(learner: Learner, groups: Sequence[Group]) -> list[Sequence[float]]:
    """Pay 1 for the voted answer."""
    del learner
    return [majority_rewards(g.answers, g.vote.pseudo_label, g.same) for g in groups]


METHOD = Method(
    name="ttrl",
    summary="reinforces rollouts that give the majority's answer",
    acts_on="the distribution that was sampled from: over the trie of the choices "
    "where there are any",
    source="Zuo et al., arXiv:2504.16084",
    objective=objective,
    settings=GROUPS,
)
