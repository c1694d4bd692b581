"""From a rule's order to what is kept: shares, ties, balance. Axis: Q questions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.selection.rules import (
    SELECTION_RULES,
    SelectionConfig,
    SelectionRule,
)
from neuron_opsd.method.selection.signals import PoolSignals, Values
from neuron_opsd.records import SelectionEntry
from neuron_opsd.seeds import generator

LEFT_OUT: Final = "left out: "
"""Begins the reason of a question left out."""

TIE_ROOM: Final = 0.05
"""Share of the questions asked for that ties may add."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The pool in the order of a rule, and what is kept of it."""

    values: Values
    """``(Q,)`` to order by; NaN if left out."""
    places: NDArray[np.int64]
    """``(Q,)`` from 0; those left out are last."""
    kept: NDArray[np.bool_]
    drawn: NDArray[np.bool_]
    """Whether a draw among ties decided."""
    unread: NDArray[np.bool_]
    """Left out, since its own completion gives no answer."""
    unknown: NDArray[np.bool_]
    """Left out, since the rule knows nothing about it."""
    num_free: int
    """Questions that may be kept."""
    num_asked: int


def select_questions(
    pool: PoolSignals, config: SelectionConfig, seed: int
) -> tuple[SelectionEntry, ...]:
    """Rank the pool and keep the share asked for; return entries in pool order.

    The seed is for random orders and for draws among ties.

    Source: S = {x : s(x) <= b-th percentile}, Algorithm 1 of arXiv:2607.02460. Balance,
    draws among many ties and leaving out unread completions are ours.
    """
    if not pool.neurons:
        return ()
    return entries_of(pool, rank_questions(pool, config, seed), config)


def entries_of(
    pool: PoolSignals, ranking: Ranking, config: SelectionConfig
) -> tuple[SelectionEntry, ...]:
    """Say for each question of a ranked pool whether it is kept, and why."""
    rule, unread = SELECTION_RULES[config.rule], pool.unread

    def why(place: int) -> str:
        if ranking.unread[place]:
            return LEFT_OUT + unread[pool.neurons[place].question_id]
        if ranking.unknown[place]:
            return LEFT_OUT + rule.unknown
        return reason(rule, ranking, place)

    return tuple(
        SelectionEntry(
            question_id=entry.question_id,
            neuron_count=entry.neuron_count,
            rank=int(ranking.places[i]),
            kept=bool(ranking.kept[i]),
            reason=why(i),
        )
        for i, entry in enumerate(pool.neurons)
    )


def kept_ids(selection: Sequence[SelectionEntry]) -> set[str]:
    """Return the ids of the selected questions."""
    return {entry.question_id for entry in selection if entry.kept}


def rank_questions(pool: PoolSignals, config: SelectionConfig, seed: int) -> Ranking:
    """Order the pool; arguments are as in `select_questions`.

    The share is of the whole pool, but taken from the questions that may be kept.
    """
    ids, fraction = pool.question_ids, share_asked(config)
    asked = limit_of(len(ids), fraction)
    unread = unread_questions(pool, config)
    values = ordered(replace(pool, num_asked=asked), config.rule, ~unread, seed)
    unknown = np.isnan(values) & ~unread
    barred = unread | unknown
    free = np.flatnonzero(~barred)
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
    places = np.argsort(np.lexsort((lots, values, barred)))
    drawn = lots > 0.0
    return Ranking(values, places, kept, drawn, unread, unknown, free.size, asked)


def ordered(
    pool: PoolSignals, rule: str, may_be_kept: NDArray[np.bool_], seed: int
) -> Values:
    """Return a rule's values ``(Q,)``; it sees only what may be kept."""
    values = np.full(len(pool.neurons), np.nan)
    places = np.flatnonzero(may_be_kept)
    if places.size:
        values[places] = SELECTION_RULES[rule].order(pool.part(places), seed)
    return values


def unread_questions(pool: PoolSignals, config: SelectionConfig) -> NDArray[np.bool_]:
    """Tell which questions are barred as unread; none if all are asked for."""
    all_may = config.include_unread or SELECTION_RULES[config.rule].keeps_all
    unread = {} if all_may else pool.unread
    return np.array([name in unread for name in pool.question_ids], dtype=np.bool_)


def share_asked(config: SelectionConfig) -> float:
    """Return the share of the pool that the settings ask for."""
    return 1.0 if SELECTION_RULES[config.rule].keeps_all else config.keep_fraction


def limit_of(count: int, share: float) -> int:
    """Return how many questions a share is, at least one."""
    # Without this margin, rounding would make 0.55 of 100 into 56.
    return max(1, math.ceil(share * count - 1e-9))


def too_many_tied(values: Values, share: float) -> NDArray[np.bool_]:
    """Return which questions tie with the last of the share, if too many do."""
    limit = limit_of(len(values), share)
    last = np.sort(values)[limit - 1]
    room = math.floor(TIE_ROOM * limit)
    few = (values <= last).sum() <= limit + room
    return np.zeros(len(values), np.bool_) if few else values == last


def lowest(values: Values, lots: Values, share: float) -> NDArray[np.int64]:
    """Return the places of the lowest values, then of the lowest lots.

    Includes all that equal the last in both.
    """
    limit = limit_of(len(values), share)
    order = np.lexsort((lots, values))
    last = order[limit - 1]
    same = (values == values[last]) & (lots == lots[last])
    return np.union1d(order[:limit], np.flatnonzero(same))


def groups_of(
    answers: Sequence[str | None], share: float, *, balance: bool
) -> list[NDArray[np.int64]]:
    """Return the places of the groups within which the share is kept.

    Without balance, one group. With it, each answer frequent enough to keep one
    question is a group, and the others form one.
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
    """Say where a question, by its place in the pool, is in the order."""
    value = ranking.values[place]
    text = rule.reason.format(
        value=abs(value),
        signed=value,
        place=f"place {ranking.places[place] + 1} of {ranking.num_free}",
    )
    if rule.keeps_all or not ranking.drawn[place]:
        return text
    fate = "kept" if ranking.kept[place] else "not kept"
    return f"{text}, {fate} by a draw among equals"


def num_left_out(entries: Sequence[SelectionEntry]) -> int:
    """Count the questions that could not be kept."""
    return sum(entry.reason.startswith(LEFT_OUT) for entry in entries)


def selection_warnings(ranking: Ranking, config: SelectionConfig) -> list[str]:
    """Say what else decided besides the rule, and if too few questions remain."""
    found = []
    unread = "their own completion was cut or holds no answer that can be read"
    unknown = (
        f"selection.rule={config.rule} knows nothing of them "
        f"({SELECTION_RULES[config.rule].unknown})"
    )
    for barred, why in ((ranking.unread, unread), (ranking.unknown, unknown)):
        if barred.any():
            found.append(
                f"{barred.sum()} of {barred.size} questions could not be selected, "
                f"since {why}; {remaining(ranking, config)}"
            )
    if ranking.drawn.any():
        places = (ranking.drawn & ranking.kept).sum()
        found.append(
            f"{ranking.drawn.sum()} questions tie for the last {places} of the "
            f"{ranking.kept.sum()} places in the selection; a seeded draw decided "
            "between them"
        )
    return found


def remaining(ranking: Ranking, config: SelectionConfig) -> str:
    """Say how many questions are selected, and whether that is enough."""
    text = f"the selection has {ranking.kept.sum()}"
    if ranking.kept.sum() >= ranking.num_asked:
        return text
    return (
        f"{text}, fewer than the {ranking.num_asked} that selection.keep_fraction="
        f"{config.keep_fraction:g} asks for; raise rollouts.max_new_tokens"
    )
