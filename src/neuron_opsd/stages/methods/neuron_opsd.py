"""Neuron-OPSD: distillation on own rollouts towards a teacher with demonstrations."""

from __future__ import annotations

from neuron_opsd.config import Config
from neuron_opsd.stages.distill import distillation
from neuron_opsd.stages.methods.method import Method, Targets
from neuron_opsd.stages.training import Objective


def objective(config: Config, targets: Targets) -> Objective:
    """Return the paper's objective."""
    del targets
    return distillation(config)


METHOD = Method(
    name="neuron-opsd",
    summary="distils a teacher who sees the demonstrations with the nearest neurons",
    acts_on="the whole vocabulary at every token, also where choices were sampled",
    source="Chen and Li, arXiv:2607.02460",
    objective=objective,
    without_neurons={},
)
