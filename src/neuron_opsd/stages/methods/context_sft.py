"""The off-policy counterpart: imitation of what the context's teacher answers."""

from __future__ import annotations

from neuron_opsd.config import Config
from neuron_opsd.models.protocol import Learner
from neuron_opsd.stages.distill import imitation
from neuron_opsd.stages.methods.method import Method, Targets
from neuron_opsd.stages.training import Examples, Lesson, Objective
from neuron_opsd.stages.writing import draw, lessons_of


def objective(config: Config, targets: Targets) -> Objective:
    """Return imitation of the frozen model's answers under the teacher's prompt."""
    del targets
    count = config.distill.num_samples

    def write(learner: Learner, batch: Examples, step: int) -> list[Lesson]:
        groups = draw(learner.frozen, batch, step, count, config, with_context=True)
        return lessons_of(batch, groups)

    return imitation(config, write)


METHOD = Method(
    name="context-sft",
    summary="imitates the answers of the frozen model that sees the demonstrations",
    acts_on="the whole vocabulary at every token of the imitated answer",
    source="control: neuron-opsd without rollouts of its own",
    objective=objective,
    without_neurons={"selection": {"rule": "random"}},
)
