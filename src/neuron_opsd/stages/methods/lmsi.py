"""LMSI: imitation of the frozen model's answers that agree with their majority."""

from __future__ import annotations

from neuron_opsd.config import Config
from neuron_opsd.models.protocol import Learner
from neuron_opsd.stages.distill import imitation
from neuron_opsd.stages.methods.method import GROUPS, Method, Targets
from neuron_opsd.stages.training import Examples, Lesson, Objective
from neuron_opsd.stages.writing import (
    Group,
    check_votes,
    draw,
    exercises_of,
    grouped,
)


def objective(config: Config, targets: Targets) -> Objective:
    """Return imitation of all rollouts that give the voted answer.

    The frozen model draws them when a question's turn comes, as many as every other
    method draws: what a file of its samples would hold, with fresh ones every epoch.
    """
    del targets
    check_votes(config)
    count = max(config.distill.num_samples, config.policy.num_votes)

    def write(learner: Learner, batch: Examples, step: int) -> list[Lesson]:
        drawn = draw(learner.frozen, batch, step, count, config)
        return [lesson(group) for group in grouped(batch, drawn, config)]

    return imitation(config, write)


def lesson(group: Group) -> Lesson:
    """Keep what gives the voted answer, of the rollouts that do not only vote."""
    pairs = zip(group.trained.completions, group.trained.answers, strict=True)
    agreeing = [completion for completion, answer in pairs if group.agrees(answer)]
    exercises = exercises_of(group.example, agreeing)
    return Lesson(exercises, group.completions, agreement=group.vote.agreement)


METHOD = Method(
    name="lmsi",
    summary="imitates the frozen model's rollouts that give the majority's answer",
    acts_on="the whole vocabulary at every token of the imitated rollout",
    source="Huang et al., arXiv:2210.11610, with one prompt format",
    objective=objective,
    settings=GROUPS,
)
