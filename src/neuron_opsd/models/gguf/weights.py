"""The tensors of a GGUF file as the weights of a network, one for one.

Axes: D residual width, H heads, W width of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
from transformers import AutoModelForCausalLM

from neuron_opsd.errors import ModelError
from neuron_opsd.models.gguf.families import Family
from neuron_opsd.models.gguf.file import Array, GGUFFile
from neuron_opsd.models.gguf.positions import FACTORS

State: TypeAlias = dict[str, torch.Tensor]

SUFFIXES = (".weight", ".bias")

WITH_FACTORS = {"llama"}
"""Families whose positions a tensor may scale."""


def weights_of(gguf: GGUFFile, family: Family, config: Any) -> State:
    """Return the weights of a model as float32, by their names in transformers.

    Raises:
        ModelError: If a weight has no tensor, a tensor no weight, or one is of another
            shape, of an unknown kind or not finite.
    """
    shapes = expected_shapes(config)
    stored = tensor_names(gguf.family, config, shapes)
    check_names(gguf, stored)
    state = {}
    for name, tensor_name in stored.items():
        array = gguf.array(tensor_name)
        if tuple(array.shape) != shapes[name]:
            raise ModelError(
                f"{gguf.path}: tensor {tensor_name} has the shape "
                f"{tuple(array.shape)}, but its keys ask for {shapes[name]}; give a "
                "file whose tensors and keys belong together"
            )
        state[name] = torch.from_numpy(as_trained(array, name, family, config))
    return state


def expected_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight, the unembedding left out where it is tied."""
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    return {name: tuple(one.shape) for name, one in network.named_parameters()}


def tensor_names(
    family: str, config: Any, names: Mapping[str, object]
) -> dict[str, str]:
    """Return for each weight the tensor that GGUF stores it as."""
    number = next(key for key, name in MODEL_ARCH_NAMES.items() if name == family)
    known = get_tensor_name_map(number, config.num_hidden_layers)
    found = {name: known.get_name(name, SUFFIXES) for name in names}
    return {name: stored or name for name, stored in found.items()}


def check_names(gguf: GGUFFile, stored: Mapping[str, str]) -> None:
    """Refuse a file that lacks a tensor or has one too many."""
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


def as_trained(array: Array, name: str, family: Family, config: Any) -> Array:
    """Undo what llama.cpp's converter did to a weight."""
    if family.norm_offset and name.endswith("norm.weight"):
        return array - np.float32(family.norm_offset)
    if family.rotated and ".q_proj." in name:
        return in_halves(array, config.num_attention_heads)
    if family.rotated and ".k_proj." in name:
        return in_halves(array, config.num_key_value_heads)
    return array


def in_halves(array: Array, num_heads: int) -> Array:
    """Sort the rows ``(H·W, D)`` of queries or keys from pairs into halves.

    llama.cpp turns neighbours by one angle, transformers elements half a head apart.
    """
    pairs = array.reshape(num_heads, -1, 2, *array.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(array.shape))
