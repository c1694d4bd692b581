"""How far two distributions over the answers to a question are apart. Axis: K answers.

Distributions are given by their log-probabilities ``(K,)``, in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Logprobs: TypeAlias = NDArray[np.float64]


def kl_divergence(p: Logprobs, q: Logprobs) -> float:
    """Return KL(p || q) in nats."""
    return float((np.exp(p) * (p - q)).sum())


def jensen_shannon(p: Sequence[float], q: Sequence[float]) -> float:
    """Return the Jensen-Shannon divergence of two distributions, in nats.

    It is between 0, where they are equal, and ln 2, where they share no answer.

    Source: Lin 1991, "Divergence measures based on the Shannon entropy".
    """
    one, other = np.array(p, dtype=np.float64), np.array(q, dtype=np.float64)
    middle = np.logaddexp(one, other) - np.log(2.0)
    both = kl_divergence(one, middle) + kl_divergence(other, middle)
    return max(0.0, both / 2.0)  # rounding can leave a little less than 0


def reweighted(shares: Sequence[float], gains: Sequence[float]) -> Logprobs:
    """Return a distribution whose answers became more probable, by so many nats each.

    Args:
        shares: What each answer had, in any unit.
        gains: By how much its log-probability rose.

    Returns:
        Log-probabilities of the answers, which sum to one.
    """
    raised = np.log(np.array(shares, dtype=np.float64)) + np.array(gains)
    return np.asarray(raised - np.logaddexp.reduce(raised), dtype=np.float64)
