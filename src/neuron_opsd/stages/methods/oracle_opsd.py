"""The upper bound of distillation: the teacher is shown the gold answer."""

from __future__ import annotations

from dataclasses import replace

from neuron_opsd.config import Config
from neuron_opsd.models.protocol import Learner
from neuron_opsd.stages.distill import distillation
from neuron_opsd.stages.methods.method import WHOLE_POOL, Method, Targets
from neuron_opsd.stages.teaching import with_solution
from neuron_opsd.stages.training import Examples, Lesson, Objective
from neuron_opsd.stages.writing import draw, lessons_of


def objective(config: Config, targets: Targets) -> Objective:
    """Return distillation towards a teacher who sees the answer it is told."""
    count = config.distill.num_samples

    def write(learner: Learner, batch: Examples, step: int) -> list[Lesson]:
        told = [
            replace(
                e,
                teacher_prompt=with_solution(
                    learner, e, targets[e.question_id].written, config
                ),
            )
            for e in batch
        ]
        return lessons_of(told, draw(learner, told, step, count, config))

    return distillation(config, write)


METHOD = Method(
    name="oracle-opsd",
    summary="distils a teacher who sees the gold answer",
    acts_on="the whole vocabulary at every token, also where choices were sampled",
    source="OPSD, arXiv:2601.18734: upper bound of neuron-opsd",
    objective=objective,
    settings=WHOLE_POOL,
    oracle=True,
)
