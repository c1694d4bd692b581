"""What is computed once: a run directory keeps it, memory does not.

So the same steps run in a directory that resumes and in a notebook that does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from neuron_opsd.config import Config
from neuron_opsd.progress import QUIET, Progress
from neuron_opsd.storage.codecs import Codec

T = TypeVar("T")
R = TypeVar("R")
Item = TypeVar("Item")


def ignore(news: object) -> None:
    """Hear of something, and do nothing."""
    del news


@dataclass(frozen=True, slots=True)
class InChunks(Generic[Item]):
    """Items that are computed so many at a time."""

    items: Sequence[Item]
    size: int
    """Items of a chunk."""
    done: Callable[[int], None] = ignore
    """Called with how many items are done, chunk by chunk."""

    def __iter__(self) -> Iterator[Sequence[Item]]:
        """Yield consecutive chunks, cut at the same places each time."""
        for start in range(0, len(self.items), self.size):
            yield self.items[start : start + self.size]


class Cache(Protocol):
    """Where results come from: computed now, or by an earlier process."""

    def once(
        self,
        name: str,
        codec: Codec[T],
        compute: Callable[[], T],
        *,
        made_from: Sequence[str] = (),
    ) -> T:
        """Return a value as a whole.

        Args:
            name: Of the value.
            codec: How it becomes a file, where it is kept.
            compute: Makes it.
            made_from: Names of what it is made from; it is stale where these changed.
        """

    def chunks(
        self,
        name: str,
        codec: Codec[Sequence[R]],
        items: InChunks[Item],
        compute: Callable[[Sequence[Item]], Sequence[R]],
        *,
        made_from: Sequence[str] = (),
    ) -> Sequence[R]:
        """Return a list, computed chunk by chunk.

        Args:
            name: Of the list.
            codec: For a chunk as well as for the whole.
            items: What it is computed from; told of chunks that are kept as well.
            compute: Makes a chunk's results from its items, whatever came before it.
            made_from: As of `once`.
        """


class Memory:
    """A cache that keeps nothing: it computes what is asked for, in this process."""

    def once(
        self, name: str, codec: object, compute: Callable[[], T], **made_from: object
    ) -> T:
        """Compute a value."""
        del name, codec, made_from
        return compute()

    def chunks(
        self,
        name: str,
        codec: object,
        items: InChunks[Item],
        compute: Callable[[Sequence[Item]], Sequence[R]],
        **made_from: object,
    ) -> Sequence[R]:
        """Compute a list chunk by chunk."""
        del name, codec, made_from
        results: list[R] = []
        for chunk in items:
            results += compute(chunk)
            items.done(len(chunk))
        return results


MEMORY: Final = Memory()


@dataclass(frozen=True, slots=True)
class Workspace:
    """What every step is done with besides a model."""

    config: Config
    """Resolved for the model."""
    cache: Cache = MEMORY
    progress: Progress = QUIET

    def cut(
        self, items: Sequence[Item], done: Callable[[int], None] = ignore
    ) -> InChunks[Item]:
        """Return items in chunks of `rollouts.block_size`."""
        return InChunks(items, self.config.rollouts.block_size, done)

    def warn(self, remarks: Iterable[str]) -> None:
        """Tell the user of each remark."""
        for text in remarks:
            self.progress.warn(text)
