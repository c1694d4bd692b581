"""The off-policy counterpart: imitation of what the context's teacher answers."""

from __future__ import annotations

from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.methods.method import TEMPERED, Method, Targets
from neuron_opsd.methods.preset import preset
from neuron_opsd.models.roles import Learner
from neuron_opsd.stages.distill import imitation
from neuron_opsd.stages.training import Examples, Objective, RolloutGroup
from neuron_opsd.stages.writing import Group, draw, grouped, sequences_of


def objective(config: Config, targets: Targets) -> Objective:
    """Return imitation of the frozen model's answers under the teacher's prompt."""
    del targets
    count = config.distill.num_samples

    def write(learner: Learner, batch: Examples, step: int) -> list[RolloutGroup]:
        drawn = draw(learner.frozen, batch, step, count, config, with_context=True)
        return [lesson(group) for group in grouped(batch, drawn, config)]

    return imitation(config, write)


PRESET: Final = preset(
    1e-5,
    {"learning rate": "none, it is a control; LMSI's is taken"},
    settings={"distill": {"temperature": 0.7, "num_samples": 8}},
)


def lesson(group: Group) -> RolloutGroup:
    """Keep what gives an answer that can be read."""
    pairs = zip(group.completions, group.answers, strict=True)
    read = [completion for completion, answer in pairs if answer is not None]
    return RolloutGroup(sequences_of(group.example, read), group.completions)


METHOD = Method(
    name="context-sft",
    summary="imitates the answers of the frozen model that sees the demonstrations",
    acts_on="the whole vocabulary at every token of the imitated answer",
    source="control: neuron-opsd without rollouts of its own",
    objective=objective,
    preset=PRESET,
    defaults=TEMPERED,
    notes=(
        "it draws at LMSI's temperature of 0.7, unless told otherwise: a frozen model "
        "writes what it imitates, so nothing has to be drawn on-policy",
        "an answer that cannot be read, such as one that was cut, is not imitated; a "
        "question with no other teaches nothing in that step",
    ),
    without_neurons={"selection": {"rule": "random"}},
)
