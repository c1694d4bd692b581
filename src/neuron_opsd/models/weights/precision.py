"""The precision of matrix products: half where that is right and fast, else single."""

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
"""More than rounding can put into a product in bfloat16, beside its largest entry."""

SLOWER: Final = 1.5
"""A product in bfloat16 that takes so many times as long as in float32 is no gain."""


def device_of(config: ModelConfig) -> str:
    """Return the device that the settings mean."""
    if config.device != "auto":
        return config.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def compute_of(config: ModelConfig, device: str) -> str:
    """Return the precision of matrix products that the settings mean."""
    if config.compute != "auto":
        return config.compute
    if device.startswith("cuda"):
        hardware = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if hardware else "float32"
    capability = processor_features()
    fast = bool(capability.get("avx512_bf16") or capability.get("amx_bf16"))
    return "bfloat16" if fast and halves_serve(device) else "float32"


def held_type(kinds: Collection[str], compute: str) -> torch.dtype:
    """Return the type to load weights in, of files that hold tensors of these kinds.

    Half precision is kept where all of a file is in it and no product is finer.
    """
    halves = {"BF16": torch.bfloat16, "F16": torch.float16}
    if compute == "float32" or len(kinds) != 1:
        return torch.float32
    return halves.get(next(iter(kinds)), torch.float32)


@cache
def halves_serve(device: str) -> bool:
    """Whether products in bfloat16 are right here, and no slower than in float32.

    Asked once a process, so that a model is never tested in one precision before
    training and in another after it. The least of a few times is compared, with room,
    so that a busy machine changes nothing.
    """
    whole = torch.linspace(-1.0, 1.0, 512 * 512, device=device).view(512, 512)
    half = whole.bfloat16()
    exact = half.float() @ half.float()
    far = ((half @ half).float() - exact).abs().max() / exact.abs().max()
    return bool(far < HALF_ERROR) and least_time(half) < SLOWER * least_time(whole)


def least_time(matrix: Tensor) -> float:
    """Return the seconds of a product of a matrix with itself, the least of a few."""
    return min(repeat(lambda: float((matrix @ matrix)[0, 0]), number=1))
