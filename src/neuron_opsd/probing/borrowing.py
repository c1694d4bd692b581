"""A folder that resumes, and takes what a run has made already from there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from neuron_opsd.analysis.places import Place, read_output
from neuron_opsd.known import HIDDEN_STATES, MEDOIDS_NAME, QUESTION_NEURONS
from neuron_opsd.pipeline import BIAS_NAME, ROLLOUTS_NAME
from neuron_opsd.storage.caching import InChunks, Task
from neuron_opsd.storage.codecs import Codec
from neuron_opsd.storage.run_directory import RunDirectory
from neuron_opsd.storage.verdicts import verdicts_name

T = TypeVar("T")
R = TypeVar("R")
Item = TypeVar("Item")


LENDABLE: Final = (
    *(BIAS_NAME, ROLLOUTS_NAME, verdicts_name(ROLLOUTS_NAME), HIDDEN_STATES),
    *(MEDOIDS_NAME, QUESTION_NEURONS, "neurons"),
)


def lent_by(place: Place | None) -> list[str]:
    """Return the names of what a run can lend."""
    return [] if place is None else [name for name in LENDABLE if place.holds(name)]


@dataclass(frozen=True, slots=True)
class Borrowing:
    """The cache of a probe."""

    directory: RunDirectory
    place: Place | None = None
    """The run that lends."""
    lent: Collection[str] = ()
    """As `lent_by` returns it. The hashes of these are inputs of the directory, so they
    are no sources of what is made in it."""

    def once(
        self,
        name: str,
        codec: Codec[T],
        compute: Callable[[], T],
        *,
        made_from: Sequence[str] = (),
    ) -> T:
        """Return a value as a whole."""
        if self.place is not None and name in self.lent:
            return read_output(self.place, name, codec)
        return self.directory.once(name, codec, compute, made_from=self.own(made_from))

    def chunks(
        self,
        name: str,
        codec: Codec[Sequence[R]],
        items: InChunks[Item],
        task: Task[Any, Item, R],
        *,
        made_from: Sequence[str] = (),
    ) -> Sequence[R]:
        """Return a list that is computed chunk by chunk."""
        if self.place is not None and name in self.lent:
            found = read_output(self.place, name, codec)
            items.done(len(items.items))
            return found
        return self.directory.chunks(
            name, codec, items, task, made_from=self.own(made_from)
        )

    def own(self, names: Sequence[str]) -> list[str]:
        """Return those of some sources that are not lent."""
        return [name for name in names if name not in self.lent]
