"""The rules' functions that order a pool; the lowest values are kept.

Each takes the questions that may be kept, and a seed. NaN means unknown and is left
out.

Axis: Q questions.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.method.beliefs import jensen_shannon
from neuron_opsd.method.selection.medoids import cluster
from neuron_opsd.method.selection.signals import PoolSignals, Values
from neuron_opsd.method.statistics import mid_ranks
from neuron_opsd.seeds import generator

HUBER: Final = 1.345
"""Standard deviations beyond which a point pulls no harder."""
PER_DEVIATION: Final = 1.4826
"""Standard deviation over median absolute deviation, for a normal distribution."""
ROUNDS: Final = 50


def fewest_neurons(pool: PoolSignals, seed: int) -> Values:
    """Prefer high consensus. Source: section 3.2 of arXiv:2607.02460."""
    del seed
    return np.array([entry.neuron_count for entry in pool.neurons], dtype=np.float64)


def most_neurons(pool: PoolSignals, seed: int) -> Values:
    """Prefer low consensus, the paper's control of Table 1."""
    return -fewest_neurons(pool, seed)


def fewest_for_length(pool: PoolSignals, seed: int) -> Values:
    """Prefer fewer neurons than other completions of the same length have.

    By the residual of a robust line on log length. Source: ours; reviewers of NAD,
    arXiv:2510.26277, asked whether the count is more than length.
    """
    lengths = np.array([max(1, entry.num_tokens) for entry in pool.neurons])
    return line_residuals(np.log(lengths), fewest_neurons(pool, seed))


def line_residuals(x: Values, y: Values) -> Values:
    """Return the residuals ``(Q,)`` of `y` from a robust line.

    Source: Huber's M-estimator by iteratively reweighted least squares; Huber 1964, and
    Holland and Welsch 1977 for its constant.
    """
    table = np.stack([np.ones(x.size), x - x.mean()], axis=1)
    left, weights = y - np.median(y), np.ones(x.size)
    for _ in range(ROUNDS):
        root = np.sqrt(weights)
        line, *_ = np.linalg.lstsq(table * root[:, None], y * root, rcond=None)
        before, left = left, y - table @ line
        near = HUBER * PER_DEVIATION * np.median(np.abs(left))
        if near == 0.0 or np.allclose(left, before, rtol=0.0, atol=1e-6 * near):
            break
        weights = near / np.maximum(near, np.abs(left))
    return left


def random_order(pool: PoolSignals, seed: int) -> Values:
    """Prefer nothing: a random number per question, seeded by its id."""
    drawn = (generator(seed, "selection", name) for name in pool.question_ids)
    return np.array([one.random() for one in drawn])


def no_order(pool: PoolSignals, seed: int) -> Values:
    """Prefer nothing and tie all, so that all are kept."""
    del seed
    return np.zeros(len(pool.neurons))


def lowest_entropy(pool: PoolSignals, seed: int) -> Values:
    """Prefer what the model answers with little doubt.

    Source: a control; entropy as a reward is RENT's, arXiv:2505.22660.
    """
    del seed
    return pool.each(pool.entropies.get)


def highest_vote(pool: PoolSignals, seed: int) -> Values:
    """Prefer what the samples agree on. Source: the vote of TTRL, arXiv:2504.16084.

    NaN if no answer was readable.
    """
    del seed

    def share(name: str) -> float | None:
        vote = pool.votes.get(name)
        voted = vote is not None and vote.pseudo_label is not None
        return -vote.agreement if vote is not None and voted else None

    return pool.each(share)


def largest_shift(pool: PoolSignals, seed: int) -> Values:
    """Prefer questions whose answer the demonstrations change.

    By the Jensen-Shannon divergence of answers with and without them. Source: INFLOW,
    arXiv:2609.36695.
    """
    del seed

    def shift(name: str) -> float | None:
        belief = pool.beliefs.get(name)
        if belief is None or not belief.answers:
            return None
        return -jensen_shannon(belief.student, belief.teacher)

    return pool.each(shift)


def largest_divergence(pool: PoolSignals, seed: int) -> Values:
    """Prefer questions with the largest loss.

    By KL(student || teacher), the loss at the first step. Source: ours, from Eq. 10 of
    arXiv:2607.02460.
    """
    del seed

    def divergence(name: str) -> float | None:
        belief = pool.beliefs.get(name)
        known = belief is not None and belief.divergence is not None
        return -belief.divergence if belief and known else None  # type: ignore[operator]

    return pool.each(divergence)


def reliable_and_teachable(pool: PoolSignals, seed: int) -> Values:
    """Prefer what the model answers with little doubt and demonstrations change.

    Both orders are ranks in (0, 1]; the worse counts, then the better. Source: ours;
    arXiv:2607.02460 leaves the combination open.
    """
    both = np.stack([lowest_entropy(pool, seed), largest_shift(pool, seed)])
    known = ~np.isnan(both).any(axis=0)
    found = np.full(known.size, np.nan)
    if known.any():
        alike = np.ones((1, int(known.sum())))
        ranks = [mid_ranks(values[known], alike)[0] / alike.size for values in both]
        worse, better = np.maximum(*ranks), np.minimum(*ranks)
        found[known] = worse + better / (2.0 * alike.size)
    return found


def spread_out(pool: PoolSignals, seed: int) -> Values:
    """Prefer the middles of clusters, as many from each.

    By how many of its cluster are nearer to the medoid. Source: NeuFS,
    arXiv:2607.02423, which clusters by k-medoids of Jaccard distances; taking turns
    between clusters is ours.
    """
    sets = [entry.neuron_ids for entry in pool.neurons]
    found = cluster(sets, pool.question_ids, pool.num_asked, seed)
    return counts_nearer(found.clusters, found.distances)


def counts_nearer(
    clusters: NDArray[np.int64], distances: NDArray[np.float64]
) -> Values:
    """Return ``(Q,)`` how many others of a question's cluster are nearer."""
    order = np.lexsort((distances, clusters))
    places = np.arange(order.size)
    begins = np.diff(clusters[order], prepend=-1) != 0
    differs = begins | (np.diff(distances[order], prepend=-1.0) != 0.0)
    first, equal = (
        np.maximum.accumulate(np.where(new, places, 0)) for new in (begins, differs)
    )
    found = np.empty(order.size)
    found[order] = equal - first
    return found
