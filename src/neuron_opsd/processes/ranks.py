"""Processes that train together, each called a rank.

All hold the same weights and take the same steps, each with its share of the questions.
What it finds is added up, or told, at the same places of the step on every rank.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from neuron_opsd.errors import ConfigError, TryAgainError

if TYPE_CHECKING:
    from torch import Tensor  # slow to import, and the command line asks for its rank


def share_of(count: int, rank: int, size: int) -> slice:
    """Return one of `size` shares of so many, as equal as can be."""
    start, end = (part * count // size for part in (rank, rank + 1))
    return slice(start, end)


class LostRankError(TryAgainError):
    """Another rank has ended, or is silent for too long."""


class Ranks(Protocol):
    """What one of these processes knows of the others.

    What is done with them raises a `LostRankError` if one cannot be heard.
    """

    @property
    def rank(self) -> int:
        """Number of this process, from 0, which alone writes files."""

    @property
    def size(self) -> int:
        """How many processes there are."""

    def tell(self, word: str) -> list[str]:
        """Tell all ranks a text; return what each one told, in their order."""

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Put the sum over all ranks into tensors that are alike on each."""

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Put what rank 0 holds into tensors that are alike on each."""


class Alone:
    """The only rank of a training, which shares nothing."""

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
"""What a training takes where nothing else is said."""

RANK, SIZE = "RANK", "WORLD_SIZE"
"""Variables by which torchrun numbers processes."""
NEEDED: Final = (RANK, SIZE, "MASTER_ADDR", "MASTER_PORT")


def launched_rank() -> int | None:
    """Return this process's rank if torchrun, or the like, started several.

    Raises:
        ConfigError: If what it was told is no number.
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
