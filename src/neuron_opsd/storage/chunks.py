"""Long computations cut into blocks, each kept as soon as it is done."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Final, Generic, TypeVar, overload

from neuron_opsd.errors import DataError
from neuron_opsd.storage.codecs import Codec
from neuron_opsd.storage.disk import disk_errors, read_plain
from neuron_opsd.storage.files import remove, sha256_file, write_atomic
from neuron_opsd.storage.seals import seal
from neuron_opsd.storage.tickets import PLAN, TICKET, read_ticket

R = TypeVar("R")

NUMBER: Final = re.compile("[0-9]{5,}")


@dataclass(frozen=True, slots=True)
class Plan:
    """How an output is cut into blocks, and what these are made from."""

    num_items: int
    size: int
    made_from: Mapping[str, str]


def holds(path: Path, data: bytes) -> bool:
    """Say whether a file is there and holds these bytes."""
    try:
        return read_plain(path) == data
    except DataError:
        return False


def suffix_of(file_name: str) -> str:
    """Return what the names of an output's blocks end in."""
    return "".join(Path(file_name).suffixes)


def is_block(name: str, file_name: str) -> bool:
    """Say whether a name is that of a block of an output, or of its ticket."""
    number = NUMBER.match(name)
    ends = (suffix_of(file_name), TICKET)
    return number is not None and name[number.end() :] in ends


def clear_blocks(folder: Path, file_name: str) -> None:
    """Delete the blocks of an output, and their folder where nothing else is in it.

    Args:
        folder: Of the blocks; need not be there.
        file_name: Of the output.

    Raises:
        OSError: If a block cannot be deleted.
    """
    if folder.is_symlink() or not folder.is_dir():
        remove(folder)
        return
    for entry in sorted(folder.iterdir()):
        if entry.name == PLAN or is_block(entry.name, file_name):
            remove(entry)
    with suppress(OSError):  # somebody else's file is in it
        folder.rmdir()


class Chunks(Generic[R]):
    """The finished blocks of one output, in a folder of their own.

    Block number n lies in ``0000n.<suffix>`` and counts only with its ticket, a file
    beside it that holds its SHA-256 and the seconds it took.
    """

    def __init__(
        self,
        folder: Path,
        codec: Codec[Sequence[R]],
        plan: Plan,
        warn: Callable[[str], None],
    ) -> None:
        """Keep what is there, unless it was cut otherwise or made from other things.

        Args:
            folder: Of this output alone.
            codec: Of a block.
            plan: How the items are cut, and what the blocks are made from.
            warn: Told of blocks that are there and do not count.
        """
        self.folder = folder
        self.codec = codec
        self.warn = warn
        wanted = json.dumps(asdict(plan)).encode()
        path = folder / PLAN
        if not holds(path, wanted):
            if os.path.lexists(path):
                warn(f"{folder} was made from other things; it is made again")
            with disk_errors(folder, 0):
                clear_blocks(folder, codec.file_name)
            write_atomic(path, wanted)

    def keep(self, number: int, compute: Callable[[], Sequence[R]]) -> None:
        """Compute a block and keep it, unless it is there.

        Raises:
            TryAgainError: If the disk is full or ails.
        """
        if self.seconds(number) is not None:
            return
        start = perf_counter()
        path = self.path(number)
        if path.exists() and self.ticket(number).exists():
            self.warn(f"{path} is not as it was written; it is computed again")
        self.codec.save(compute(), path)
        ticket = {"sha256": sha256_file(path), "seconds": perf_counter() - start}
        write_atomic(self.ticket(number), seal(ticket))

    def load(self, number: int) -> Sequence[R]:
        """Return a block that was kept."""
        return self.codec.load(self.path(number))

    def seconds(self, number: int) -> float | None:
        """Return what a block took, `None` when it is not there whole."""
        try:
            ticket = read_ticket(self.ticket(number))
            whole = ticket is not None and ticket.sha256 == sha256_file(
                self.path(number)
            )
        except OSError:
            return None
        return ticket.seconds if ticket and whole else None

    def all(self, numbers: range) -> Sequence[R]:
        """Return the results of some blocks; memory holds those of one at a time."""
        return Joined(self, numbers)

    def total_seconds(self, numbers: Iterable[int]) -> float:
        """Return what some blocks took together."""
        return sum(self.seconds(number) or 0.0 for number in numbers)

    def path(self, number: int) -> Path:
        """Return where a block lies."""
        return self.folder / f"{number:05d}{suffix_of(self.codec.file_name)}"

    def ticket(self, number: int) -> Path:
        """Return where a block's hash lies."""
        return self.folder / f"{number:05d}{TICKET}"


class Joined(Sequence[R]):
    """The results of blocks that are kept, one after the other."""

    def __init__(self, blocks: Chunks[R], numbers: range) -> None:
        """Take blocks that are all there."""
        self._blocks = blocks
        self._numbers = numbers

    def __iter__(self) -> Iterator[R]:
        """Yield the results, read block by block."""
        for number in self._numbers:
            yield from self._blocks.load(number)

    def __len__(self) -> int:
        """Return how many results there are."""
        return sum(len(self._blocks.load(number)) for number in self._numbers)

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[R]: ...
    def __getitem__(self, index: int | slice) -> R | Sequence[R]:
        """Return one result or some; all before them are read."""
        places = range(len(self))[index]
        if isinstance(places, int):
            return next(islice(self, places, None))
        wanted = {place: result for place, result in enumerate(self) if place in places}
        return [wanted[place] for place in places]
