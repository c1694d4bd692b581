"""Where a run's model answers: in this process, or in workers of a Ray cluster.

The user's process owns the run directory. Workers receive and return values; they need
their own model files. Their notes on unfinished chunks are kept here, so that no
finished work is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

from neuron_opsd.cluster.pool import Mailbox
from neuron_opsd.config import Config
from neuron_opsd.errors import DataError
from neuron_opsd.models.load import ModelTokenizer, check_training_room, load_answering
from neuron_opsd.models.roles import LanguageModel, ModelFacts
from neuron_opsd.runs.courses import HERE, Trainer
from neuron_opsd.runs.fingerprint import model_fingerprint
from neuron_opsd.storage.caching import Here, Workers, ignore
from neuron_opsd.storage.journal import Journal
from neuron_opsd.storage.run_directory import RunDirectory


class Machines(Workers, Trainer, Protocol):
    """Workers that also load their models."""

    on_others: Callable[[Sequence[str]], None]
    """Called with a worker's differences, as ``threads 2 -> 1``."""

    def load(
        self,
        config: Config,
        *adapters: Path,
        tokenizer: ModelTokenizer | None = None,
        base: LanguageModel | None = None,
    ) -> LanguageModel:
        """Load a frozen model, like `models.load.load_answering`."""

    def check_room(self, facts: ModelFacts, config: Config) -> None:
        """Refuse `full` tuning that does not fit in memory.

        Raises:
            ModelError: With what is needed, what is free and what to use instead.
        """

    @property
    def environment(self) -> Mapping[str, str]:
        """What may change the last bits, if unlike this process."""

    def release(self) -> None:
        """Free what workers hold before this process trains."""


class ThisMachine(Here):
    """This process and those that train with it."""

    on_others: Callable[[Sequence[str]], None] = ignore
    environment: Mapping[str, str] = MappingProxyType({})

    load = staticmethod(load_answering)

    def __init__(self, trainer: Trainer = HERE) -> None:
        self.course = trainer.course

    def check_room(self, facts: ModelFacts, config: Config) -> None:
        """Refuse `full` tuning that does not fit here."""
        check_training_room(facts, config.distill)

    def release(self) -> None:
        """Do nothing: the loaded model will be trained."""


THIS_MACHINE: Final = ThisMachine()


def load_again(
    run: RunDirectory,
    config: Config,
    *adapters: Path,
    machines: Machines = THIS_MACHINE,
    base: LanguageModel | None = None,
) -> LanguageModel:
    """Load a run's model again, with adapters.

    They share the weights of `base` if given.

    Raises:
        DataError: If its files changed since the run began.
        ModelError: If it or an adapter cannot be loaded.
    """
    model = machines.load(config, *adapters, base=base)
    known = run.manifest.inputs.get("model")
    if known is not None and known != model_fingerprint(config.model):
        raise DataError(
            f"the files of model {config.model.name} were changed while {run.folder} "
            "was running; put them back and run the same command again, or choose "
            "another --out"
        )
    return model


@dataclass(frozen=True, slots=True)
class SentNotes:
    """A worker's notes: known ones, and where to send new ones."""

    number: int
    known: Mapping[str, Any]
    send: Callable[[tuple[int, str, Any]], None]

    def get(self, key: str) -> Any:
        """Return a key's value, or `None`."""
        return self.known.get(key)

    def add(self, key: str, value: Any) -> None:
        """Send a value; returns once it has arrived."""
        self.send((self.number, key, value))


class KeptNotes:
    """The journals of the chunks in progress."""

    def __init__(self, mailbox: Mailbox, journal: Callable[[int], Journal]) -> None:
        self._mailbox = mailbox
        self._journal = journal
        self._open: dict[int, Journal] = {}

    def with_notes(
        self, chunks: Iterable[tuple[int, Sequence[Any]]]
    ) -> Iterator[tuple[int, Sequence[Any]]]:
        """Prepend the current notes to each chunk."""
        for number, chunk in chunks:
            self._open[number] = journal = self._journal(number)
            yield (
                number,
                [SentNotes(number, journal.values, self._mailbox.send), *chunk],
            )

    def take(self) -> None:
        """Keep notes that arrived for unfinished chunks."""
        for number, key, value in self._mailbox.take():
            if number in self._open:
                self._open[number].add(key, value)

    def end(self, number: int) -> None:
        """Forget a finished chunk."""
        del self._open[number]
