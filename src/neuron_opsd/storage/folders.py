"""Our own folders: each carries a marker, and no other folder is touched.

The marker comes first, in a new or empty folder; locks, clean-up and outputs follow. So
other people's files are never changed, however much their names look like ours. What is
refused raises a `ConfigError`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Literal, TypeAlias

from neuron_opsd.errors import ConfigError, TryAgainError
from neuron_opsd.storage.files import is_leftover_of, write_atomic
from neuron_opsd.storage.lock import HOLDER, LOCK
from neuron_opsd.storage.manifest import MANIFEST, is_manifest
from neuron_opsd.storage.output_paths import (
    FILE,
    check_file_place,
    check_folder_place,
    kind_of,
)

MARKER: Final = ".neuron-opsd"
ADAPTER: Final = "adapter"
TRAIN: Final = "train"
"""Folder of a training's metrics and checkpoints."""
METRICS: Final = "metrics.jsonl"
RUN_PAGE: Final = "report.html"
"""Written last, as are `COMPARISON_PAGE` and `PROBE_PAGE`."""
PROBE_PAGE: Final = "probe.html"
COMPARISON_PAGE: Final = "comparison.html"
BLOCKS: Final = "blocks"
"""Folder of a comparison's run directories."""
METHOD_FOLDERS: Final = "methods"
"""Folder in such a run directory, with one folder per method."""
Kind: TypeAlias = Literal["run", "comparison", "cache", "questions"]

NAMES: Final[dict[str, str]] = {
    "run": "run directory",
    "comparison": "folder of a comparison",
    "cache": "cache of neuron-opsd",
    "questions": "folder of a demo's questions",
}

Recognise: TypeAlias = Callable[[Path], bool]
"""Tells whether an earlier version made an unmarked folder."""


def is_run(folder: Path) -> bool:
    """Return whether a run of an earlier version began here."""
    manifest = folder / MANIFEST
    held = {entry.name for entry in folder.iterdir()}
    only_locked = {LOCK} <= held <= {LOCK, HOLDER}
    return has_no_other_lock(folder) and (only_locked or is_manifest(manifest))


def has_no_other_lock(folder: Path) -> bool:
    """Return whether a folder has no lock but ours, an empty file."""
    lock = folder / LOCK
    return not kind_of(lock) or (kind_of(lock) == FILE and not lock.stat().st_size)


def check_folder(
    folder: Path, kind: Kind, recognise: Recognise = is_run, flag: str = "--out"
) -> None:
    """Refuse a folder that is not new, empty or ours, or is read-only.

    Changes nothing. `recognise` decides about unmarked folders with contents.
    """
    check_folder_place(folder, flag)
    if not folder.is_dir():
        return
    name = NAMES[kind]
    # Listed before the marker is looked for: what a process that starts at the same
    # time has written by then is then marked.
    entries = sorted(entry.name for entry in folder.iterdir())
    if os.path.lexists(folder / MARKER):
        found = kind_in(folder)
        if found != kind:
            said = f"a {NAMES[found]}" if found else f"one whose {MARKER} is not ours"
            raise ConfigError(
                f"{folder} is {said}, not a {name}; choose another folder for {flag}"
            )
        return
    held = [entry for entry in entries if not is_leftover_of(MARKER, entry)]
    if held and not recognise(folder):
        other = next((entry for entry in held if entry not in (LOCK, HOLDER)), held[0])
        what = f"{other} which no run wrote" if other == MANIFEST else other
        raise ConfigError(
            f"{folder} is not a {name}, but it holds {what}; choose a new or empty "
            f"folder for {flag}"
        )


def claim(
    folder: Path, kind: Kind, recognise: Recognise = is_run, flag: str = "--out"
) -> None:
    """Mark a folder as ours, after `check_folder`."""
    check_folder(folder, kind, recognise, flag)
    if os.path.lexists(folder / MARKER):
        return
    try:
        write_atomic(folder / MARKER, marker_of(kind))
    except TryAgainError:
        # Another process marked the folder and cleared away our unfinished marker.
        if kind_in(folder) != kind:
            raise


def check_result_place(path: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output file that would replace an input, or lie in a folder of ours.

    Inputs may be missing, or no file names. Other files are replaced.
    """
    check_file_place(path)
    place = path.resolve()
    for one in (one for one in inputs if one.parts):
        if place.is_relative_to(one.resolve()):
            where = "is in" if one.is_dir() else "is"
            raise ConfigError(
                f"--out is {path}, which {where} {one}, and this command reads that; "
                "choose another place"
            )
    check_outside(path)


def check_outside(path: Path) -> None:
    """Refuse a place in a run directory or another folder of ours."""
    place = path.resolve()
    for folder in (place, *place.parents):
        kind = kind_in(folder) if folder.is_dir() else ""
        if kind:
            raise ConfigError(
                f"--out is {path}, which is in {folder}, a {NAMES[kind]}; nothing "
                "else is written there, so choose a place elsewhere"
            )


def require_folder(folder: Path, *kinds: Kind, recognise: Recognise = is_run) -> None:
    """Refuse a folder of another kind."""
    known = kind_in(folder) in kinds or (
        not os.path.lexists(folder / MARKER) and folder.is_dir() and recognise(folder)
    )
    if not known:
        names = " or a ".join(NAMES[kind] for kind in kinds)
        raise ConfigError(f"{folder} is not a {names}; name one that this program made")


def kind_in(folder: Path) -> str:
    """Return the kind on a marker; empty if not ours."""
    path = folder / MARKER
    if kind_of(path) != FILE or path.stat().st_size > len(marker_of("comparison")):
        return ""
    data = path.read_bytes()
    return next((kind for kind in NAMES if marker_of(kind) == data), "")


def marker_of(kind: str) -> bytes:
    """Return a marker's bytes."""
    return (json.dumps({"neuron-opsd": kind, "format": 1}) + "\n").encode()
