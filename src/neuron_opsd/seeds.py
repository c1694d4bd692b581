"""Seeds for every random draw, derived only from what the draw is for.

There is no global randomness: a draw depends on the run's seed and the name of its
purpose, so neither batch size nor order nor a restart can change it.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

SeedPart: TypeAlias = str | int


def derive_seed(*parts: SeedPart) -> int:
    """Return a seed in [0, 2**63) that depends on every part and on their order.

    Example:
        >>> derive_seed(0, "rollout", "q-17", 3) == derive_seed(0, "rollout", "q-17", 3)
        True
    """
    # repr keeps 1 and "1" apart; the separator keeps ("ab", "c") and ("a", "bc") apart.
    text = "\x1f".join(repr(part) for part in parts)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: SeedPart) -> np.random.Generator:
    """Return a generator for the purpose named by the parts."""
    return np.random.Generator(np.random.Philox(key=derive_seed(*parts)))


def uniforms(seed: int, count: int) -> NDArray[np.float64]:
    """Return `count` numbers in [0, 1) from a seed."""
    return np.random.Generator(np.random.Philox(key=seed)).random(count)
