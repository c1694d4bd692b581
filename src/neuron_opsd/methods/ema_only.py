"""The control without a context: the teacher is the student's slow copy, no more."""

from __future__ import annotations

from neuron_opsd.methods import neuron_opsd
from neuron_opsd.methods.method import Method

METHOD = Method(
    name="ema-only",
    summary="neuron-opsd whose teacher sees no demonstrations",
    acts_on=neuron_opsd.METHOD.acts_on,
    source="control: what a slow copy teaches by itself",
    objective=neuron_opsd.objective,
    preset=neuron_opsd.PRESET,
    notes=(
        "its questions are those with the fewest neurons, as neuron-opsd's are; where "
        "the model's neurons cannot be read, random ones",
    ),
    settings={"contexts": {"num_demonstrations": 0}},
)
