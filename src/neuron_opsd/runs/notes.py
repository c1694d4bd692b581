"""What workers of a cluster note on the way to a chunk, kept by the process they serve.

So a worker that is lost, or that process, repeats nothing that was finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuron_opsd.cluster.mailbox import Mailbox
from neuron_opsd.storage.journal import Journal


@dataclass(frozen=True, slots=True)
class SentNotes:
    """Notes as a worker has them: what was known when it got them, and a way home."""

    number: int
    """Of the chunk."""
    known: Mapping[str, Any]
    send: Callable[[tuple[int, str, Any]], None]

    def get(self, key: str) -> Any:
        """Return the value of a key, `None` where there is none."""
        return self.known.get(key)

    def add(self, key: str, value: Any) -> None:
        """Send a value, which has arrived by then."""
        self.send((self.number, key, value))


class KeptNotes:
    """The journals of the chunks that workers have."""

    def __init__(self, mailbox: Mailbox, journal: Callable[[int], Journal]) -> None:
        """Take where notes arrive, and what gives the journal of a chunk."""
        self._mailbox = mailbox
        self._journal = journal
        self._open: dict[int, Journal] = {}

    def with_notes(
        self, chunks: Iterable[tuple[int, Sequence[Any]]]
    ) -> Iterator[tuple[int, Sequence[Any]]]:
        """Put notes before the items, which hold what is known when they are sent."""
        for number, chunk in chunks:
            self._open[number] = journal = self._journal(number)
            yield (
                number,
                [SentNotes(number, journal.values, self._mailbox.send), *chunk],
            )

    def take(self) -> None:
        """Keep what has arrived; of a chunk that is done nothing is kept."""
        for number, key, value in self._mailbox.take():
            if number in self._open:
                self._open[number].add(key, value)

    def end(self, number: int) -> None:
        """Forget a chunk that is done."""
        del self._open[number]
