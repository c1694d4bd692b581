"""Checks that a run directory still holds what its manifest lists.

A file is proven by its SHA-256, a folder by its files'; and by the hashes of its
sources, which must be those of today.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from pydantic import TypeAdapter, ValidationError

from neuron_opsd.documents import DocumentError, fault_in
from neuron_opsd.errors import DataError
from neuron_opsd.storage.disk import read_plain, reason_of
from neuron_opsd.storage.files import sha256_file, write_atomic
from neuron_opsd.storage.manifest import Manifest, Output, json_sha256, seal, unseal

CARD = "README.md"
"""Describes a folder's other files; written last and proven separately."""
HASHES = "hashes.json"
"""Lists comparison files outside the run groups' manifests."""
MAX_HASHED_BYTES = 32_000_000
"""Files and folders up to this size are always read."""
READ = {"merges.txt", "vocab.txt"}
READ_SUFFIXES = {".jinja", ".json", ".model", ".safetensors"}
"""Files whose presence changes a model or adapter; other foreign files are ignored."""
TABLE = TypeAdapter(dict[str, str])
MADE_AGAIN = "; delete it, and the command that started the comparison creates it again"
GONE = "is gone"
CHANGED = "was changed or damaged"
UNPROVEN = "was written by a version that kept no hash of it, so it cannot be verified"


def files_in(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of a folder's files, except its card."""
    if not folder.is_dir():
        return {}
    found = (path for path in folder.iterdir() if path.is_file())
    return {p.name: sha256_file(p) for p in sorted(found) if p.name != CARD}


def is_read(name: str) -> bool:
    """Return whether loading a model or adapter may read a file."""
    return name in READ or Path(name).suffix in READ_SUFFIXES


def proof_of(path: Path) -> tuple[str, dict[str, str]]:
    """Return the SHA-256 of a path, and of a folder's files."""
    if path.is_dir():
        files = files_in(path)
        return json_sha256(files), files
    return sha256_file(path), {}


def fault_of(folder: Path, output: Output, *, quick: bool = False) -> str:
    """Say what is wrong with an output; empty if whole.

    With `quick`, large outputs are compared by size only, so changes that keep the
    length go unseen.
    """
    path = folder / output.file
    try:
        if not (path.is_dir() if output.files else path.is_file()):
            return GONE
        size = size_of(path, output.files) if quick else 0
        if size > MAX_HASHED_BYTES:
            return "" if output.size in (None, size) else CHANGED
        return "" if hash_now(path, output) == output.sha256 else CHANGED
    except OSError as error:
        return f"cannot be read ({reason_of(error)})"


def hash_now(path: Path, output: Output) -> str:
    """Return an output's hash, ignoring foreign files."""
    if not output.files:
        return sha256_file(path)
    found = files_in(path)
    ours = {name: found[name] for name in found if name in output.files}
    read = {name: found[name] for name in found if is_read(name)}
    return json_sha256(ours | read)


def not_hashed(folder: Path, manifest: Manifest) -> list[str]:
    """Return what `quick_fault` does not read."""
    found = manifest.outputs.values()
    sizes = {one.file: size_of(folder / one.file, one.files) for one in found}
    return [file for file, size in sizes.items() if size > MAX_HASHED_BYTES]


def size_of(path: Path, names: Iterable[str]) -> int:
    """Return the bytes of a file, or of a folder's files."""
    files = [path / name for name in names] or [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def other_sources(made_from: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Name the sources that differ now."""
    names = dict.fromkeys([*made_from, *now])
    return [name for name in names if made_from.get(name) != now.get(name)]


Check: TypeAlias = Callable[[Path, Output], str]
"""Says what is wrong with an output of a folder; empty if whole."""
quick_fault: Final[Check] = partial(fault_of, quick=True)


def faults(folder: Path, manifest: Manifest, check: Check = fault_of) -> dict[str, str]:
    """Say what is wrong with each unproven output."""
    return {
        name: f"{folder / output.file} {fault}"
        for name, output in manifest.outputs.items()
        if (fault := check(folder, output) or changed_sources(output, manifest))
    }


def changed_sources(output: Output, manifest: Manifest) -> str:
    """Say which sources of an output have changed."""
    sources = (output.made_from or {}).items()
    kept = {name: known for name, known in sources if name in manifest.outputs}
    others = other_sources(kept, hashes(manifest, kept))
    return f"was made from another {', '.join(others)}" if others else ""


def hashes(manifest: Manifest, names: Iterable[str]) -> dict[str, str]:
    """Return the hashes of existing outputs."""
    found = manifest.outputs
    return {name: found[name].sha256 for name in names if name in found}


def write_listed(
    folder: Path, names: Iterable[str], known: Iterable[Output] = ()
) -> None:
    """Record in `hashes.json` files that no manifest lists; other `known` ones stay."""
    table = {output.file: output.sha256 for output in known}
    table |= {name: sha256_file(folder / name) for name in names}
    write_atomic(folder / HASHES, seal(table))


def listed(folder: Path) -> list[Output]:
    """Return the files in `hashes.json`, if any."""
    path = folder / HASHES
    if not os.path.lexists(path):
        return []
    data = read_plain(path, MADE_AGAIN)
    try:
        table = TABLE.validate_python(unseal(data))
        return [Output(file=name, sha256=value) for name, value in table.items()]
    except (DocumentError, ValidationError) as error:
        raise DataError(f"{path} is damaged ({fault_in(error)}){MADE_AGAIN}") from None


def listed_faults(folder: Path, check: Check = fault_of) -> dict[str, str]:
    """Do as `faults` for the files in `hashes.json`.

    It has no sizes, so `quick_fault` sees only whether large files exist.
    """
    return {
        output.file: f"{folder / output.file} {fault}"
        for output in listed(folder)
        if (fault := check(folder, output))
    }


class Integrity:
    """A manifest's proofs, while a process holds the run directory.

    Files are hashed once per process, since no other may change them.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, warn: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.warn = warn
        self._known = {"inputs": json_sha256(manifest.inputs)}
        self._intact: set[str] = set()
        self._changed: set[str] = set()

    def add_source(self, name: str, sha256: str) -> None:
        """Add the hash of a source that is no output."""
        self._known[name] = sha256

    def mark_changed(self, name: str) -> None:
        """Mark an output changed, so that dependants are remade."""
        self._changed.add(name)

    def hashes(self, names: Iterable[str]) -> dict[str, str]:
        """Return the hashes of existing sources."""
        listed = list(names)
        known = {name: self._known[name] for name in listed if name in self._known}
        return known | hashes(self.manifest, listed)

    def is_current(self, name: str, file: str, made_from: Sequence[str] = ()) -> bool:
        """Return whether an output is done, whole, and made from today's sources.

        Source outputs must be whole too.
        """
        output = self.manifest.outputs.get(name)
        if output is None or output.file != file:
            return False
        sources = [one for one in made_from if one in self.manifest.outputs]
        if not all([self.is_intact(name), *map(self.is_intact, sources)]):
            return False
        others = other_sources(output.made_from or {}, self.hashes(made_from))
        if others and not set(others) <= self._changed:
            named = ", ".join(others)
            path = self.folder / file
            self.warn(f"{path} was made from another {named}; it is made again")
        return not others

    def is_intact(self, name: str) -> bool:
        """Return whether a listed output is whole; warn if not."""
        output = self.manifest.outputs[name]
        fault = "" if name in self._intact else fault_of(self.folder, output)
        if fault:
            self.warn(f"{self.folder / output.file} {fault}; it is computed again")
        else:
            self._intact.add(name)
        return not fault

    def record(
        self,
        name: str,
        file: str,
        made_from: Sequence[str],
        seconds: float | None,
        files: Mapping[str, str] | None = None,
    ) -> None:
        """List a file or folder in the manifest as it is now.

        `seconds` is its computing time; `files` are a folder's fresh hashes.
        """
        known = files and (json_sha256(dict(files)), dict(files))
        sha256, found = known or proof_of(self.folder / file)
        self.manifest.outputs[name] = Output(
            file=file,
            sha256=sha256,
            seconds=seconds,
            made_from=self.hashes(made_from),
            files=found,
            size=size_of(self.folder / file, found),
        )
        self._intact.add(name)

    def remove(self, names: Iterable[str]) -> bool:
        """Unlist outputs; return whether any were listed."""
        listed = [name for name in names if name in self.manifest.outputs]
        for name in listed:
            del self.manifest.outputs[name]
            self._intact.discard(name)
        return bool(listed)
