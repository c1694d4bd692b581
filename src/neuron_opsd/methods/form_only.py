"""The control of form: imitation of uniformly random choices.

Whatever it gains, any training gains from seeing what an answer looks like.
"""

from __future__ import annotations

from neuron_opsd.config import Config
from neuron_opsd.methods import neuron_opsd
from neuron_opsd.methods.method import Method, Targets
from neuron_opsd.stages.distill import imitation
from neuron_opsd.stages.training import Objective
from neuron_opsd.stages.writing import random_choices


def objective(config: Config, targets: Targets) -> Objective:
    """Return imitation of random choices, or of own answers to other questions."""
    del targets
    return imitation(config, random_choices(config))


METHOD = Method(
    name="form-only",
    summary="imitates random choices: what any training teaches of an answer's form",
    acts_on="the whole vocabulary at every token of the imitated choice",
    source="control",
    objective=objective,
    preset=neuron_opsd.PRESET,
    notes=(
        "it draws nothing, so of its preset only the learning rate and the schedule "
        "matter; its questions are chosen as ema-only's are",
    ),
    settings={"contexts": {"num_demonstrations": 0}},
)
