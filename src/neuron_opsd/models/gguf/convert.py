"""From a GGUF file to a folder as a hub download would have it, kept for later runs."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from safetensors.torch import save_file
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, GenerationConfig

from neuron_opsd.documents import parse_table
from neuron_opsd.errors import ModelError, TryAgainError
from neuron_opsd.models.gguf.families import configuration, family_of
from neuron_opsd.models.gguf.file import read_gguf
from neuron_opsd.models.gguf.tokens import vocabulary_of
from neuron_opsd.models.gguf.weights import weights_of
from neuron_opsd.models.library_errors import saving
from neuron_opsd.storage.download_cache import (
    Part,
    cache_folder,
    changed_files,
    claim_cache,
    note,
)
from neuron_opsd.storage.files import sha256_file, write_atomic

CONVERSION = 2
"""Counted up when the same file is to give other files."""

NOTE = ".converted.json"
"""File of a converted model with the hash of every other; written before the folder
gets its name."""


@cache
def unpacked(gguf: Path) -> Path:
    """Return a plain folder with the model of a GGUF file, converted when first asked.

    The folder stays in the user's cache under the file's hash, so that later commands
    need not convert it again and an adapter can name it as its base.

    Raises:
        ModelError: If the file cannot be used.
        TryAgainError: If the folder cannot be written.
    """
    digest = sha256_file(gguf)
    home = cache_folder() / "gguf"
    folder = home / f"{gguf.stem}-{digest[:16]}-v{CONVERSION}"
    if not (folder / NOTE).is_file():
        keep_converted(gguf, digest, folder)
    if changed := changed_files(folder, read_note(folder)):
        raise not_as_written(gguf, folder, changed)
    return folder


def keep_converted(gguf: Path, digest: str, folder: Path) -> None:
    """Convert a GGUF file into a folder of the cache, with a hash of every file.

    Raises:
        ModelError: If the file cannot be used, or another conversion of it is there
            that differs.
        TryAgainError: If the folder cannot be written.
    """
    home = folder.parent
    claim_cache(home.parent)
    try:
        home.mkdir(parents=True, exist_ok=True)
        scratch = Path(mkdtemp(prefix=f".{folder.name}.", dir=home))
        try:
            scratch.chmod(home.stat().st_mode)
            convert_gguf(gguf, scratch)
            about = note(scratch, digest, {})
            write_atomic(scratch / NOTE, json.dumps(about).encode())
            try:
                scratch.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise TryAgainError(
            f"the model of a GGUF file cannot be kept in {home}: "
            f"{error.strerror or error}; it takes four bytes for each parameter: make "
            "room, or set NEURON_OPSD_CACHE to another folder"
        ) from error
    if not (folder / NOTE).is_file():
        vouch(gguf, about, folder)


def vouch(gguf: Path, about: Part, folder: Path) -> None:
    """Note the files of a folder that has no note, if they are those just converted."""
    found = note(folder, about["recipe"], {})
    stored = {name: known["sha256"] for name, known in found["files"].items()}
    files = about["files"].items()
    changed = [name for name, made in files if stored.get(name) != made["sha256"]]
    if changed:
        raise not_as_written(gguf, folder, changed)
    write_atomic(folder / NOTE, json.dumps(found).encode())


def read_note(folder: Path) -> Part:
    """Return what was noted of a converted model."""
    try:
        found = parse_table((folder / NOTE).read_bytes())
        if found["files"]:
            return dict(found)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ModelError(
        f"{folder / NOTE} is damaged; delete the folder {folder} and run the same "
        "command again, which converts the model again"
    )


def not_as_written(gguf: Path, folder: Path, changed: list[str]) -> ModelError:
    """Return the error for a converted model that was changed afterwards."""
    return ModelError(
        f"{folder}, which was converted from {gguf}, is not as it was written: "
        f"{', '.join(changed)} differ; delete that folder and run the same command "
        "again, which converts the model again"
    )


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file into an existing empty folder.

    Takes a few seconds for 135 million parameters, and memory for the float32 weights.
    Never goes online. The caller commits the folder, so that a killed conversion leaves
    no half-made model behind.

    Args:
        gguf: File of a model of one of the architectures in `families.FAMILIES`.
        folder: Gets `config.json`, `model.safetensors` and the tokenizer's files.

    Raises:
        ModelError: If it is not a GGUF file, is not whole, or holds what cannot be
            followed to the letter.
        OSError: If the disk is full.
    """
    whole = read_gguf(gguf)
    family = family_of(whole)
    vocabulary = vocabulary_of(whole)
    config = configuration(whole, vocabulary.size)
    ends = vocabulary.end_ids
    config.bos_token_id = vocabulary.ids.get("bos_token_id")
    config.pad_token_id = vocabulary.ids.get("padding_token_id")
    config.eos_token_id = ends[0] if len(ends) == 1 else ends or None
    save(config, weights_of(whole, family, config), vocabulary.tokenizer, folder)


def save(config: Any, state: dict[str, Any], tokenizer: Any, folder: Path) -> None:
    """Write configuration, weights and tokenizer as a hub download would have them.

    Raises:
        OSError: If the disk is full or fails.
    """
    network: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    config.architectures = [network.__name__]
    with saving():
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(folder)
        GenerationConfig.from_model_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    # safetensors makes its files readable by their owner alone.
    mode = (folder / "config.json").stat().st_mode
    for path in folder.iterdir():
        path.chmod(mode)
