"""What is computed once: a run directory keeps it, memory does not.

What is computed chunk by chunk is a `Task`: a function, and the model that it is done
with. `Workers` do it, in this process or in others that have the same model; the
process that asked keeps the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from neuron_opsd.config import Config
from neuron_opsd.progress import QUIET, Progress
from neuron_opsd.storage.codecs import Codec
from neuron_opsd.storage.journal import Journal, Notes

T = TypeVar("T")
R = TypeVar("R")
M = TypeVar("M")
Item = TypeVar("Item")

Remember: TypeAlias = Callable[[M, Notes], M]
"""Gives a model that asks nothing again that is noted; another process must be able to
import it."""


def ignore(news: object) -> None:
    """Hear of something, and do nothing."""
    del news


@dataclass(frozen=True, slots=True)
class InChunks(Generic[Item]):
    """Items that are computed so many at a time."""

    items: Sequence[Item]
    size: int
    done: Callable[[int], None] = ignore
    """Called with how many items are done, chunk by chunk."""

    def __len__(self) -> int:
        """Return how many chunks there are."""
        return -(-len(self.items) // self.size)

    def __getitem__(self, number: int) -> Sequence[Item]:
        """Return a chunk, cut at the same places each time."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self.items[number * self.size : (number + 1) * self.size]

    def __iter__(self) -> Iterator[Sequence[Item]]:
        """Yield the chunks in order."""
        return map(self.__getitem__, range(len(self)))


@dataclass(frozen=True, slots=True)
class Keeping(Generic[M]):
    """How what is found on the way to a chunk is kept."""

    remember: Remember[M]
    journal: Callable[[int], Journal]
    """Gives that of a chunk by its number."""


class Workers(Protocol):
    """Those who work on chunks."""

    def map(
        self,
        model: M,
        function: Callable[[M, Sequence[Item]], Sequence[R]],
        chunks: Iterable[tuple[int, Sequence[Item]]],
        keeping: Keeping[M] | None = None,
    ) -> Iterator[tuple[int, Sequence[R]]]:
        """Yield the results of numbered chunks as they are done, in any order.

        The function, which another process must be able to import, is of the model and
        a chunk, whatever chunk came before. Chunks are gone over no further than there
        are workers free for them; with `keeping` one that is stopped resumes.
        """


class Here:
    """This process, which works on one chunk after the other."""

    def map(
        self,
        model: M,
        function: Callable[[M, Sequence[Item]], Sequence[R]],
        chunks: Iterable[tuple[int, Sequence[Item]]],
        keeping: Keeping[M] | None = None,
    ) -> Iterator[tuple[int, Sequence[R]]]:
        """Yield the results of chunks in their order."""
        for number, chunk in chunks:
            own = model
            if keeping is not None:
                own = keeping.remember(model, keeping.journal(number))
            yield number, function(own, chunk)


HERE: Final = Here()


@dataclass(frozen=True, slots=True)
class Task(Generic[M, Item, R]):
    """What makes a chunk's results, whatever came before it."""

    model: M
    function: Callable[[M, Sequence[Item]], Sequence[R]]
    workers: Workers = HERE
    remember: Remember[M] | None = None
    """`None` where a chunk that is stopped begins anew."""

    def each(
        self,
        chunks: Iterable[tuple[int, Sequence[Item]]],
        journal: Callable[[int], Journal] | None = None,
    ) -> Iterator[tuple[int, Sequence[R]]]:
        """Yield the results of numbered chunks, in any order."""
        keeping = None
        if journal is not None and self.remember is not None:
            keeping = Keeping(self.remember, journal)
        return self.workers.map(self.model, self.function, chunks, keeping)


@dataclass(frozen=True, slots=True)
class Employed(Generic[M]):
    """A model, and the workers that have it."""

    model: M
    workers: Workers = HERE

    def each(
        self,
        function: Callable[[M, Sequence[Item]], Sequence[R]],
        chunks: Sequence[Sequence[Item]],
    ) -> list[Sequence[R]]:
        """Return the results of chunks in order, which are not kept."""
        found = dict(self.workers.map(self.model, function, enumerate(chunks)))
        return [found[number] for number in range(len(chunks))]


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
        """Return a value as a whole, made again where what it is from changed."""

    def chunks(
        self,
        name: str,
        codec: Codec[Sequence[R]],
        items: InChunks[Item],
        task: Task[Any, Item, R],
        *,
        made_from: Sequence[str] = (),
    ) -> Sequence[R]:
        """Return a list, computed chunk by chunk; the codec is for a chunk as well.

        Items are told of chunks that are kept, too; `made_from` is as of `once`.
        """


class Memory:
    """A cache that keeps nothing and computes in this process."""

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
        task: Task[Any, Item, R],
        **made_from: object,
    ) -> Sequence[R]:
        """Compute a list chunk by chunk."""
        del name, codec, made_from
        found: dict[int, Sequence[R]] = {}
        for number, results in task.each(enumerate(items)):
            found[number] = results
            items.done(len(items[number]))
        return [result for number in range(len(items)) for result in found[number]]


MEMORY: Final = Memory()


@dataclass(frozen=True, slots=True)
class Workspace:
    """What every step is done with besides a model."""

    config: Config
    """Resolved for the model."""
    cache: Cache = MEMORY
    progress: Progress = QUIET
    workers: Workers = HERE

    def by_question(
        self,
        name: str,
        codec: Codec[Sequence[R]],
        items: Sequence[Item],
        task: Task[Any, Item, R],
        made_from: Sequence[str] = (),
        stage: str = "",
    ) -> Sequence[R]:
        """Return what a task makes of items, one for each question, in chunks.

        The cache keeps it by `name`, which is also the stage's if that has no
        other.
        """
        with self.progress.stage(stage or name, len(items), "questions") as done:
            chunks = InChunks(items, self.config.rollouts.block_size, done)
            own = codec.named(name)
            return self.cache.chunks(name, own, chunks, task, made_from=made_from)

    def task(
        self,
        model: M,
        function: Callable[[M, Sequence[Item]], Sequence[R]],
        remember: Remember[M] | None = None,
    ) -> Task[M, Item, R]:
        """Return what the workers are to do with a model."""
        return Task(model, function, self.workers, remember)

    def employed(self, model: M) -> Employed[M]:
        """Return a model with the workers that have it."""
        return Employed(model, self.workers)

    def warn(self, remarks: Iterable[str]) -> None:
        """Tell the user of each remark."""
        for text in remarks:
            self.progress.warn(text)
