"""Results that are computed once: a run directory keeps them, memory does not.

Chunked work is a `Task`: a function and its model. `Workers` do it here or in other
processes with the same model; the calling process keeps the results.
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
"""Makes a model skip noted requests; importable in other processes."""


def ignore(news: object) -> None:
    """Do nothing."""
    del news


@dataclass(frozen=True, slots=True)
class InChunks(Generic[Item]):
    """Items in chunks of a fixed size."""

    items: Sequence[Item]
    size: int
    done: Callable[[int], None] = ignore
    """Called with the number of items done, per chunk."""

    def __len__(self) -> int:
        return -(-len(self.items) // self.size)

    def __getitem__(self, number: int) -> Sequence[Item]:
        """Return a chunk, always cut at the same places."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self.items[number * self.size : (number + 1) * self.size]

    def __iter__(self) -> Iterator[Sequence[Item]]:
        return map(self.__getitem__, range(len(self)))


@dataclass(frozen=True, slots=True)
class Keeping(Generic[M]):
    """How findings on the way to a chunk are kept."""

    remember: Remember[M]
    journal: Callable[[int], Journal]
    """Chunk number to its journal."""


class Workers(Protocol):
    """Something that works on chunks."""

    def map(
        self,
        model: M,
        function: Callable[[M, Sequence[Item]], Sequence[R]],
        chunks: Iterable[tuple[int, Sequence[Item]]],
        keeping: Keeping[M] | None = None,
    ) -> Iterator[tuple[int, Sequence[R]]]:
        """Yield the results of numbered chunks as they finish, in any order.

        The function must be importable elsewhere, and depend on model and chunk alone.
        Chunks are consumed as workers become free; with `keeping`, stopped ones resume.
        """


class Here:
    """This process, one chunk at a time."""

    def map(
        self,
        model: M,
        function: Callable[[M, Sequence[Item]], Sequence[R]],
        chunks: Iterable[tuple[int, Sequence[Item]]],
        keeping: Keeping[M] | None = None,
    ) -> Iterator[tuple[int, Sequence[R]]]:
        """Yield the results of chunks in order."""
        for number, chunk in chunks:
            own = model
            if keeping is not None:
                own = keeping.remember(model, keeping.journal(number))
            yield number, function(own, chunk)


HERE: Final = Here()


@dataclass(frozen=True, slots=True)
class Task(Generic[M, Item, R]):
    """Computes a chunk's results, whatever came before it."""

    model: M
    function: Callable[[M, Sequence[Item]], Sequence[R]]
    workers: Workers = HERE
    remember: Remember[M] | None = None
    """`None` if a stopped chunk starts over."""

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
    """A model and the workers that have it."""

    model: M
    workers: Workers = HERE

    def each(
        self,
        function: Callable[[M, Sequence[Item]], Sequence[R]],
        chunks: Sequence[Sequence[Item]],
    ) -> list[Sequence[R]]:
        """Return results in the order of chunks, without keeping them."""
        found = dict(self.workers.map(self.model, function, enumerate(chunks)))
        return [found[number] for number in range(len(chunks))]


class Cache(Protocol):
    """Results computed now, or by an earlier process."""

    def once(
        self,
        name: str,
        codec: Codec[T],
        compute: Callable[[], T],
        *,
        made_from: Sequence[str] = (),
    ) -> T:
        """Return a value, recomputed if its sources changed."""

    def chunks(
        self,
        name: str,
        codec: Codec[Sequence[R]],
        items: InChunks[Item],
        task: Task[Any, Item, R],
        *,
        made_from: Sequence[str] = (),
    ) -> Sequence[R]:
        """Return a list computed by chunk; the codec also handles one chunk.

        Kept chunks are reported to `items` too; `made_from` is as in `once`.
        """


class Memory:
    """Keeps nothing and computes in this process."""

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
    """What every step needs besides a model."""

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
        """Return a task's results, one per item, computed in chunks.

        The cache keeps them by `name`, the default of `stage`.
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
        """Return a task on a model for the workers."""
        return Task(model, function, self.workers, remember)

    def employed(self, model: M) -> Employed[M]:
        """Return a model with its workers."""
        return Employed(model, self.workers)

    def warn(self, remarks: Iterable[str]) -> None:
        """Pass each remark to the user."""
        for text in remarks:
            self.progress.warn(text)
