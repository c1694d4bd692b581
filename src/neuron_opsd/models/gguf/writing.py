"""Write GGUF files: a merged model, or an adapter for a model's own file.

Tensors are streamed from the base's files, one at a time. A model's file must read back
identical before it counts as written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFType, GGUFWriter, LlamaFileType
from torch import Tensor

from neuron_opsd.errors import ModelError
from neuron_opsd.models.gguf.convert import (
    described,
    name_map,
    tensor_names,
    tensor_shapes,
)
from neuron_opsd.models.gguf.families import FACTORS, FAMILIES
from neuron_opsd.models.gguf.file import read_gguf
from neuron_opsd.models.gguf.keys import (
    ADVICE,
    architecture_of,
    differences,
    factors_of,
    keys_of,
)
from neuron_opsd.models.gguf.tokenizer_keys import other_tokens, tokenizer_keys
from neuron_opsd.models.weights.merging import MergedWeights, Spec

KINDS: Final[Mapping[torch.dtype, tuple[Any, Any]]] = {
    torch.float32: (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    torch.float16: (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    torch.bfloat16: (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
}
"""GGUF's tensor type, and file type for matrices of it."""

RECOMPUTED: Final = (".inv_freq",)
"""Name endings of stored tensors that are no weights."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stored tensor goes."""

    file: Path
    name: str
    """In the base's files."""
    tensor: str
    """In the GGUF file."""
    spec: Spec


def write_model(
    weights: MergedWeights,
    tokens: Any,
    path: Path,
    name: str,
    on_done: Callable[[int], None],
) -> None:
    """Write a merged model as a GGUF file, and read it back.

    Args:
        weights: The model.
        tokens: Its `Tokens`.
        path: A new file.
        name: The model's name in the file.
        on_done: Called with the bytes written.

    Raises:
        ModelError: If GGUF cannot express the model.
    """
    config = weights.settings
    family = architecture_of(config)
    places = places_of(weights, family)
    writer = GGUFWriter(path, family)
    writer.add_type(GGUFType.MODEL)
    writer.add_name(name)
    matrices = {place.spec.kind for place in places if len(place.spec.shape) > 1}
    if len(matrices) == 1:
        writer.add_file_type(KINDS[matrices.pop()][1])
    for key, value in keys_of(config).items():
        add_key(writer, f"{family}.{key}", value)
    known = tokenizer_keys(tokens.tokenizer, config.vocab_size, [*tokens.end_ids])
    for key, value in known.items():
        add_key(writer, f"tokenizer.ggml.{key}", value)
    if tokens.tokenizer.chat_template:
        writer.add_chat_template(tokens.tokenizer.chat_template)
    write_tensors(writer, weights, places, on_done)
    check_written(path, weights, tokens)


def places_of(weights: MergedWeights, family: str) -> list[Place]:
    """Return all tensors' places in file order; refuse unknown ones."""
    config = weights.settings
    names = name_map(family, config)
    found = []
    for file in weights.source.weight_files():
        for name, spec in weights.specs(file).items():
            tied = name == "lm_head.weight" and config.tie_word_embeddings
            if tied or name.endswith(RECOMPUTED):
                continue
            tensor = names(name)
            if tensor is None or not spec.kind.is_floating_point:
                raise ModelError(
                    f"the base stores {name}, for which GGUF has no place in a "
                    f"{family} model; {ADVICE}"
                )
            kept = spec.kind if len(spec.shape) > 1 else torch.float32
            kind = kept if kept in KINDS else torch.float32
            found.append(Place(file, name, tensor, Spec(kind, spec.shape)))
    return found


def add_key(writer: GGUFWriter, name: str, value: Any) -> None:
    """Add a key with the type of its value."""
    if isinstance(value, bool):
        writer.add_bool(name, value)
    elif isinstance(value, int):
        writer.add_uint32(name, value)
    elif isinstance(value, float):
        writer.add_float32(name, value)
    elif isinstance(value, str):
        writer.add_string(name, value)
    else:
        writer.add_array(name, value)


def write_tensors(
    writer: GGUFWriter,
    weights: MergedWeights,
    places: list[Place],
    on_done: Callable[[int], None],
) -> None:
    """Write the keys, then the tensors one by one."""
    factors = factors_of(weights.settings)
    if factors is not None:
        announce(writer, FACTORS, Spec(torch.float32, factors.shape))
    for place in places:
        announce(writer, place.tensor, place.spec)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors)
    wanted = {place.name: place for place in places}
    for file in dict.fromkeys(place.file for place in places):
        for name, tensor in weights.tensors(file):
            if name in wanted:
                place = wanted[name]
                stored = as_stored(tensor, name, weights.settings).to(place.spec.kind)
                writer.write_tensor_data(as_array(stored))
                on_done(place.spec.num_bytes)
    writer.close()


def announce(writer: GGUFWriter, name: str, spec: Spec) -> None:
    """Declare a tensor."""
    kind, _ = KINDS[spec.kind]
    # gguf takes a NumPy type, which bfloat16 lacks, but uses the type we pass.
    writer.add_tensor_info(
        name, list(spec.shape), np.dtype(np.float32), spec.num_bytes, raw_dtype=kind
    )


def as_array(tensor: Tensor) -> Any:
    """Return a tensor's values as NumPy writes them."""
    whole = tensor.contiguous()
    half = whole.dtype == torch.bfloat16
    return whole.view(torch.int16).numpy() if half else whole.numpy()


def as_stored(tensor: Tensor, name: str, config: Any) -> Tensor:
    """Convert a weight, or an update of its rows, as llama.cpp does."""
    family = FAMILIES[architecture_of(config)]
    if family.norm_offset and name.endswith("norm.weight"):
        return tensor.float() + family.norm_offset
    if not (num_heads := family.turned_heads(name, config)):
        return tensor
    halves = tensor.reshape(num_heads, 2, -1, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)


def check_written(path: Path, weights: MergedWeights, tokens: Any) -> None:
    """Refuse a file that does not read back as written."""
    gguf = read_gguf(path)
    config, vocabulary = described(gguf)
    found = list(differences(weights.settings, config))
    apart = other_tokens(tokens.tokenizer, vocabulary.tokenizer)
    if apart:
        found.append(f"a tokenizer that makes other tokens of {apart[0]!r}")
    names = tensor_names(gguf, config)
    shapes = tensor_shapes(config)
    for name, tensor in names.items():
        stored = tuple(int(size) for size in reversed(gguf.tensors[tensor].shape))
        if stored != shapes[name]:
            found.append(f"{name} of the shape {stored}")
    if found:
        raise ModelError(
            f"GGUF cannot express all of this model: {'; '.join(found[:3])}; {ADVICE}"
        )


def write_adapter(weights: MergedWeights, path: Path, name: str) -> int:
    """Write an adapter's update as a GGUF file; return its rank.

    llama.cpp scales each matrix's product by ``alpha / rank``, with one `alpha`, so
    factors of other ranks are rescaled.
    """
    config = weights.settings
    family = architecture_of(config)
    names = name_map(family, config)
    rank = max(len(change.down) for change in weights.changes.values())
    writer = GGUFWriter(path, family)
    writer.add_type(GGUFType.ADAPTER)
    writer.add_name(name)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    for stored, change in weights.changes.items():
        tensor = names(stored)
        if tensor is None:
            raise ModelError(
                f"the adapter changes {stored}, for which GGUF has no place in a "
                f"{family} model; {ADVICE}"
            )
        up = as_stored(change.up.float(), stored, config) * (len(change.down) / rank)
        writer.add_tensor(f"{tensor}.lora_a", as_array(change.down.float()))
        writer.add_tensor(f"{tensor}.lora_b", as_array(up))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return rank
