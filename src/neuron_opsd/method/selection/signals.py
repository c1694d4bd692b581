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
    """All that is known of a pool without labels, for rules to order it by.

    Costly signals are present only for rules that declare them.
    """

    neurons: Sequence[NeuronSet]
    """``(Q,)``; without counts if nothing needs neurons."""
    own: Mapping[str, RolloutSummary] = field(default_factory=dict)
    """By question id, the completion that represents it: answer, length,
    log-probability and entropy. A greedy one has no entropy."""
    votes: Mapping[str, Vote] = field(default_factory=dict)
    """By question id, the vote over all rollouts."""
    entropies: Mapping[str, float] = field(default_factory=dict)
    """By question id, the mean entropy of its samples, in nats: of the choice, or per
    token of a free answer."""
    beliefs: Mapping[str, Belief] = field(default_factory=dict)
    """By question id, what student and teacher answer."""
    num_asked: int = 0

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
        """By question id, why its own completion gives no answer."""
        why = {}
        for name, rollout in self.own.items():
            if not rollout.finished:
                why[name] = "its own completion was cut"
            elif rollout.answer is None:
                why[name] = "its own completion holds no answer that can be read"
        return why

    def each(self, value: Callable[[str], float | None]) -> Values:
        """Return a function's values ``(Q,)`` by id, NaN for `None`."""
        return np.array([value(name) for name in self.question_ids], dtype=np.float64)

    def part(self, places: Iterable[int]) -> PoolSignals:
        """Select the questions at some places of the pool."""
        return replace(self, neurons=[self.neurons[place] for place in places])
