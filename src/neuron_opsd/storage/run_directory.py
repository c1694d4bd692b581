"""The run directory: what is done stays done, whatever stops the process.

An output counts from the moment when `manifest.json` lists it with its SHA-256, which
is after the file itself is safe on the disk. So a run that was killed anywhere loses
the computation it was in, or one chunk of it, and nothing else. It counts as long as
the file is as it was written and what it was made from is still the same.

The bytes of a run are promised for one machine, one number of threads and one set of
versions. It may be resumed elsewhere, but never in silence.
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
"""Fact of a manifest: what was otherwise where a part was computed, each as
``threads 2 -> 1``."""
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
        """Take a directory that `open` has locked and put in order."""
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
        """Begin a run in a directory, or resume the one that it holds.

        Args:
            path: New, empty, or a run directory.
            settings: All that the outputs depend on, by dotted name, as JSON values.
            inputs: File name to SHA-256.
            environment: Facts about this machine that may change results.
            warn: Called with what the user should know; `warnings` keeps it as well.

        Raises:
            TryAgainError: If another process holds the directory, or the disk fails.
            ConfigError: If it was started with other settings, or holds other things.
            DataError: If an input file is another now, or the manifest is damaged.
        """
        fresh = new_manifest(settings, inputs, environment or {})
        check_folder(path, "run")
        begun(path, fresh)  # refused before anything is written, locked or cleaned
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
        """Return the path of something in the directory."""
        return self.folder.joinpath(*parts)

    def once(
        self,
        name: str,
        codec: Codec[T],
        compute: Callable[[], T],
        *,
        made_from: Sequence[str] = (),
    ) -> T:
        """Return an output, computed unless an earlier process has done so.

        The value always comes back through its file, so that what follows sees the
        same whether it was computed just now or not. `made_from` names outputs or added
        sources; what is missing now, and will exist once it is computed, counts too.
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
        """Write an output that is cheap to make, unless it says the same."""
        stands = self.has(name, codec, made_from)
        if stands and self.says(codec, value):
            return
        if stands:
            self.integrity.mark_changed(name)
        self.keep(name, codec, value)
        self._enter(name, codec.file_name, made_from)

    def says(self, codec: Codec[T], value: T) -> bool:
        """Whether an output says a value, in this version's form."""
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
        """Return a list, each chunk of it kept at once; all of `made_from` is there."""
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
        """Keep every chunk that is missing as soon as it is done."""

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
            del results  # it makes room for the next
            items.done(len(items[number]))
            start = perf_counter()

    def clear_parts(self) -> None:
        """Delete chunks of finished outputs, which a stop may have left."""
        if self.path(PARTS).is_dir():
            for name, output in self.manifest.outputs.items():
                with suppress(OSError):
                    clear_chunks(self.path(PARTS, name), output.file)

    def note(self, name: str, value: Any) -> None:
        """Keep a fact; a mapping is merged into the one that is there."""
        old = self.manifest.facts.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = {**old, **value}
        self.manifest.facts[name] = value
        write_manifest(self.folder, self.manifest)

    def has(self, name: str, codec: Codec[Any], made_from: Sequence[str] = ()) -> bool:
        """Say whether an output is done, whole, and made from what there is now.

        What is not makes a warning, because it will be computed again.
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
        """List what was computed as done; see `Integrity.record`."""
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
        """List outputs no longer, before their files are deleted."""
        if self.integrity.remove(names):
            write_manifest(self.folder, self.manifest)

    def warn(self, text: str) -> None:
        """Keep a warning and pass it on."""
        self.warnings.append(text)
        self._warn(text)

    def computed_on_others(self, found: Sequence[str]) -> None:
        """Hear what is otherwise where a part is computed from now on."""
        self._elsewhere.add(found)

    def computing(self) -> None:
        """Keep in the manifest what is otherwise now."""
        if found := self._elsewhere.to_keep():
            self.note(CHANGES, found)


def begun(path: Path, fresh: Manifest) -> Manifest | None:
    """Return the manifest of a directory, if any, which must fit."""
    if not (path / MANIFEST).exists():
        return None
    found = read_manifest(path)
    now = as_begun(fresh.settings, found.settings)
    check_settings(path, found.settings, now)
    check_inputs(path, found.inputs, fresh.inputs)
    check_provenance(path, found)
    return found


def changes(begun: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Say what is otherwise than when a run was started."""
    return [
        f"{name} {begun.get(name, ABSENT)} -> {now.get(name, ABSENT)}"
        for name in dict.fromkeys([*begun, *now])
        if begun.get(name) != now.get(name)
    ]


def known_changes(manifest: Manifest) -> list[str]:
    """Return what was otherwise where parts of a run were computed."""
    return [str(one) for one in manifest.facts.get(CHANGES, ())]


class Elsewhere:
    """What may change the last bits of a result where a process works."""

    def __init__(
        self, begun: Manifest, fresh: Manifest, warn: Callable[[str], None]
    ) -> None:
        """Compare; say what is, or was, otherwise."""
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
        """Hear of other differences where a part is computed; say so."""
        self._now += [one for one in found if one not in self._now]
        self._warn(computed_elsewhere(list(found)))

    def to_keep(self) -> list[str]:
        """Return all differences, if any is not kept."""
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
