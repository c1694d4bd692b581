"""Which files hold a model's weights, and their headers: safetensors only.

transformers loads whatever an index or `config.json` names, even pickled weights, and
any adapter stored with a model. So names and headers are checked first.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from huggingface_hub import try_to_load_from_cache
from safetensors import safe_open
from transformers.utils.hub import cached_file

from neuron_opsd.errors import ModelError

WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
ADAPTER_SETTINGS: Final = "adapter_config.json"
"""PEFT's settings of an adapter, including the base's name."""
SUFFIX: Final = ".safetensors"
NAMED: Final = "transformers_weights"
"""Key in `config.json` that may name other weight files."""

MOST_HEADER: Final = 32 << 20
"""Most bytes of a header; three times the largest models'."""

FLOATS: Final = ("F64", "F32", "F16", "BF16")
"""Types of usable weights; others need scales."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model's files are: a folder, or a hub id at a revision."""

    place: str
    revision: str = "main"
    local: bool = True
    """Whether downloads are forbidden."""

    @property
    def reach(self) -> dict[str, Any]:
        """Options for every call that may reach the hub."""
        return {"revision": self.revision, "local_files_only": self.local}

    @property
    def options(self) -> dict[str, Any]:
        """The same for calls that could run a model's code."""
        return {**self.reach, "trust_remote_code": False}

    def file(self, name: str) -> Path | None:
        """Return where a file is stored, `None` if there is none.

        Raises:
            OSError: If the hub cannot be reached to find out.
        """
        if Path(self.place).is_dir():
            path = Path(self.place) / name
            return path if path.is_file() else None
        found = cached_file(
            self.place, name, _raise_exceptions_for_missing_entries=False, **self.reach
        )
        return Path(found) if found else None

    def weight_files(self) -> list[Path]:
        """Return the weight files that transformers loads."""
        whole, index = self.file(WEIGHTS), self.file(INDEX)
        if whole is not None or index is None:
            return [] if whole is None else [whole]
        found = map(self.file, shards_of(index))
        return [path for path in found if path is not None]


def check_weights(source: Source, settings: Mapping[str, Any]) -> None:
    """Refuse weights from anything but the model's own safetensors."""
    if settings.get(NAMED) not in (None, WEIGHTS, INDEX):
        raise ModelError(
            f"config.json of {source.place} names the weights {settings[NAMED]!r} "
            f"({NAMED}), but only {WEIGHTS} and {INDEX} are read; remove that line"
        )
    if source.file(ADAPTER_SETTINGS) is not None:
        raise ModelError(
            f"{source.place} holds {ADAPTER_SETTINGS} beside its configuration, and "
            "the adapter would be loaded with it; keep the two in folders of their own "
            "and give the adapter with --adapter"
        )
    index = source.file(INDEX)
    for name in [] if index is None else shards_of(index):
        if problem := shard_problem(Path(source.place), name):
            raise ModelError(
                f"{index} names {name!r}, which {problem}; every name in an index must "
                f"be that of a *{SUFFIX} file in the model's own folder: get the "
                "model's files again from one place, or delete the index if "
                f"{WEIGHTS} holds all weights"
            )


def shards_of(index: Path) -> list[str]:
    """Return the file names in an index, sorted."""
    try:
        table = json.loads(index.read_text(encoding="utf-8"))
        names = set(table["weight_map"].values())
        if names and all(isinstance(name, str) for name in names):
            return sorted(names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ModelError(
        f"model {index.parent} cannot be loaded: {index.name} is damaged, as it must "
        "hold a weight_map from tensors to files; get all its files from one place, "
        "or use another model"
    )


def shard_problem(folder: Path, name: str) -> str:
    """Return what is wrong with a file named by an index, or ""."""
    if "/" in name or "\\" in name or "\0" in name or name != Path(name).name:
        return "is not the plain name of a file"
    path = folder / name
    if not name.endswith(SUFFIX):
        return f"does not end in {SUFFIX}"
    if not folder.is_dir():  # the hub's cache holds only its own files
        return ""
    if not path.is_file():
        return "is a link to nothing" if path.is_symlink() else "is missing"
    return "" if is_inside(folder, path) else "is a link out of the folder"


def is_inside(folder: Path, path: Path) -> bool:
    """Return whether a file is in a folder or among its hub cache's blobs.

    There ``snapshots/COMMIT/NAME`` links to ``blobs/HASH`` of the same model.
    """
    home, place = folder.resolve(), path.resolve()
    blobs = home.parent.parent / "blobs"
    of_hub = home.parent.name == "snapshots" and place.parent == blobs
    return place.parent == home or of_hub


def snapshot_of(name: str, revision: str) -> Path | None:
    """Return the hub cache's folder that a model was loaded from, if any.

    Its name is the commit of the revision.
    """
    found = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


@dataclass(frozen=True, slots=True)
class Stored:
    """What a model's weight files hold."""

    num_tensors: int
    num_weights: int
    kinds: frozenset[str] = frozenset()
    """Safetensors names of the tensors' types."""


def stored_weights(source: Source) -> Stored:
    """Return what a model's weight files hold.

    Raises:
        ModelError: If a header is too long, or weights are not stored as floats.
        SafetensorError: If a header contradicts itself or its file.
    """
    tensors: dict[str, Any] = {}
    for path in source.weight_files():
        tensors |= header_of(path)
    shapes = [entry["shape"] for entry in tensors.values()]
    kinds = frozenset(entry["dtype"] for entry in tensors.values())
    return Stored(len(shapes), sum(map(math.prod, shapes)), kinds)


def header_of(path: Path) -> dict[str, Any]:
    """Return the tensors listed in a weight file; raises as `stored_weights`."""
    with path.open("rb") as file:
        start = file.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if MOST_HEADER < size < path.stat().st_size:
            raise ModelError(
                f"{path} has a header of {size} bytes, more than the {MOST_HEADER} of "
                "the largest models; get it again from a place that you trust"
            )
        # The library checks the header against the file's length.
        with safe_open(path, "pt"):
            header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if len(entry["shape"]) > 1 and entry["dtype"] not in FLOATS:
            raise ModelError(
                f"{path} stores {name} as {entry['dtype']}, but weights are read only "
                f"as {', '.join(FLOATS)}; give the unquantised checkpoint"
            )
    found: dict[str, Any] = header
    return found
