"""The identity of a model: a run resumes only with the exact model it began with.

It is a hash of every loaded file, wherever the model is stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from neuron_opsd.config import ModelConfig
from neuron_opsd.models.weights.shards import Source, snapshot_of
from neuron_opsd.storage.files import sha256_file

IMAGES = (".gif", ".jpeg", ".jpg", ".pdf", ".png", ".svg", ".webp")
PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")
OTHER_FORMS = (".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".tflite")
NEVER_READ = frozenset((".md", *IMAGES, *PICKLES, *OTHER_FORMS))
"""Endings of files in a model folder that are never loaded."""

TEMPLATES = "additional_chat_templates"


def model_fingerprint(config: ModelConfig) -> str:
    """Return the identity of a model.

    Returns:
        For a folder, a hash of every file that weights, settings, tokenizer and chat
        template may be loaded from; for a GGUF file, its hash; for a hub id, the commit
        of its revision when loaded, with a hash of the weights.
    """
    folder = Path(config.name).expanduser()
    if folder.is_file():
        return known_hash(folder)
    if folder.is_dir():
        return files_hash(folder, read_files(folder))
    snapshot = snapshot_of(config.name, config.revision)
    if snapshot is None:
        return f"{config.name}@{config.revision}"
    weights = files_hash(snapshot, Source(str(snapshot)).weight_files())
    return f"{config.name}@{snapshot.name} {weights}"


def read_files(folder: Path) -> list[Path]:
    """Return the files in a folder that may change answers."""
    files = [
        path
        for path in folder.iterdir()
        if path.suffix
        and path.suffix.lower() not in NEVER_READ
        and not path.name.startswith(".")
        and path.is_file()
    ]
    return sorted(files) + sorted((folder / TEMPLATES).glob("*.jinja"))


def files_hash(folder: Path, files: Iterable[Path]) -> str:
    """Hash the names and contents of files."""
    digest = hashlib.sha256()
    for path in files:
        name = path.relative_to(folder).as_posix()
        known = f"{name} {known_hash(path)}"
        digest.update(known.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def known_hash(path: Path) -> str:
    """Return a file's SHA-256, cached while its status is unchanged."""
    found = path.stat()
    marks = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    return hash_as_of(path, marks)


@cache
def hash_as_of(path: Path, marks: tuple[int, ...]) -> str:
    """Return a file's SHA-256, cached by status."""
    del marks
    return sha256_file(path)
