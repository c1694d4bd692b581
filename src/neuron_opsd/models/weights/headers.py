"""What files of weights hold, read from their headers before anything is loaded.

A header names tensors, their shapes and the bytes that hold them; safetensors refuses
one that contradicts itself.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import safe_open

from neuron_opsd.errors import ModelError
from neuron_opsd.models.weights.shards import Source

MOST_HEADER: Final = 32 << 20
"""Bytes of a header; those of the largest models take a third of it."""

FLOATS: Final = ("F64", "F32", "F16", "BF16")
"""Types of weights that are numbers as they stand; others lack their scales."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the files of a model's weights hold."""

    num_tensors: int
    num_weights: int


def stored_weights(source: Source) -> Stored:
    """Return what a model's files hold.

    Raises:
        ModelError: If a header is too long, or weights are not stored as floats.
        SafetensorError: If a header contradicts itself or its file.
    """
    tensors: dict[str, Any] = {}
    for path in source.weight_files():
        tensors |= header_of(path)
    return Stored(
        len(tensors), sum(math.prod(entry["shape"]) for entry in tensors.values())
    )


def header_of(path: Path) -> dict[str, Any]:
    """Return the tensors that a file of weights names.

    Raises:
        ModelError: If the header is too long, or a weight is stored as no float.
    """
    with path.open("rb") as file:
        start = file.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if MOST_HEADER < size < path.stat().st_size:
            raise ModelError(
                f"{path} has a header of {size} bytes, more than the {MOST_HEADER} of "
                "the largest models; get it again from a place that you trust"
            )
        # What it says is tried against the file's length by the library.
        with safe_open(path, "pt"):
            header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if len(entry["shape"]) > 1 and entry["dtype"] not in FLOATS:
            raise ModelError(
                f"{path} stores {name} as {entry['dtype']}, but weights are read as "
                f"{', '.join(FLOATS)} alone; give the unquantised checkpoint"
            )
    found: dict[str, Any] = header
    return found
