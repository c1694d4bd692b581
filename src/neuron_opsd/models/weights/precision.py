"""The precision of matrix products: half if correct and fast, else single."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from timeit import repeat
from typing import Final

import torch
from torch import Tensor

from neuron_opsd.config import ModelConfig
from neuron_opsd.processes.processor import processor_features

HALF_ERROR: Final = 2.0**-6
"""Bound on a bfloat16 product's rounding error, relative to its largest entry."""

SLOWER: Final = 1.5
"""bfloat16 must not take this many times as long as float32."""


def device_of(config: ModelConfig) -> str:
    """Return the device that the settings choose."""
    if config.device != "auto":
        return config.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def compute_of(config: ModelConfig, device: str) -> str:
    """Return the precision of matrix products that the settings choose."""
    if config.compute != "auto":
        return config.compute
    if device.startswith("cuda"):
        hardware = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if hardware else "float32"
    capability = processor_features()
    fast = bool(capability.get("avx512_bf16") or capability.get("amx_bf16"))
    return "bfloat16" if fast and halves_serve(device) else "float32"


def held_type(kinds: Collection[str], compute: str) -> torch.dtype:
    """Return the type to load weights in, given the types in their files.

    Half precision is kept if all tensors have it and no product is finer.
    """
    halves = {"BF16": torch.bfloat16, "F16": torch.float16}
    if compute == "float32" or len(kinds) != 1:
        return torch.float32
    return halves.get(next(iter(kinds)), torch.float32)


@cache
def halves_serve(device: str) -> bool:
    """Return whether bfloat16 products are correct, and no slower than float32.

    Cached, so that precision is the same before and after training. The fastest of
    several runs is compared, with a margin for a busy machine.
    """
    whole = torch.linspace(-1.0, 1.0, 512 * 512, device=device).view(512, 512)
    half = whole.bfloat16()
    exact = half.float() @ half.float()
    far = ((half @ half).float() - exact).abs().max() / exact.abs().max()
    return bool(far < HALF_ERROR) and least_time(half) < SLOWER * least_time(whole)


def least_time(matrix: Tensor) -> float:
    """Return the seconds of multiplying a matrix by itself, best of several."""
    return min(repeat(lambda: float((matrix @ matrix)[0, 0]), number=1))
