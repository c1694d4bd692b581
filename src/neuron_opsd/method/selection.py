"""Which questions of the pool are trained on. Axis: Q questions."""

from __future__ import annotations

import math
from collections import Counter
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
    neurons: Sequence[NeuronSet],
    config: SelectionConfig,
    seed: int,
    answers: Mapping[str, str | None] | None = None,
) -> tuple[SelectionEntry, ...]:
    """Rank the pool and keep the share asked for, with all that tie with the last.

    Args:
        neurons: Of every question of the pool.
        config: The rule, the share, and whether answers are balanced.
        seed: Of random orders.
        answers: Question id to the model's own answer, for balancing.

    Returns:
        One entry per question, in the order of the pool.

    Source: S = {x : s(x) <= b-th percentile}, Algorithm 1 of arXiv:2607.02460; balance
    is ours.
    """
    if not neurons:
        return ()
    values = RULES[config.rule](neurons, seed)
    kept = np.zeros(len(neurons), dtype=np.bool_)
    for group in groups_of(neurons, config, answers or {}):
        kept[group] = values[group] <= threshold(values[group], config.keep_fraction)
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return tuple(
        SelectionEntry(
            question_id=entry.question_id,
            neuron_count=entry.neuron_count,
            rank=int(rank),
            kept=bool(keep),
            reason=reason(config, entry, int(rank), len(neurons)),
        )
        for entry, keep, rank in zip(neurons, kept, ranks, strict=True)
    )


def threshold(values: Values, keep_fraction: float) -> float:
    """Return the highest value that is kept."""
    # Less a little, or 0.55 of 100 would be 56 by the last bit of the product.
    limit = max(1, math.ceil(keep_fraction * len(values) - 1e-9))
    return float(np.sort(values)[limit - 1])


def groups_of(
    neurons: Sequence[NeuronSet],
    config: SelectionConfig,
    answers: Mapping[str, str | None],
) -> list[NDArray[np.int64]]:
    """Return the places of the questions within which the share is kept.

    Without balance that is the whole pool. With it, each answer that is given often
    enough for one of its questions to be kept is a group, and all others are one.
    """
    whole = np.arange(len(neurons))
    if not config.balance:
        return [whole]
    given = [answers.get(entry.question_id) for entry in neurons]
    often = {
        answer
        for answer, count in Counter(given).items()
        if answer is not None and count * config.keep_fraction >= 1.0
    }
    groups = [np.array([answer == one for answer in given]) for one in sorted(often)]
    groups.append(np.array([answer not in often for answer in given]))
    return [whole[group] for group in groups if group.any()]


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
