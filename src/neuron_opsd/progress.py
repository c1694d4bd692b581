"""How stages tell the outside how far they are, without knowing a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """What the library calls while it works; the command line draws bars with it."""

    def stage(
        self, name: str, total: int, unit: str
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Open a stage of `total` units; call the value it gives with units done."""
        ...

    def warn(self, text: str) -> None:
        """Say something that the user should know although the work goes on."""
        ...


def nothing(units: int) -> None:
    """Hear that units are done, and do nothing."""
    del units


class Silent:
    """Progress that nobody watches; warnings are kept to be looked at afterwards."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    @contextmanager
    def stage(
        self, name: str, total: int, unit: str
    ) -> Iterator[Callable[[int], None]]:
        """Give a function that does nothing."""
        del name, total, unit
        yield nothing

    def warn(self, text: str) -> None:
        """Keep the warning."""
        self.warnings.append(text)
