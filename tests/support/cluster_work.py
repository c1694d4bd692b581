"""What workers of a cluster are given to do in tests, where they can import it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuron_opsd.config import Config
from neuron_opsd.errors import DataError, NotFiniteError, TryAgainError
from neuron_opsd.models.room import Room
from neuron_opsd.storage.journal import Notes


def base() -> int:
    """Return the model of these workers: a number that is added."""
    return 100


def broken() -> int:
    """Fail to make a model."""
    raise DataError("there is no model here")


def add(model: int, chunk: Sequence[int]) -> list[int]:
    """Add the model to every item."""
    return [model + item for item in chunk]


def process(
    _: int, chunk: Sequence[int], home: Path, count: int
) -> list[tuple[int, int, str]]:
    """Return the process, its threads and its OMP_NUM_THREADS, for every item.

    It waits for so many others to be at work with it, to say their names in a folder.
    """
    import torch

    (home / str(os.getpid())).touch()
    end = time.monotonic() + 120
    while len(list(home.iterdir())) < count and time.monotonic() < end:
        time.sleep(0.05)
    found = os.getpid(), torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]
    return [found] * len(chunk)


def once(marker: Path) -> bool:
    """Say whether a marker is not there yet, and put it there."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die_at(model: int, chunk: Sequence[int], item: int, marker: Path) -> list[int]:
    """End this process at an item, the first time."""
    if item in chunk and once(marker):
        os._exit(1)
    return add(model, chunk)


def die(_: int, __: Sequence[int]) -> list[int]:
    """End this process, however often."""
    os._exit(1)


def fill_up_at(model: int, chunk: Sequence[int], item: int, marker: Path) -> list[int]:
    """Find no memory at an item, the first time."""
    if item in chunk and once(marker):
        raise TryAgainError("memory ran out on a row of 7 tokens alone")
    return add(model, chunk)


def fill_up(_: int, __: Sequence[int]) -> list[int]:
    """Find no memory, however often."""
    raise TryAgainError("memory ran out on a row of 7 tokens alone")


def lose_count(_: int, __: Sequence[int]) -> list[int]:
    """Compute something that is no number."""
    raise NotFiniteError("the logit is nan", (), ["q7"])


@dataclass(frozen=True)
class Asked:
    """A model that is asked item by item, and dies over some of them once."""

    home: Path
    """Where it leaves what it was asked."""
    deadly: Sequence[int]
    room: Room = field(default_factory=lambda: Room(4096))

    def answer(self, item: int) -> int:
        """Double an item."""
        with (self.home / f"asked-{item}").open("a") as file:
            file.write("x")
        if item in self.deadly and once(self.home / f"deadly-{item}"):
            os._exit(1)
        return 2 * item


@dataclass(frozen=True)
class AskedRecipe:
    """Makes such a model in a worker."""

    config: Config
    home: Path
    deadly: Sequence[int]

    def __call__(self) -> Asked:
        """Make it."""
        return Asked(self.home, self.deadly)


@dataclass(frozen=True)
class NotingAsked:
    """Asks nothing that is noted."""

    model: Asked
    notes: Notes

    def answer(self, item: int) -> int:
        """Double an item."""
        known: Any = self.notes.get(str(item))
        if known is None:
            known = self.model.answer(item)
            self.notes.add(str(item), known)
        return int(known)


def ask_each(model: NotingAsked, chunk: Sequence[int]) -> list[int]:
    """Ask for every item."""
    return [model.answer(item) for item in chunk]
