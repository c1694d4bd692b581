"""TTRL: reinforcement, 1 for the majority's answer and 0 for any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from neuron_opsd.config import Config
from neuron_opsd.method.rewards import majority_rewards
from neuron_opsd.methods.method import GROUPS, Method, Targets
from neuron_opsd.methods.preset import preset
from neuron_opsd.models.roles import Learner
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


RATE: Final = 5e-7

GRPO: Final[Mapping[str, Any]] = {
    "policy": {"kl_weight": 0.0},
    "distill": {
        "num_samples": 32,
        "temperature": 1.0,
        "batch_size": 16,
        "schedule": "cosine",
    },
}
"""What the public code trains with besides votes."""

PRESET: Final = preset(
    RATE,
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
    settings={**GRPO, "policy": {**GRPO["policy"], "num_votes": 64}},
)

METHOD = Method(
    name="ttrl",
    summary="reinforces rollouts that give the majority's answer",
    acts_on="the distribution that was sampled from: over the trie of the choices "
    "where there are any",
    source="Zuo et al., arXiv:2504.16084",
    objective=objective,
    preset=PRESET,
    notes=(
        "all rollouts of a question that are trained on vote, and `policy.num_votes` "
        "draws others that only vote. By default 8 are drawn, as in the comparison of "
        "arXiv:2607.02460; the preset has the 64 votes and 32 trained rollouts of the "
        "public code",
        "a rollout whose answer cannot be read has no vote and no reward; in the "
        "public code such rollouts vote together unless removed, so that a model that "
        "seldom ends would be rewarded for not ending",
        "arXiv:2607.02460 takes the checkpoint of its ttrl that is best by true "
        "answers; here the last step counts for every method",
        "updates are on fresh rollouts, one a step, so no ratio is ever clipped",
    ),
    settings=GROUPS,
)
