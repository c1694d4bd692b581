"""The control without neurons: random questions with random demonstrations."""

from __future__ import annotations

from neuron_opsd.methods import neuron_opsd
from neuron_opsd.methods.method import Method

METHOD = Method(
    name="random-opsd",
    summary="neuron-opsd with random questions and random demonstrations",
    acts_on=neuron_opsd.METHOD.acts_on,
    source="control; its demonstrations are those of table 2 of arXiv:2607.02460",
    objective=neuron_opsd.objective,
    preset=neuron_opsd.PRESET,
    settings={"selection": {"rule": "random"}, "contexts": {"rule": "random"}},
)
