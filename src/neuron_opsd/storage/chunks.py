"""Long computations in chunks, each kept as soon as it is done."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Generic, TypeVar

from neuron_opsd.errors import DataError
from neuron_opsd.storage.codecs import Codec
from neuron_opsd.storage.disk import disk_errors, read_plain
from neuron_opsd.storage.files import discard, remove, sha256_file, write_atomic
from neuron_opsd.storage.journal import JOURNAL, Journal
from neuron_opsd.storage.manifest import PLAN, RECEIPT, read_receipt, seal

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Plan:
    """How an output is cut, and its sources."""

    num_items: int
    size: int
    made_from: Mapping[str, str]


def holds(path: Path, data: bytes) -> bool:
    """Return whether a file holds exactly these bytes."""
    try:
        return read_plain(path) == data
    except DataError:
        return False


def suffix_of(file_name: str) -> str:
    """Return the suffix of an output's chunks."""
    return "".join(Path(file_name).suffixes)


def clear_chunks(folder: Path, file_name: str) -> None:
    """Delete an output's chunks, and their folder if empty."""
    if folder.is_symlink() or not folder.is_dir():
        remove(folder)
        return
    endings = map(re.escape, (suffix_of(file_name), RECEIPT, JOURNAL))
    ours = re.compile(f"[0-9]{{5,}}({'|'.join(endings)})")
    for entry in sorted(folder.iterdir()):
        if entry.name == PLAN or ours.fullmatch(entry.name):
            remove(entry)
    with suppress(OSError):  # it holds a foreign file
        folder.rmdir()


class Chunks(Generic[R]):
    """The finished chunks of one output, in their own folder.

    Chunk n is ``0000n.<suffix>`` and counts only with its receipt, a file with its
    SHA-256 and seconds. Keeping it deletes its journal.
    """

    def __init__(
        self,
        folder: Path,
        codec: Codec[Sequence[R]],
        plan: Plan,
        warn: Callable[[str], None],
    ) -> None:
        """Keep existing chunks, unless cut or made otherwise."""
        self.folder = folder
        self.codec = codec
        self.warn = warn
        wanted = json.dumps(asdict(plan)).encode()
        path = folder / PLAN
        if not holds(path, wanted):
            if os.path.lexists(path):
                warn(f"{folder} was made from other inputs; it is made again")
            with disk_errors(folder, 0):
                clear_chunks(folder, codec.file_name)
            write_atomic(path, wanted)

    def has(self, number: int) -> bool:
        """Return whether a chunk was kept; warn of a damaged one."""
        if self.seconds(number) is not None:
            return True
        path = self.path(number)
        if path.exists() and self.receipt(number).exists():
            self.warn(f"{path} was changed or damaged; it is computed again")
        return False

    def keep(self, number: int, results: Sequence[R], start: float) -> None:
        """Keep a chunk; its time counts from `start`."""
        path = self.path(number)
        self.codec.save(results, path)
        receipt = {"sha256": sha256_file(path), "seconds": perf_counter() - start}
        write_atomic(self.receipt(number), seal(receipt))
        discard(self._file(number, JOURNAL))  # a kept chunk counts without it

    def journal(self, number: int) -> Journal:
        """Return the journal of an unfinished chunk."""
        return Journal(self._file(number, JOURNAL), self.warn)

    def load(self, number: int) -> Sequence[R]:
        """Return a kept chunk."""
        return self.codec.load(self.path(number))

    def seconds(self, number: int) -> float | None:
        """Return a chunk's time, `None` if missing or damaged."""
        try:
            receipt = read_receipt(self.receipt(number))
            found = sha256_file(self.path(number)) if receipt else None
        except OSError:
            return None
        return receipt.seconds if receipt and receipt.sha256 == found else None

    def path(self, number: int) -> Path:
        """Return a chunk's path."""
        return self._file(number, suffix_of(self.codec.file_name))

    def receipt(self, number: int) -> Path:
        """Return a receipt's path."""
        return self._file(number, RECEIPT)

    def _file(self, number: int, ending: str) -> Path:
        return self.folder / f"{number:05d}{ending}"


class Joined(Sequence[R]):
    """Results of kept chunks, one chunk in memory at a time."""

    def __init__(self, chunks: Chunks[R], numbers: range) -> None:
        self._chunks = chunks
        self._numbers = numbers

    def __iter__(self) -> Iterator[R]:
        for number in self._numbers:
            yield from self._chunks.load(number)

    def __len__(self) -> int:
        return sum(len(self._chunks.load(number)) for number in self._numbers)

    def __getitem__(self, index: Any) -> Any:
        """Return one result or a slice; reads everything."""
        return list(self)[index]
