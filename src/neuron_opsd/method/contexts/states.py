"""Questions of the pool with the most similar hidden states.

Axes: Q questions asked for, P questions of the pool, D residual width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.contexts.search import Found, Search, neighbours
from neuron_opsd.method.retrieval.bitsets import chunks
from neuron_opsd.method.retrieval.exact import NONE, Rows, first, with_more

States = Sequence[NDArray[np.float32]]

ASKED_AT_ONCE: Final = 1024
COMPARED_AT_ONCE: Final = 4096
MORE: Final = 16
"""Extra rows to rank in 64 bits, since 32-bit products round by block."""


def by_states(search: Search) -> Found:
    """Return the questions with the highest cosine similarity, nearest first.

    Holds one block of cosines in memory. Ties go to the earlier in the pool.
    """
    pool, barred, names = search.pool.states, search.barred, search.questions.ids
    said = f"of {len(pool) - 1}: cosine distance of hidden states"
    found = {}
    for chunk in chunks(len(names), ASKED_AT_ONCE):
        asked = search.questions.states[chunk]
        close = candidates(asked, pool, barred[chunk], search.count + MORE)
        for name, state, rows in zip(names[chunk], asked, close, strict=True):
            distances = cosine_distances(state, [pool[row] for row in rows])
            order, far = first(distances, search.count)
            ranking = rows[order], far
            found[name] = neighbours(ranking, search.pool.neurons, "nearest", said)
    return found


def candidates(
    asked: States, pool: States, barred: Sequence[Rows], count: int
) -> list[Rows]:
    """Return for each state the sorted pool rows that are about the nearest."""
    units = unit(asked)
    found = [NONE for _ in asked]
    for block in chunks(len(pool), COMPARED_AT_ONCE):
        cosines = units @ unit(pool[block]).T
        for i, out in enumerate(barred):
            new = 1.0 - cosines[i].astype(np.float64)
            found[i] = with_more(found[i], new, block, out, count)
    return [np.sort(rows) for rows, _ in found]


def cosine_distances(state: NDArray[np.float32], others: States) -> NDArray[np.float64]:
    """Return 1 less the cosine between a state and others; 1 if either is zero.

    Each sum runs over one row, so a pair gives the same bits in any company.
    """
    if not others:
        return np.empty(0)
    table, own = np.stack(others).astype(np.float64), state.astype(np.float64)
    lengths = np.sqrt((table**2).sum(axis=1) * (own**2).sum())
    shares = np.zeros(len(table))
    np.divide((table * own).sum(axis=1), lengths, out=shares, where=lengths > 0)
    return 1.0 - shares


def unit(states: States) -> NDArray[np.float32]:
    """Scale states ``(B, D)`` to length 1; zeros stay zeros."""
    table = np.stack(states)
    lengths = np.sqrt((table.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return np.asarray(table / np.where(lengths > 0, lengths, 1.0), np.float32)
