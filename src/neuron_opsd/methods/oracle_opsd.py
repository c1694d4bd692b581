"""The upper bound of distillation: the teacher is shown the gold answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.methods.method import WHOLE_POOL, Method, Targets
from neuron_opsd.methods.preset import Preset
from neuron_opsd.models.roles import Learner
from neuron_opsd.stages.distill import distillation
from neuron_opsd.stages.teaching import with_solution
from neuron_opsd.stages.training import Examples, Objective, RolloutGroup
from neuron_opsd.stages.writing import draw, rollout_groups_of


def objective(config: Config, targets: Targets) -> Objective:
    """Return distillation towards a teacher who sees the answer it is told."""
    count = config.distill.num_samples

    def write(learner: Learner, batch: Examples, step: int) -> list[RolloutGroup]:
        told = [
            replace(
                e,
                teacher_prompt=with_solution(
                    learner, e, targets[e.question_id].written, config
                ),
            )
            for e in batch
        ]
        return rollout_groups_of(told, draw(learner, told, step, count, config))

    return distillation(config, write)


PRESET: Final = Preset(
    full_rate=5e-7,
    lora_rate=5e-6,
    settings={
        "distill": {
            "divergence": "forward-kl",
            "entry_clip": 0.05,
            "teacher": "frozen",
            "lora_rank": 64,
            "lora_alpha": 128,
            "batch_size": 32,
            "temperature": 1.1,
            "sampling_top_p": 0.95,
            "sampling_top_k": 20,
        }
    },
    said={
        "learning rate": "2e-5 to 2e-4, later 5e-6 (adapter of rank 64)",
        "sampling": "temperature 1.1 or 1.2, top-p 0.95, top-k 20",
        "steps": "100",
        "questions": "32",
    },
)

METHOD = Method(
    name="oracle-opsd",
    summary="distils a teacher who sees the gold answer",
    acts_on="the whole vocabulary at every token, also where choices were sampled",
    source="OPSD, arXiv:2601.18734: upper bound of neuron-opsd",
    objective=objective,
    preset=PRESET,
    notes=(
        "the answer is shown as an earlier turn, in which the same question was "
        "answered, as u-opsd shows its solution; OPSD writes a whole solution into "
        "the user's turn and asks for it in the model's own words",
        "the public scripts have rates of 2e-5 to 2e-4 and later work takes 5e-6, all "
        "for an adapter; the preset has the last, and a tenth of it for full tuning, "
        "which the source does not do",
    ),
    settings=WHOLE_POOL,
    oracle=True,
)
