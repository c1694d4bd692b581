"""LMSI: imitation of the frozen model's answers that agree with their majority."""

from __future__ import annotations

from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.methods.method import GROUPS, TEMPERED, Method, Targets
from neuron_opsd.methods.preset import preset
from neuron_opsd.models.roles import Learner
from neuron_opsd.stages.distill import imitation
from neuron_opsd.stages.training import Examples, Objective, RolloutGroup
from neuron_opsd.stages.writing import Group, check_votes, draw, grouped, sequences_of


def objective(config: Config, targets: Targets) -> Objective:
    """Return imitation of all rollouts that give the voted answer.

    The frozen model draws them when a question's turn comes, as many as every other
    method draws: what a file of its samples would hold, with fresh ones every epoch.
    """
    del targets
    check_votes(config)
    count = max(config.distill.num_samples, config.policy.num_votes)

    def write(learner: Learner, batch: Examples, step: int) -> list[RolloutGroup]:
        drawn = draw(learner.frozen, batch, step, count, config)
        return [lesson(group) for group in grouped(batch, drawn, config)]

    return imitation(config, write)


def lesson(group: Group) -> RolloutGroup:
    """Keep what gives the voted answer, of the rollouts that do not only vote."""
    pairs = zip(group.trained.completions, group.trained.answers, strict=True)
    agreeing = [completion for completion, answer in pairs if group.agrees(answer)]
    exercises = sequences_of(group.example, agreeing)
    return RolloutGroup(exercises, group.completions, agreement=group.vote.agreement)


PRESET: Final = preset(
    1e-5,
    {
        "learning rate": "5e-5 for a model of 540B parameters (full)",
        "sampling": "temperature 0.7",
        "samples": "32, drawn once",
        "votes": "32",
        "steps": "10,000",
        "questions": "32 completions a step",
    },
    settings={"distill": {"temperature": 0.7, "num_samples": 32}},
)

METHOD = Method(
    name="lmsi",
    summary="imitates the frozen model's rollouts that give the majority's answer",
    acts_on="the whole vocabulary at every token of the imitated rollout",
    source="Huang et al., arXiv:2210.11610, with one prompt format",
    objective=objective,
    preset=PRESET,
    defaults=TEMPERED,
    notes=(
        "one prompt format in place of four, since questions of any kind are asked "
        "here and the other formats need worked examples",
        "samples are drawn anew when a question's turn comes; the paper draws all of "
        "them once",
        "the paper's 32 completions a step would be those of one question a step here, "
        "so the preset leaves `distill.batch_size`",
        "the paper's rate and its 10,000 steps are those of a model of 540B "
        "parameters; the preset takes 1e-5, and its steps are `distill.steps`",
        "the demonstrations of neuron-opsd have no part in it",
    ),
    settings=GROUPS,
)
