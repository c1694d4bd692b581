"""Tasks that need no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from neuron_opsd.storage.caching import Task

Item = TypeVar("Item")
R = TypeVar("R")


def alone(compute: Callable[[Sequence[Item]], Sequence[R]]) -> Task[None, Item, R]:
    """Return the task of computing chunks without a model, in this process."""
    return Task(None, lambda _, chunk: compute(chunk))
