"""Which questions of the pool are trained on. Axis: Q questions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


LEFT_OUT: Final = "left out: "
"""How the reason begins of a question that may not be kept."""

TIE_ROOM: Final = 0.05
"""Share of the questions asked for that ties with the last one may add to them."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The pool in the order of a rule, and what is kept of it."""

    places: NDArray[np.int64]
    """``(Q,)`` from 0 for the first to be kept; those that may not be kept are last."""
    kept: NDArray[np.bool_]
    drawn: NDArray[np.bool_]
    """Whether a draw among equals kept the question or left it out."""
    barred: NDArray[np.bool_]
    """Whether it may not be kept."""
    num_free: int
    """How many questions may be kept."""
    num_asked: int
    """How many the settings ask for."""


def select_questions(
    neurons: Sequence[NeuronSet],
    config: SelectionConfig,
    seed: int,
    answers: Mapping[str, str | None] | None = None,
    unread: Mapping[str, str] | None = None,
) -> tuple[SelectionEntry, ...]:
    """Rank the pool and keep the share asked for.

    Args:
        neurons: Of every question of the pool.
        config: The rule, the share, and whether answers are balanced.
        seed: Of random orders and of draws among equals.
        answers: Question id to the model's own answer, for balancing.
        unread: Question id to why its completion gives no answer; such questions are
            kept only where the settings include them.

    Returns:
        One entry per question, in the order of the pool.

    Source: S = {x : s(x) <= b-th percentile}, Algorithm 1 of arXiv:2607.02460. Balance,
    draws among many equals and leaving out unread completions are ours.
    """
    if not neurons:
        return ()
    ranking = rank_questions(neurons, config, seed, answers, unread)
    return tuple(
        SelectionEntry(
            question_id=entry.question_id,
            neuron_count=entry.neuron_count,
            rank=int(ranking.places[i]),
            kept=bool(ranking.kept[i]),
            reason=reason(config, entry, ranking, i, unread or {}),
        )
        for i, entry in enumerate(neurons)
    )


def kept_ids(selection: Sequence[SelectionEntry]) -> set[str]:
    """Return the ids of the selected questions."""
    return {entry.question_id for entry in selection if entry.kept}


def rank_questions(
    neurons: Sequence[NeuronSet],
    config: SelectionConfig,
    seed: int,
    answers: Mapping[str, str | None] | None = None,
    unread: Mapping[str, str] | None = None,
) -> Ranking:
    """Order the pool; the arguments are those of `select_questions`.

    The share is of the whole pool, but taken from the questions that may be kept.
    """
    values = RULES[config.rule](neurons, seed)
    barred = barred_questions(neurons, config, unread or {})
    free = np.flatnonzero(~barred)
    fraction = 1.0 if config.rule == "all" else config.keep_fraction
    share = min(1.0, fraction * len(neurons) / max(1, len(free)))
    kept = np.zeros(len(neurons), dtype=np.bool_)
    lots = np.zeros(len(neurons))
    ids = [entry.question_id for entry in neurons]
    own = [(answers or {}).get(ids[i]) for i in free]
    for group in groups_of(own, share, balance=config.balance):
        members = free[group]
        tied = members[too_many_tied(values[members], share)]
        lots[tied] = [lot(seed, ids[i]) for i in tied]
        kept[members[lowest(values[members], lots[members], share)]] = True
    order = np.lexsort((lots, values, barred))
    asked = limit_of(len(neurons), fraction)
    places = np.argsort(order)
    return Ranking(places, kept, lots > 0.0, barred, free.size, asked)


def barred_questions(
    neurons: Sequence[NeuronSet], config: SelectionConfig, unread: Mapping[str, str]
) -> NDArray[np.bool_]:
    """Say which questions may not be kept: unread ones, unless all are asked for."""
    if config.include_unread or config.rule == "all":
        return np.zeros(len(neurons), dtype=np.bool_)
    return np.array([entry.question_id in unread for entry in neurons], dtype=np.bool_)


def limit_of(count: int, share: float) -> int:
    """Return how many a share of some questions is, at least one."""
    # Less a little, or 0.55 of 100 would be 56 by the last bit of the product.
    return max(1, math.ceil(share * count - 1e-9))


def too_many_tied(values: Values, share: float) -> NDArray[np.bool_]:
    """Return which questions tie with the last of the share, if they are too many."""
    limit = limit_of(len(values), share)
    last = np.sort(values)[limit - 1]
    room = math.floor(TIE_ROOM * limit)
    few = (values <= last).sum() <= limit + room
    return np.zeros(len(values), np.bool_) if few else values == last


def lowest(values: Values, lots: Values, share: float) -> NDArray[np.int64]:
    """Return the places of the lowest values, those of equal ones with lowest lots.

    All that equal the last of the share in both are among them.
    """
    limit = limit_of(len(values), share)
    order = np.lexsort((lots, values))
    last = order[limit - 1]
    same = (values == values[last]) & (lots == lots[last])
    return np.union1d(order[:limit], np.flatnonzero(same))


def lot(seed: int, question_id: str) -> float:
    """Return what a question draws among its equals, above 0 and at most 1."""
    return 1.0 - generator(seed, "selection-ties", question_id).random()


def groups_of(
    answers: Sequence[str | None], share: float, *, balance: bool
) -> list[NDArray[np.int64]]:
    """Return the places of the questions within which the share is kept.

    Without balance that is all of them. With it, each answer that is given often
    enough for one of its questions to be kept is a group, and all others are one.
    """
    if not balance:
        return [np.arange(len(answers))] if len(answers) else []
    often = {
        answer
        for answer, count in Counter(answers).items()
        if answer is not None and count * share >= 1.0 - 1e-9
    }
    places: dict[str | None, list[int]] = {answer: [] for answer in sorted(often)}
    rest: list[int] = []
    for place, answer in enumerate(answers):
        places.get(answer, rest).append(place)
    return [np.array(group) for group in (*places.values(), rest) if group]


def reason(
    config: SelectionConfig,
    entry: NeuronSet,
    ranking: Ranking,
    place: int,
    unread: Mapping[str, str],
) -> str:
    """Say where a question, by its place in the pool, stands in the order."""
    if ranking.barred[place]:
        return LEFT_OUT + unread[entry.question_id]
    if config.rule == "all":
        return "every question is kept"
    rank = f"place {ranking.places[place] + 1} of {ranking.num_free}"
    if config.rule == "random":
        return f"{rank} in a random order"
    end = "fewest" if config.rule == "fewest-neurons" else "most"
    text = f"{entry.neuron_count:,} neurons, {rank} from the {end}"
    if not ranking.drawn[place]:
        return text
    fate = "kept" if ranking.kept[place] else "not kept"
    return f"{text}, {fate} by a draw among equals"


def num_left_out(entries: Sequence[SelectionEntry]) -> int:
    """Return how many questions were not to be kept, whatever their place."""
    return sum(entry.reason.startswith(LEFT_OUT) for entry in entries)


def selection_warnings(ranking: Ranking, config: SelectionConfig) -> list[str]:
    """Say what else than the rule decided, and when too few questions remain."""
    found = []
    if ranking.barred.any():
        found.append(unread_warning(ranking, config))
    if ranking.drawn.any():
        places = (ranking.drawn & ranking.kept).sum()
        found.append(
            f"{ranking.drawn.sum()} questions tie for the last {places} of the "
            f"{ranking.kept.sum()} places in the selection; a seeded draw decided "
            "between them"
        )
    return found


def unread_warning(ranking: Ranking, config: SelectionConfig) -> str:
    """Say how many questions could not be selected, and whether enough remain."""
    num_kept = ranking.kept.sum()
    text = (
        f"{ranking.barred.sum()} of {len(ranking.barred)} questions could not be "
        "selected, since their own completion was cut or holds no answer that can be "
        f"read; the selection has {num_kept}"
    )
    if num_kept >= ranking.num_asked:
        return text
    return (
        f"{text}, fewer than the {ranking.num_asked} that selection.keep_fraction="
        f"{config.keep_fraction:g} asks for; raise rollouts.max_new_tokens"
    )
