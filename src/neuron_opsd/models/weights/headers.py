"""What files of weights hold, read from their headers before anything is loaded.

A header names tensors, their shapes and the bytes where they lie; safetensors refuses
one that contradicts itself. How large a network may be that is built for them is told
here: a configuration alone can ask for more than any machine has.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import safe_open

from neuron_opsd.errors import ModelError
from neuron_opsd.models.weights.shards import weight_files

MOST_HEADER: Final = 32 << 20
"""Bytes of a header; those of the largest models take a third of it."""

FLOATS: Final = ("F64", "F32", "F16", "BF16")
"""Types of weights that are numbers as they stand; others lack their scales."""

LAYER_COUNTS: Final = ("num_hidden_layers", "num_layers", "n_layers", "n_layer")
MOST_COUNTED: Final = 1 << 17
"""More than anything that a configuration counts, from heads to experts."""

SPARE: Final = 1 << 20
"""Weights that a network may have beyond twice those of its files: it ties some."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the files of a model's weights hold."""

    num_tensors: int
    num_weights: int


def stored_weights(source: str, options: Mapping[str, Any]) -> Stored:
    """Return what the files of a folder or hub id hold.

    Raises:
        ModelError: If a header is too long, or weights are not stored as floats.
        SafetensorError: If a header contradicts itself or its file.
    """
    tensors: dict[str, Any] = {}
    for path in weight_files(source, options):
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


def refuse_absurd(name: str, settings: Mapping[str, Any], stored: Stored) -> None:
    """Refuse a configuration that counts more than there can be, or is no number.

    transformers makes a list of all that is counted, so this comes before it reads it.

    Args:
        name: Of the model.
        settings: What `config.json` holds.
        stored: What the files of weights hold.
    """
    for key, value in settings.items():
        if isinstance(value, Mapping):
            refuse_absurd(name, value, stored)
        if isinstance(value, float) and not math.isfinite(value):
            raise ModelError(
                f"config.json of {name} sets {key} to {value}, but it must be finite; "
                "get config.json again"
            )
        if isinstance(value, bool) or not isinstance(value, int):
            continue
        layers = key in LAYER_COUNTS
        most = stored.num_tensors if layers else MOST_COUNTED
        if value > most and (layers or key.startswith("num_")):
            held = f"its files hold {most} tensors" if layers else f"{most} is the most"
            raise ModelError(
                f"config.json of {name} sets {key} to {value}, but {held}; get "
                "config.json and the *.safetensors files again, from one place"
            )


def refuse_unheld(name: str, outline: Any, stored: Stored) -> None:
    """Refuse a network far larger than its files, for which memory would be taken.

    Args:
        name: Of the model.
        outline: The network, without memory for weights.
        stored: What the files of weights hold.
    """
    wanted = sum(weight.numel() for weight in outline.parameters())
    if wanted > 2 * stored.num_weights + SPARE:
        raise ModelError(
            f"config.json of {name} describes {wanted} weights, but its files hold "
            f"{stored.num_weights}; get config.json and the *.safetensors files again, "
            "from one place"
        )
