"""Letters from workers to the process that employs them, while they are still at work.

A letter that was sent is not lost with its sender.
"""

from __future__ import annotations

from typing import Any

from neuron_opsd.cluster.session import beside_this, load_ray
from neuron_opsd.errors import TryAgainError


class Letters:
    """The process of the cluster that holds letters until they are taken."""

    def __init__(self) -> None:
        self._letters: list[Any] = []

    def put(self, letter: Any) -> None:
        """Hold a letter."""
        self._letters.append(letter)

    def take(self) -> list[Any]:
        """Return all letters, oldest first, and hold none."""
        letters, self._letters = self._letters, []
        return letters


class Mailbox:
    """Where workers send letters to; it can be handed to them."""

    def __init__(self) -> None:
        kind = load_ray().remote(Letters).options(**beside_this())
        self._actor = kind.remote()

    def send(self, letter: Any) -> None:
        """Send a letter, which has arrived by then."""
        self._get(self._actor.put.remote(letter))

    def take(self) -> list[Any]:
        """Return the letters that have arrived and were not taken yet."""
        found: list[Any] = self._get(self._actor.take.remote())
        return found

    def _get(self, reference: Any) -> Any:
        ray = load_ray()
        try:
            return ray.get(reference)
        except ray.exceptions.RayError as error:
            raise TryAgainError(
                "the process that collects what workers send was lost; the same "
                "command resumes"
            ) from error
