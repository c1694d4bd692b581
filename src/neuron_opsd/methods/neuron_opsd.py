"""Neuron-OPSD: distillation on own rollouts towards a teacher with demonstrations."""

from __future__ import annotations

from typing import Final

from neuron_opsd.config import Config
from neuron_opsd.methods.method import Method, Targets
from neuron_opsd.methods.preset import preset
from neuron_opsd.stages.distill import distillation
from neuron_opsd.stages.training import Objective


def objective(config: Config, targets: Targets) -> Objective:
    """Return the paper's objective."""
    del targets
    return distillation(config)


PRESET: Final = preset(
    1e-5,
    {
        "learning rate": "not stated; 1e-5 in the first author's prototype (full)",
        "schedule": "not stated; constant after 10 steps in the prototype",
        "sampling": "not stated; temperature 0.7 in the prototype",
        "samples": "not stated; 1 in the prototype",
        "steps": "150",
        "questions": "16",
    },
    settings={
        "selection": {"keep_fraction": 0.2},
        "contexts": {"num_demonstrations": 10},
        "distill": {
            "num_samples": 1,
            "temperature": 0.7,
            "batch_size": 16,
            "schedule": "constant",
            "warmup_steps": 10,
            "divergence": "reverse-kl",
            "teacher": "ema",
            "ema_rate": 0.01,
        },
    },
)

NOTES: Final = (
    "the prototype shows demonstrations that were filtered by true answers; here none "
    "is read, as the paper claims",
    "a question whose own answer cannot be read is no demonstration, since it would "
    "show the teacher no answer; the paper leaves none out. A run says how many",
    "a question's neurons are those of the completion that a demonstration shows: the "
    "first sample as in the paper, the greedy one with `contexts.answer = greedy`, so "
    "that its selection and its distances speak of what the teacher sees; where none "
    "can be shown, those of the first sample. With `contexts.content = final` they are "
    "still those of the whole completion, reasoning included",
)

METHOD = Method(
    name="neuron-opsd",
    summary="distils a teacher who sees the demonstrations with the nearest neurons",
    acts_on="the whole vocabulary at every token, also where choices were sampled",
    source="Chen and Li, arXiv:2607.02460",
    objective=objective,
    preset=PRESET,
    notes=NOTES,
    without_neurons={},
)
