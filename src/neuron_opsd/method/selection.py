"""Which questions of the pool are trained on. Axis: Q questions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.config import SelectionConfig
from neuron_opsd.records import NeuronSet, SelectionEntry
from neuron_opsd.seeds import generator

Values: TypeAlias = NDArray[np.float64]

Rule: TypeAlias = Callable[[Sequence[NeuronSet], int], Values]
"""Takes the pool's neuron sets and a seed; the lowest ``(Q,)`` values are kept."""


def fewest_neurons(neurons: Sequence[NeuronSet], seed: int) -> Values:
    """Prefer high consensus. Source: section 3.2 of arXiv:2607.02460."""
    del seed
    return np.array([entry.neuron_count for entry in neurons], dtype=np.float64)


def most_neurons(neurons: Sequence[NeuronSet], seed: int) -> Values:
    """Prefer low consensus, the paper's control of Table 1."""
    return -fewest_neurons(neurons, seed)


def random_order(neurons: Sequence[NeuronSet], seed: int) -> Values:
    """Prefer nothing: one random number per question, drawn from its id."""
    return np.array(
        [generator(seed, "selection", entry.question_id).random() for entry in neurons]
    )


def no_order(neurons: Sequence[NeuronSet], seed: int) -> Values:
    """Prefer nothing and tie all, so that every question is kept."""
    del seed
    return np.zeros(len(neurons))


RULES: Final[Mapping[str, Rule]] = {
    "fewest-neurons": fewest_neurons,
    "most-neurons": most_neurons,
    "random": random_order,
    "all": no_order,
}


def select_questions(
    neurons: Sequence[NeuronSet], config: SelectionConfig, seed: int
) -> tuple[SelectionEntry, ...]:
    """Rank the pool and keep the share asked for, with all that tie with the last.

    Returns:
        One entry per question, in the order of the pool.

    Source: S = {x : s(x) <= b-th percentile}, Algorithm 1 of arXiv:2607.02460.
    """
    if not neurons:
        return ()
    values = RULES[config.rule](neurons, seed)
    # Less a little, or 0.55 of 100 would be 56 by the last bit of the product.
    limit = max(1, math.ceil(config.keep_fraction * len(neurons) - 1e-9))
    threshold = np.sort(values)[limit - 1]
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return tuple(
        SelectionEntry(
            question_id=entry.question_id,
            neuron_count=entry.neuron_count,
            rank=int(rank),
            kept=bool(value <= threshold),
            reason=reason(config, entry, int(rank), len(neurons)),
        )
        for entry, value, rank in zip(neurons, values, ranks, strict=True)
    )


def reason(
    config: SelectionConfig, entry: NeuronSet, rank: int, num_questions: int
) -> str:
    """Say where a question stands in the order of the rule."""
    if config.rule == "all":
        return "every question is kept"
    if config.rule == "random":
        return f"place {rank + 1} of {num_questions} in a random order"
    end = "fewest" if config.rule == "fewest-neurons" else "most"
    return (
        f"{entry.neuron_count:,} neurons, place {rank + 1} of {num_questions} from "
        f"the {end}"
    )
