"""Which questions of the pool are trained on. Axis: Q questions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.records import NeuronSet, RolloutSummary, SelectionEntry, Vote
from neuron_opsd.section import Fraction, OneOf, Section
from neuron_opsd.seeds import generator

Values: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PoolSignals:
    """All that is known of a pool without labels, for any rule to order it by.

    Of rollouts there are summaries alone: texts and tokens stay in their file.
    """

    neurons: Sequence[NeuronSet]
    """``(Q,)`` of every question; without counts where nothing asks for neurons."""
    own: Mapping[str, RolloutSummary] = field(default_factory=dict)
    """Question id to the completion that stands for it: its answer, length,
    log-probability and entropy."""
    votes: Mapping[str, Vote] = field(default_factory=dict)
    """Question id to what all rollouts agree on."""

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


def fewest_neurons(pool: PoolSignals, seed: int) -> Values:
    """Prefer high consensus. Source: section 3.2 of arXiv:2607.02460."""
    del seed
    return np.array([entry.neuron_count for entry in pool.neurons], dtype=np.float64)


def most_neurons(pool: PoolSignals, seed: int) -> Values:
    """Prefer low consensus, the paper's control of Table 1."""
    return -fewest_neurons(pool, seed)


def random_order(pool: PoolSignals, seed: int) -> Values:
    """Prefer nothing: one random number per question, drawn from its id."""
    drawn = (generator(seed, "selection", name) for name in pool.question_ids)
    return np.array([one.random() for one in drawn])


def no_order(pool: PoolSignals, seed: int) -> Values:
    """Prefer nothing and tie all, so that every question is kept."""
    del seed
    return np.zeros(len(pool.neurons))


@dataclass(frozen=True, slots=True)
class SelectionRule:
    """A way to order the pool. A new one is a function and an entry below."""

    order: Callable[[PoolSignals, int], Values]
    """Takes the pool and a seed; the lowest ``(Q,)`` values are kept."""
    help: str
    """What is kept, as settings and reports put it."""
    reason: str
    """Why a question has its `place`, by the size of its `value`."""
    reads_neurons: bool = False
    keeps_all: bool = False


SELECTION_RULES: Final[dict[str, SelectionRule]] = {
    "fewest-neurons": SelectionRule(
        fewest_neurons,
        "those with the fewest neurons, which means high consensus",
        "{value:,.0f} neurons, {place} from the fewest",
        reads_neurons=True,
    ),
    "most-neurons": SelectionRule(
        most_neurons,
        "those with the most neurons, which means low consensus",
        "{value:,.0f} neurons, {place} from the most",
        reads_neurons=True,
    ),
    "random": SelectionRule(
        random_order, "those that a seeded draw picked", "{place} in a random order"
    ),
    "all": SelectionRule(
        no_order, "every question of the pool", "every question is kept", keeps_all=True
    ),
}


class SelectionConfig(Section):
    """Which questions of the pool are trained on."""

    rule: Annotated[str, OneOf(SELECTION_RULES)] = "fewest-neurons"
    """Which questions to keep."""
    keep_fraction: Fraction = 0.2
    """Share of the pool to keep. Questions tied with the last one may add a twentieth
    to it; if they would add more, a seeded draw decides between them."""
    balance: bool = False
    """Keep the same share of the questions for each of the model's frequent answers, so
    that none dominates; for tasks whose answers repeat, such as labels."""
    include_unread: bool = False
    """Whether to keep questions whose own completion was cut off or has no readable
    answer; the rule `all` always keeps them."""


LEFT_OUT: Final = "left out: "
"""How the reason begins of a question that may not be kept."""

TIE_ROOM: Final = 0.05
"""Share of the questions asked for that ties with the last one may add to them."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The pool in the order of a rule, and what is kept of it."""

    values: Values
    """``(Q,)`` by which the rule orders."""
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
    pool: PoolSignals, config: SelectionConfig, seed: int
) -> tuple[SelectionEntry, ...]:
    """Rank the pool and keep the share asked for; entries are in the pool's order.

    The seed is that of random orders and of draws among equals.

    Source: S = {x : s(x) <= b-th percentile}, Algorithm 1 of arXiv:2607.02460. Balance,
    draws among many equals and leaving out unread completions are ours.
    """
    if not pool.neurons:
        return ()
    return entries_of(pool, rank_questions(pool, config, seed), config)


def entries_of(
    pool: PoolSignals, ranking: Ranking, config: SelectionConfig
) -> tuple[SelectionEntry, ...]:
    """Say of each question of a ranked pool whether it is kept, and why."""
    rule, unread = SELECTION_RULES[config.rule], pool.unread
    return tuple(
        SelectionEntry(
            question_id=entry.question_id,
            neuron_count=entry.neuron_count,
            rank=int(ranking.places[i]),
            kept=bool(ranking.kept[i]),
            reason=LEFT_OUT + unread[entry.question_id]
            if ranking.barred[i]
            else reason(rule, ranking, i),
        )
        for i, entry in enumerate(pool.neurons)
    )


def kept_ids(selection: Sequence[SelectionEntry]) -> set[str]:
    """Return the ids of the selected questions."""
    return {entry.question_id for entry in selection if entry.kept}


def rank_questions(pool: PoolSignals, config: SelectionConfig, seed: int) -> Ranking:
    """Order the pool; the arguments are those of `select_questions`.

    The share is of the whole pool, but taken from the questions that may be kept.
    """
    rule, ids = SELECTION_RULES[config.rule], pool.question_ids
    values = rule.order(pool, seed)
    barred = barred_questions(pool, config)
    free = np.flatnonzero(~barred)
    fraction = share_asked(config)
    share = min(1.0, fraction * len(ids) / max(1, len(free)))
    kept = np.zeros(len(ids), dtype=np.bool_)
    lots = np.zeros(len(ids))
    answers = pool.answers
    own = [answers[i] for i in free]
    for group in groups_of(own, share, balance=config.balance):
        members = free[group]
        tied = members[too_many_tied(values[members], share)]
        draws = (generator(seed, "selection-ties", ids[i]).random() for i in tied)
        lots[tied] = [1.0 - draw for draw in draws]  # above 0 and at most 1
        kept[members[lowest(values[members], lots[members], share)]] = True
    order = np.lexsort((lots, values, barred))
    asked = limit_of(len(ids), fraction)
    places = np.argsort(order)
    return Ranking(values, places, kept, lots > 0.0, barred, free.size, asked)


def barred_questions(pool: PoolSignals, config: SelectionConfig) -> NDArray[np.bool_]:
    """Say which questions may not be kept: unread ones, unless all are asked for."""
    all_may = config.include_unread or SELECTION_RULES[config.rule].keeps_all
    unread = {} if all_may else pool.unread
    return np.array([name in unread for name in pool.question_ids], dtype=np.bool_)


def share_asked(config: SelectionConfig) -> float:
    """Return the share of the pool that the settings ask for."""
    return 1.0 if SELECTION_RULES[config.rule].keeps_all else config.keep_fraction


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


def reason(rule: SelectionRule, ranking: Ranking, place: int) -> str:
    """Say where a question, by its place in the pool, stands in the order."""
    text = rule.reason.format(
        value=abs(ranking.values[place]),
        place=f"place {ranking.places[place] + 1} of {ranking.num_free}",
    )
    if rule.keeps_all or not ranking.drawn[place]:
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
