"""Entropies and divergences of answer distributions.

Distributions are log-probabilities ``(K,)`` of K answers, in nats, perhaps -inf.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Logprobs: TypeAlias = NDArray[np.float64]


def kl_divergence(p: Logprobs, q: Logprobs) -> float:
    """Return KL(p || q) in nats."""
    given = p > -np.inf
    return float((np.exp(p[given]) * (p[given] - q[given])).sum())


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> float:
    """Return the Jensen-Shannon divergence in nats, at most ln 2.

    Source: Lin 1991, "Divergence measures based on the Shannon entropy".
    """
    one, other = np.array(p, dtype=np.float64), np.array(q, dtype=np.float64)
    middle = np.logaddexp(one, other) - np.log(2.0)
    both = kl_divergence(one, middle) + kl_divergence(other, middle)
    # Rounding can slightly overshoot either end.
    return min(math.log(2.0), max(0.0, both / 2.0))


def entropy_of(shares: Iterable[float]) -> float:
    """Return the entropy of shares that sum to one, in nats."""
    return max(0.0, -sum(share * math.log(share) for share in shares if share > 0.0))


def reweighted(shares: Sequence[float], gains: Sequence[float]) -> Logprobs:
    """Return log-probabilities of answers after their own rise by gains, in nats.

    Shares may be in any unit.
    """
    raised = np.log(np.array(shares, dtype=np.float64)) + np.array(gains)
    return np.asarray(raised - np.logaddexp.reduce(raised), dtype=np.float64)
