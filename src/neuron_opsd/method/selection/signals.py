"""What is known of a pool without labels. Axis: Q questions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.records import NeuronSet, RolloutSummary, Vote
from neuron_opsd.records.beliefs import Belief

Values: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PoolSignals:
    """All that is known of a pool without labels, for any rule to order it by.

    What is costly to know is there for rules whose entry says that they read it.
    """

    neurons: Sequence[NeuronSet]
    """``(Q,)`` of every question; without counts where nothing asks for neurons."""
    own: Mapping[str, RolloutSummary] = field(default_factory=dict)
    """Question id to the completion that stands for it: its answer, length,
    log-probability and entropy. It may be greedy, and then has no entropy."""
    votes: Mapping[str, Vote] = field(default_factory=dict)
    """Question id to what all rollouts agree on."""
    entropies: Mapping[str, float] = field(default_factory=dict)
    """Question id to the mean entropy of its samples, in nats: of the choice, or per
    token where the answer is free."""
    beliefs: Mapping[str, Belief] = field(default_factory=dict)
    """Question id to what student and teacher answer to it."""
    num_asked: int = 0
    """How many questions the settings ask for."""

    @property
    def question_ids(self) -> list[str]:
        """``(Q,)`` in the order of the pool."""
        return [entry.question_id for entry in self.neurons]

    @property
    def answers(self) -> list[str | None]:
        """``(Q,)`` the model's own answers."""
        known = {name: rollout.answer for name, rollout in self.own.items()}
        return [known.get(name) for name in self.question_ids]

    @property
    def unread(self) -> dict[str, str]:
        """Question id to why its own completion gives no answer."""
        why = {}
        for name, rollout in self.own.items():
            if not rollout.finished:
                why[name] = "its own completion was cut"
            elif rollout.answer is None:
                why[name] = "its own completion holds no answer that can be read"
        return why

    def each(self, value: Callable[[str], float | None]) -> Values:
        """Return ``(Q,)`` what a function says of each id, NaN where it says `None`."""
        return np.array([value(name) for name in self.question_ids], dtype=np.float64)

    def part(self, places: Iterable[int]) -> PoolSignals:
        """Return what is known of the questions at some places of the pool."""
        return replace(self, neurons=[self.neurons[place] for place in places])
