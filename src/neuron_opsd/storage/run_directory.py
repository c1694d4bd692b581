"""The run directory: what is done stays done, whatever stops the process.

An output counts from the moment `manifest.json` lists it with its SHA-256, after the
file itself is safe on the disk. So a run killed anywhere loses only the computation in
progress, or one chunk of it. An output counts as long as its file and its sources are
unchanged.

The bytes of a run are promised for one machine, one number of threads and one set of
versions. It may be resumed elsewhere, but never silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any, Final, TypeVar

from neuron_opsd.config.tables import as_begun
from neuron_opsd.errors import DataError, clauses
from neuron_opsd.storage.caching import InChunks, Task, ignore
from neuron_opsd.storage.chunks import Chunks, Joined, Plan, clear_chunks
from neuron_opsd.storage.codecs import Codec
from neuron_opsd.storage.disk import disk_errors
from neuron_opsd.storage.files import remove_leftovers
from neuron_opsd.storage.folders import check_folder, claim
from neuron_opsd.storage.integrity import Integrity
from neuron_opsd.storage.lock import locked
from neuron_opsd.storage.manifest import (
    MANIFEST,
    PARTS,
    Manifest,
    Settings,
    check_inputs,
    check_provenance,
    check_settings,
    new_manifest,
    read_manifest,
    write_manifest,
)

T = TypeVar("T")
R = TypeVar("R")
Item = TypeVar("Item")


CHANGES: Final = "not_bit_exact"
"""Manifest fact: differences between parts, as ``threads 2 -> 1``."""
ABSENT: Final = "not there"


class RunDirectory:
    """A directory that one run fills, file by file, over one or more processes.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from neuron_opsd.storage.codecs import json_codec
        >>> with TemporaryDirectory() as folder:
        ...     with RunDirectory.open(Path(folder), {"seed": 0}, {}) as run:
        ...         run.once("sum", json_codec("sum.json"), lambda: 1 + 2)
        3
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        warn: Callable[[str], None],
        fresh: Manifest,
    ) -> None:
        """Take a directory that `open` locked and cleaned up."""
        self.folder = path
        self.manifest = manifest
        self.warnings: list[str] = []
        self._warn = warn
        self._elsewhere = Elsewhere(manifest, fresh, warn)
        self.integrity = Integrity(path, manifest, self.warn)

    @classmethod
    @contextmanager
    def open(
        cls,
        path: Path,
        settings: Settings,
        inputs: Mapping[str, str],
        *,
        environment: Mapping[str, str] | None = None,
        warn: Callable[[str], None] = ignore,
    ) -> Iterator[RunDirectory]:
        """Begin a run in a directory, or resume the one in it.

        Args:
            path: New, empty, or a run directory.
            settings: All that the outputs depend on, by dotted name, as JSON values.
            inputs: File name to SHA-256.
            environment: Facts about this machine that may change results.
            warn: Called with what the user should know; `warnings` keeps it.

        Raises:
            TryAgainError: If another process holds the directory, or the disk fails.
            ConfigError: If it was started with other settings, or holds other things.
            DataError: If an input file changed, or the manifest is damaged.
        """
        fresh = new_manifest(settings, inputs, environment or {})
        check_folder(path, "run")
        begun(path, fresh)  # refuse before writing, locking or cleaning
        claim(path, "run")
        with locked(path):
            with disk_errors(path, 0):
                remove_leftovers(path)
            manifest = begun(path, fresh)
            if manifest is None:
                manifest = fresh
                write_manifest(path, manifest)
            run = cls(path, manifest, warn, fresh)
            yield run
            run.clear_parts()

    def path(self, *parts: str) -> Path:
        """Return a path in the directory."""
        return self.folder.joinpath(*parts)

    def once(
        self,
        name: str,
        codec: Codec[T],
        compute: Callable[[], T],
        *,
        made_from: Sequence[str] = (),
    ) -> T:
        """Return an output, computed unless an earlier process did.

        The value is always read back from its file, so later stages see the same either
        way. `made_from` names outputs or added sources, which may appear while
        computing.
        """
        if not self.has(name, codec, made_from):
            start = perf_counter()
            self.computing()
            self.keep(name, codec, compute())
            seconds = perf_counter() - start
            self.record(name, codec.file_name, made_from, seconds)
        return codec.load(self.path(codec.file_name))

    def write(
        self, name: str, codec: Codec[T], value: T, made_from: Sequence[str] = ()
    ) -> None:
        """Write an output that is cheap to make, unless unchanged."""
        stands = self.has(name, codec, made_from)
        if stands and self.says(codec, value):
            return
        if stands:
            self.integrity.mark_changed(name)
        self.keep(name, codec, value)
        self._enter(name, codec.file_name, made_from)

    def says(self, codec: Codec[T], value: T) -> bool:
        """Return whether an output holds a value in today's form."""
        try:
            return codec.load(self.path(codec.file_name)) == value
        except DataError:
            return False

    def chunks(
        self,
        name: str,
        codec: Codec[Sequence[R]],
        items: InChunks[Item],
        task: Task[Any, Item, R],
        *,
        made_from: Sequence[str] = (),
    ) -> Sequence[R]:
        """Return a list, kept chunk by chunk; all of `made_from` must exist."""
        folder = self.path(PARTS, name)
        if self.has(name, codec, made_from):
            items.done(len(items.items))
        else:
            plan = Plan(len(items.items), items.size, self.integrity.hashes(made_from))
            parts = Chunks(folder, codec, plan, self.warn)

            numbers = range(len(items))
            self._fill(parts, items, task)
            self.keep(name, codec, Joined(parts, numbers))
            seconds = sum(parts.seconds(number) or 0.0 for number in numbers)
            self.record(name, codec.file_name, made_from, seconds)
        with suppress(OSError):
            clear_chunks(folder, codec.file_name)
        return codec.load(self.path(codec.file_name))

    def _fill(
        self, parts: Chunks[R], items: InChunks[Item], task: Task[Any, Item, R]
    ) -> None:

        def missing() -> Iterator[tuple[int, Sequence[Item]]]:
            for number, chunk in enumerate(items):
                if parts.has(number):
                    items.done(len(chunk))
                else:
                    self.computing()
                    yield number, chunk

        start = perf_counter()
        for number, results in task.each(missing(), parts.journal):
            parts.keep(number, results, start)
            del results  # makes room for the next
            items.done(len(items[number]))
            start = perf_counter()

    def clear_parts(self) -> None:
        """Delete chunks of finished outputs left by a stop."""
        if self.path(PARTS).is_dir():
            for name, output in self.manifest.outputs.items():
                with suppress(OSError):
                    clear_chunks(self.path(PARTS, name), output.file)

    def note(self, name: str, value: Any) -> None:
        """Record a fact, merging mappings."""
        old = self.manifest.facts.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = {**old, **value}
        self.manifest.facts[name] = value
        write_manifest(self.folder, self.manifest)

    def has(self, name: str, codec: Codec[Any], made_from: Sequence[str] = ()) -> bool:
        """Return whether an output is done, whole, and made from today's sources.

        Warns if not, since it is then recomputed.
        """
        return self.integrity.is_current(name, codec.file_name, made_from)

    def keep(self, name: str, codec: Codec[T], value: T) -> None:
        """Write an output's file; `record` lists it."""
        for other, output in self.manifest.outputs.items():
            if output.file == codec.file_name and other != name:
                raise ValueError(f"{codec.file_name} is the file of {other} already")
        codec.save(value, self.path(codec.file_name))

    def record(
        self,
        name: str,
        file: str,
        made_from: Sequence[str] = (),
        seconds: float | None = None,
        *,
        files: Mapping[str, str] | None = None,
    ) -> None:
        """List a computed output; see `Integrity.record`."""
        self.computing()
        self._enter(name, file, made_from, seconds, files)

    def _enter(
        self,
        name: str,
        file: str,
        made_from: Sequence[str],
        seconds: float | None = None,
        files: Mapping[str, str] | None = None,
    ) -> None:
        rounded = None if seconds is None else round(seconds, 3)
        self.integrity.record(name, file, made_from, rounded, files)
        write_manifest(self.folder, self.manifest)

    def forget(self, names: Iterable[str]) -> None:
        """Unlist outputs before their files are deleted."""
        if self.integrity.remove(names):
            write_manifest(self.folder, self.manifest)

    def warn(self, text: str) -> None:
        """Record a warning and pass it on."""
        self.warnings.append(text)
        self._warn(text)

    def computed_on_others(self, found: Sequence[str]) -> None:
        """Accept differences where parts are now computed."""
        self._elsewhere.add(found)

    def computing(self) -> None:
        """Record the current differences in the manifest."""
        if found := self._elsewhere.to_keep():
            self.note(CHANGES, found)


def begun(path: Path, fresh: Manifest) -> Manifest | None:
    """Return a directory's manifest, if any, which must match."""
    if not (path / MANIFEST).exists():
        return None
    found = read_manifest(path)
    now = as_begun(fresh.settings, found.settings)
    check_settings(path, found.settings, now)
    check_inputs(path, found.inputs, fresh.inputs)
    check_provenance(path, found)
    return found


def changes(begun: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Say what differs from the start of a run."""
    return [
        f"{name} {begun.get(name, ABSENT)} -> {now.get(name, ABSENT)}"
        for name in dict.fromkeys([*begun, *now])
        if begun.get(name) != now.get(name)
    ]


def known_changes(manifest: Manifest) -> list[str]:
    """Return the differences recorded for parts of a run."""
    return [str(one) for one in manifest.facts.get(CHANGES, ())]


class Elsewhere:
    """What may change the last bits of results at this process."""

    def __init__(
        self, begun: Manifest, fresh: Manifest, warn: Callable[[str], None]
    ) -> None:
        """Report present and past differences."""
        self._manifest = begun
        self._warn = warn
        self._now = changes(*(one.versions | one.environment for one in (begun, fresh)))
        if self._now:
            warn(
                f"not bit-exact: {clauses(self._now)}; what is still to do may differ "
                "in the last bits from what one run would give"
            )
        others = [one for one in known_changes(begun) if one not in self._now]
        if others:
            warn(computed_elsewhere(others))

    def add(self, found: Sequence[str]) -> None:
        """Add and report other differences."""
        self._now += [one for one in found if one not in self._now]
        self._warn(computed_elsewhere(list(found)))

    def to_keep(self) -> list[str]:
        """Return all differences, if any is unrecorded."""
        known = known_changes(self._manifest)
        found = list(dict.fromkeys([*known, *self._now]))
        return [] if found == known else found


def computed_elsewhere(found: list[str]) -> str:
    """Say that a part of a run was computed elsewhere."""
    return (
        f"not bit-exact: a part was computed elsewhere than where the run was started "
        f"({clauses(found)}), and may differ in the last bits from what one run would "
        "give"
    )
