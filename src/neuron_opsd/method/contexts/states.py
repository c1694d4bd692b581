"""Questions of the pool with the most similar hidden states.

Axes: Q questions asked for, P questions of the pool, D residual width.
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import intern
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.contexts.search import Found, Neighbour, Rows, Search
from neuron_opsd.method.retrieval.bitsets import chunks
from neuron_opsd.method.retrieval.exact import first

States = Sequence[NDArray[np.float32]]

ASKED_AT_ONCE: Final = 1024
"""Questions that are compared together."""
COMPARED_AT_ONCE: Final = 4096
"""Questions of the pool that they are compared with at a time."""
MORE: Final = 16
"""Rows kept besides those asked for, to be ranked in 64 bits.

A product in 32 bits may round like pairs differently, by the block that they are in.
"""


def by_states(search: Search) -> Found:
    """Return the questions with the highest cosine of the angle, nearest first.

    Memory holds one block of cosines beside the states themselves. Ties go to the
    question that stands earlier in the pool.
    """
    pool, ids, barred = search.pool.states, search.pool.ids, search.barred
    names = search.questions.ids
    found = {}
    for chunk in chunks(len(names), ASKED_AT_ONCE):
        asked = search.questions.states[chunk]
        close = candidates(asked, pool, barred[chunk], search.count + MORE)
        for name, state, rows in zip(names[chunk], asked, close, strict=True):
            distances = cosine_distances(state, [pool[row] for row in rows])
            order, far = first(distances, min(search.count, rows.size))
            found[name] = tuple(
                Neighbour(ids[rows[place]], distance, reason_of(rank, distance, pool))
                for rank, (place, distance) in enumerate(
                    zip(order.tolist(), far.tolist(), strict=True), start=1
                )
            )
    return found


def reason_of(rank: int, distance: float, pool: States) -> str:
    """Say why a question was found."""
    return intern(
        f"nearest {rank} of {len(pool) - 1}: cosine distance of hidden states "
        f"{distance:.3f}"
    )


def candidates(
    asked: States, pool: States, barred: Sequence[Rows], count: int
) -> list[Rows]:
    """Return for each state the sorted rows of about the nearest of the pool."""
    units = unit(asked)
    rows = [np.empty(0, np.int64) for _ in asked]
    distances = [np.empty(0) for _ in asked]
    for block in chunks(len(pool), COMPARED_AT_ONCE):
        cosines = units @ unit(pool[block]).T
        numbers = np.arange(block.start, block.stop)
        for i, out in enumerate(barred):
            new = 1.0 - cosines[i].astype(np.float64)
            start, stop = np.searchsorted(out, [block.start, block.stop])
            new[out[start:stop] - block.start] = np.inf
            both = np.concatenate([distances[i], new])
            most = min(count, int(np.isfinite(both).sum()))
            places, distances[i] = first(both, most)
            rows[i] = np.concatenate([rows[i], numbers])[places]
    return [np.sort(found) for found in rows]


def cosine_distances(state: NDArray[np.float32], others: States) -> NDArray[np.float64]:
    """Return 1 less the cosine between a state and others; 1 where one is zero.

    Each sum runs over one row alone, so a pair gives the same bits in any company.
    """
    if not others:
        return np.empty(0)
    table, own = np.stack(others).astype(np.float64), state.astype(np.float64)
    lengths = np.sqrt((table**2).sum(axis=1) * (own**2).sum())
    shares = np.zeros(len(table))
    np.divide((table * own).sum(axis=1), lengths, out=shares, where=lengths > 0)
    return np.asarray(1.0 - shares, np.float64)


def unit(states: States) -> NDArray[np.float32]:
    """Return states ``(B, D)`` brought to length 1; zeros stay zeros."""
    table = np.stack(states)
    lengths = np.sqrt((table.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return np.asarray(table / np.where(lengths > 0, lengths, 1.0), np.float32)
