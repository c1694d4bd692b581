"""Adapter files for vLLM: a single one, or several summed into one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from neuron_opsd.errors import ConfigError, ModelError
from neuron_opsd.models.adapters.reading import ADAPTER_WEIGHTS
from neuron_opsd.models.adapters.settings import read_settings
from neuron_opsd.models.vllm.library import OURS
from neuron_opsd.models.weights.shards import ADAPTER_SETTINGS

RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Adapter ranks vLLM can allocate for; a lower rank fits."""

PLAIN: Final = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save")
"""Settings that make an adapter more than two factors and one scale."""

DOWN, UP = ".lora_A.weight", ".lora_B.weight"
"""Endings of the factors' names in an adapter's file."""

Write: TypeAlias = Callable[[Path], None]
"""Writes an adapter into a folder."""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """What an engine adds to the base model's weights."""

    write: Write
    rank: int
    moves: bool
    """Whether it may differ next time."""


def room_for(rank: int) -> int:
    """Return the smallest rank vLLM can allocate for an adapter."""
    for room in RANKS:
        if rank <= room:
            return room
    raise ConfigError(
        f"vLLM takes adapters up to rank {RANKS[-1]}, but this one has {rank}; lower "
        f"distill.lora_rank, or {OURS}"
    )


def fixed(adapters: Sequence[Path]) -> Weights | None:
    """Return constant adapters, each on top of the previous."""
    if not adapters:
        return None

    def write(folder: Path) -> None:
        if len(adapters) > 1:
            write_sum(adapters, folder)
            return
        folder.mkdir()
        for name in (ADAPTER_SETTINGS, ADAPTER_WEIGHTS):
            shutil.copyfile(adapters[0] / name, folder / name)

    return Weights(write, rank_sum(adapters), moves=False)


def moving(write: Write, rank: int, below: Sequence[Path]) -> Weights:
    """Return an adapter in training, on top of constant ones."""

    def write_all(folder: Path) -> None:
        if not below:
            write(folder)
            return
        own = folder.with_name(f"{folder.name}-alone")
        write(own)
        write_sum([*below, own], folder)
        shutil.rmtree(own)

    return Weights(write_all, rank + rank_sum(below), moves=True)


def rank_sum(adapters: Sequence[Path]) -> int:
    """Return the rank of several adapters as one."""
    return sum(int(read_settings(adapter)["r"]) for adapter in adapters)


def write_sum(adapters: Sequence[Path], folder: Path) -> None:
    """Write the sum of adapters as one, whose rank is the sum of theirs."""
    settings = [read_settings(adapter) for adapter in adapters]
    for adapter, own in zip(adapters, settings, strict=True):
        if found := [name for name in PLAIN if own.get(name)]:
            raise ModelError(
                f"adapter {adapter} sets {found[0]}, which vLLM cannot add to another; "
                f"{OURS}"
            )
    rank = rank_sum(adapters)
    folder.mkdir()
    tensors = [load_file(adapter / ADAPTER_WEIGHTS) for adapter in adapters]
    save_file(summed(tensors, settings), folder / ADAPTER_WEIGHTS)
    names = sorted({name for own in settings for name in own["target_modules"]})
    plain = {"r": rank, "lora_alpha": rank, "target_modules": names}
    both = {**settings[-1], **plain, "use_rslora": False}
    (folder / ADAPTER_SETTINGS).write_text(json.dumps(both), encoding="utf-8")


def scale_of(settings: dict[str, Any]) -> float:
    """Return the factor on an adapter's matrix product."""
    rank, alpha = int(settings["r"]), float(settings["lora_alpha"])
    return alpha / (rank**0.5 if settings.get("use_rslora") else rank)


def summed(
    adapters: Sequence[dict[str, Tensor]], settings: Sequence[dict[str, Any]]
) -> dict[str, Tensor]:
    """Return a sum's factors, with zeros where an adapter lacks a layer."""
    result: dict[str, Tensor] = {}
    layers = {name.removesuffix(DOWN) for one in adapters for name in one}
    for layer in sorted(name for name in layers if not name.endswith(UP)):
        downs, ups = [], []
        known = next(one for one in adapters if layer + DOWN in one)
        for tensors, own in zip(adapters, settings, strict=True):
            down, up = tensors.get(layer + DOWN), tensors.get(layer + UP)
            if down is None or up is None:
                rank = int(own["r"])
                down = known[layer + DOWN].new_zeros(rank, known[layer + DOWN].shape[1])
                up = known[layer + UP].new_zeros(known[layer + UP].shape[0], rank)
            downs.append(down.float())
            ups.append(up.float() * scale_of(own))
        result[layer + DOWN] = torch.cat(downs).contiguous()
        result[layer + UP] = torch.cat(ups, dim=1).contiguous()
    return result
