"""Convert a GGUF file into a cached folder laid out like a hub download."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
from safetensors.torch import save_file
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, GenerationConfig

from neuron_opsd.documents import parse_table
from neuron_opsd.errors import ModelError, TryAgainError
from neuron_opsd.models.gguf.families import (
    FACTORS,
    WITH_FACTORS,
    Family,
    configuration,
    family_of,
)
from neuron_opsd.models.gguf.file import Array, GGUFFile, read_gguf
from neuron_opsd.models.gguf.tokens import Vocabulary, vocabulary_of
from neuron_opsd.models.library_errors import saving
from neuron_opsd.storage import download_cache
from neuron_opsd.storage.files import sha256_file, write_atomic

CONVERSION = 2
"""Increase when the same file should give different files."""

NOTE = ".converted.json"
"""File in a converted model with the hashes of all others."""


@cache
def unpacked(gguf: Path) -> Path:
    """Return a plain folder with a GGUF file's model, converted on first use.

    It is cached under the file's hash, so that adapters can name it as base.
    """
    digest = sha256_file(gguf)
    home = download_cache.cache_folder() / "gguf"
    folder = home / f"{gguf.stem}-{digest[:16]}-v{CONVERSION}"
    if not (folder / NOTE).is_file():
        keep_converted(gguf, digest, folder)
    if changed := download_cache.changed_files(folder, read_note(folder)):
        raise not_as_written(gguf, folder, changed)
    return folder


def keep_converted(gguf: Path, digest: str, folder: Path) -> None:
    """Convert a GGUF file into a cache folder, hashing every file."""
    home = folder.parent
    download_cache.claim_cache(home.parent)
    try:
        home.mkdir(parents=True, exist_ok=True)
        scratch = Path(mkdtemp(prefix=f".{folder.name}.", dir=home))
        try:
            scratch.chmod(home.stat().st_mode)
            convert_gguf(gguf, scratch)
            about = download_cache.note(scratch, digest, {})
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


def vouch(gguf: Path, about: download_cache.Part, folder: Path) -> None:
    """Note an unnoted folder's files, if they match the conversion."""
    found = download_cache.note(folder, about["recipe"], {})
    stored = {name: known["sha256"] for name, known in found["files"].items()}
    files = about["files"].items()
    changed = [name for name, made in files if stored.get(name) != made["sha256"]]
    if changed:
        raise not_as_written(gguf, folder, changed)
    write_atomic(folder / NOTE, json.dumps(found).encode())


def read_note(folder: Path) -> download_cache.Part:
    """Return a converted model's note."""
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
    """Return the error for a converted model changed afterwards."""
    return ModelError(
        f"{folder}, which was converted from {gguf}, was changed or damaged: "
        f"{', '.join(changed)} differ; delete that folder and run the same command "
        "again, which converts the model again"
    )


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write a GGUF file's model into an existing empty folder.

    Needs memory for the float32 weights.

    Raises:
        ModelError: If it is no complete GGUF file of one of `families.FAMILIES`, or
            cannot be converted exactly.
        OSError: If the disk is full.
    """
    whole = read_gguf(gguf)
    family = family_of(whole)
    config, vocabulary = described(whole)
    save(config, weights_of(whole, family, config), vocabulary.tokenizer, folder)


def described(gguf: GGUFFile) -> tuple[Any, Vocabulary]:
    """Return a file's configuration and vocabulary."""
    vocabulary = vocabulary_of(gguf)
    config = configuration(gguf, vocabulary.size)
    ends = vocabulary.end_ids
    config.bos_token_id = vocabulary.ids.get("bos_token_id")
    config.pad_token_id = vocabulary.ids.get("padding_token_id")
    config.eos_token_id = ends[0] if len(ends) == 1 else ends or None
    return config, vocabulary


def save(config: Any, state: dict[str, Any], tokenizer: Any, folder: Path) -> None:
    """Write configuration, weights and tokenizer laid out like a hub download."""
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


def weights_of(gguf: GGUFFile, family: Family, config: Any) -> dict[str, torch.Tensor]:
    """Return the float32 weights by their transformers names."""
    shapes = tensor_shapes(config)
    state = {}
    for name, tensor_name in tensor_names(gguf, config).items():
        array = gguf.array(tensor_name)
        if tuple(array.shape) != shapes[name]:
            raise ModelError(
                f"{gguf.path}: tensor {tensor_name} has the shape "
                f"{tuple(array.shape)}, but its keys ask for {shapes[name]}; give a "
                "file whose tensors and keys belong together"
            )
        state[name] = torch.from_numpy(as_trained(array, name, family, config))
    return state


def tensor_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Return weights' shapes by name, without a tied unembedding."""
    with torch.device("meta"):
        network: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        empty = network(config)
        empty.tie_weights()  # not every version ties them at creation
    return {name: tuple(one.shape) for name, one in empty.named_parameters()}


def tensor_names(gguf: GGUFFile, config: Any) -> dict[str, str]:
    """Return the file's names of a model's weights, which match one to one."""
    known = name_map(gguf.family, config)
    stored = {name: known(name) or name for name in tensor_shapes(config)}
    for name, tensor in stored.items():
        if tensor not in gguf.tensors:
            raise ModelError(
                f"{gguf.path} has no tensor {tensor}, so {name} would be random "
                "numbers; give a complete GGUF file or a folder with safetensors"
            )
    factors = {FACTORS} if gguf.family in WITH_FACTORS else set()
    for tensor in gguf.tensors:
        if tensor not in {*stored.values(), *factors}:
            raise ModelError(
                f"{gguf.path} has the tensor {tensor}, for which a {gguf.family} model "
                "has no place here; give the model as a folder with safetensors"
            )
    return stored


def name_map(family: str, config: Any) -> Callable[[str], str | None]:
    """Return a function from a weight's name to GGUF's, or `None`."""
    number = next(n for n, name in MODEL_ARCH_NAMES.items() if name == family)
    known = get_tensor_name_map(number, config.num_hidden_layers)
    return lambda name: known.get_name(name, (".weight", ".bias"))


def as_trained(array: Array, name: str, family: Family, config: Any) -> Array:
    """Undo what llama.cpp's converter did to a weight."""
    if family.norm_offset and name.endswith("norm.weight"):
        return array - np.float32(family.norm_offset)
    if not (num_heads := family.turned_heads(name, config)):
        return array
    # llama.cpp rotates neighbours together, transformers elements half a head apart.
    pairs = array.reshape(num_heads, -1, 2, *array.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(array.shape))
