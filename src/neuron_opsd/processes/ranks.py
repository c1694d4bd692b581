"""Processes that train together, called ranks.

All hold the same weights and take the same steps, each with its share of the questions.
All exchange results at the same places of a step.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from neuron_opsd.errors import ConfigError, TryAgainError

if TYPE_CHECKING:
    from torch import Tensor  # slow to import, and the command line needs its rank


def share_of(count: int, rank: int, size: int) -> slice:
    """Return a rank's share of `count` items, nearly equal for all."""
    start, end = (part * count // size for part in (rank, rank + 1))
    return slice(start, end)


class LostRankError(TryAgainError):
    """Another rank has ended, or is silent for too long."""


class Ranks(Protocol):
    """The other processes, as seen from one.

    Methods raise a `LostRankError` if one does not respond.
    """

    @property
    def rank(self) -> int:
        """Number from 0; only rank 0 writes files."""

    @property
    def size(self) -> int:
        """Number of processes."""

    def tell(self, word: str) -> list[str]:
        """Send a text to all ranks; return all texts by rank."""

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Sum tensors of equal shape over all ranks, in place."""

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite same-shaped tensors on every rank with rank 0's."""


class Alone:
    """The only rank of a training."""

    rank: Final = 0
    size: Final = 1

    def tell(self, word: str) -> list[str]:
        """Return the text."""
        return [word]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Leave tensors as they are."""

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Leave tensors as they are."""


ALONE: Final = Alone()

RANK, SIZE = "RANK", "WORLD_SIZE"
NEEDED: Final = (RANK, SIZE, "MASTER_ADDR", "MASTER_PORT")


def launched_rank() -> int | None:
    """Return this process's rank if torchrun, or the like, started several.

    Raises:
        ConfigError: If the variables are no numbers.
    """
    if not all(name in os.environ for name in NEEDED):
        return None
    rank, size = (os.environ[name] for name in (RANK, SIZE))
    if not (rank.isdecimal() and size.isdecimal() and int(rank) < max(int(size), 1)):
        raise ConfigError(
            f"{RANK} is {rank!r} and {SIZE} {size!r}, but they must be the number of "
            "this process, from 0, and how many there are; start with torchrun, or "
            "unset them"
        )
    return int(rank) if int(size) > 1 else None
