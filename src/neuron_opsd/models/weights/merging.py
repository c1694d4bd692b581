"""A base with an adapter's changes added, one tensor at a time.

Tensors are read, changed and written in the order and under the names of the base's
files, with memory only for the largest.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from torch import Tensor, nn

from neuron_opsd.config import ModelConfig
from neuron_opsd.errors import ModelError
from neuron_opsd.models.adapters.low_rank import LowRank
from neuron_opsd.models.adapters.reading import decoder_prefix, read_adapter
from neuron_opsd.models.description import loading, quiet, settings_of
from neuron_opsd.models.forward.layers import InputMajor, outlined
from neuron_opsd.models.weights.four_bit import check_packable, rounded_to_four_bits
from neuron_opsd.models.weights.location import source_of
from neuron_opsd.models.weights.precision import held_type
from neuron_opsd.models.weights.shards import Source, header_of, stored_weights

KINDS: Final[Mapping[str, torch.dtype]] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Tensor types by their safetensors names."""

DTYPES: Final[Mapping[str, torch.dtype | None]] = {
    "base": None,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""Types to write, by name; `base` keeps each tensor's own."""

NAMES: Final = {kind: name for name, kind in KINDS.items()}


@dataclass(slots=True, eq=False)
class Arrival:
    """How much of an adapter's change survives rounding."""

    along: float = 0.0
    """Sum of the change before times after rounding."""
    wanted: float = 0.0
    """Sum of squares of the change."""

    @property
    def share(self) -> float:
        """Share of the change left by rounding; 1 is all."""
        return self.along / self.wanted if self.wanted else 1.0

    def add(self, base: Tensor, change: Tensor, rounded: Tensor) -> None:
        """Count one matrix; all three are float32."""
        self.along += float(((rounded - base) * change).sum())
        self.wanted += float(change.square().sum())


@dataclass(frozen=True, slots=True)
class Spec:
    """A tensor's type and shape."""

    kind: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of its values."""
        return self.kind.itemsize * torch.Size(self.shape).numel()


@dataclass(frozen=True, slots=True, eq=False)
class MergedWeights:
    """A model's weights, each with an adapter's change added."""

    source: Source
    settings: Any
    dtype: torch.dtype | None = None
    """Type of every tensor; `None` keeps each file's own."""
    changes: Mapping[str, LowRank] = field(default_factory=dict)
    """By stored name."""
    transposed: frozenset[str] = frozenset()
    """Stored matrices of shape ``(K, O)``."""
    packed: Mapping[str, torch.dtype] = field(default_factory=dict)
    """Stored matrices that the run packed, and from which type."""
    arrival: Arrival = field(default_factory=Arrival)
    """Filled while tensors are read."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        found = (self.specs(file) for file in self.source.weight_files())
        return sum(spec.num_bytes for some in found for spec in some.values())

    def specs(self, file: Path) -> dict[str, Spec]:
        """Return the specs of a file's merged tensors."""
        found = {}
        for name, entry in header_of(file).items():
            kind = KINDS[entry["dtype"]]
            if self.dtype is not None and kind.is_floating_point:
                kind = self.dtype
            found[name] = Spec(kind, tuple(entry["shape"]))
        return found

    def tensors(self, file: Path) -> Iterator[tuple[str, Tensor]]:
        """Yield the merged tensors of a source file, holding one at a time."""
        specs = self.specs(file)
        with safe_open(file, "pt") as stored:
            for name, spec in specs.items():
                yield name, self._merged(name, stored.get_tensor(name), spec.kind)

    def _merged(self, name: str, base: Tensor, kind: torch.dtype) -> Tensor:
        change = self.changes.get(name)
        if name in self.packed:
            base = rounded_to_four_bits(base.to(self.packed[name]))
        if change is None:
            return fitting(name, base.to(kind))
        product = change.product.float()
        if name in self.transposed:
            product = product.T
        exact = base.float()
        found = (exact + product).to(kind)
        self.arrival.add(exact, product, found.float())
        return fitting(name, found)


def fitting(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor; refuse one that overflowed in float16."""
    if tensor.dtype == torch.float16 and not bool(tensor.isfinite().all()):
        raise ModelError(
            f"{name} holds values that float16 cannot; export with --dtype bfloat16 or "
            "float32"
        )
    return tensor


def merged_weights(
    config: ModelConfig, compute: str, adapter: Path, dtype: torch.dtype | None = None
) -> MergedWeights:
    """Return a base's weights with an adapter's change, not read yet.

    Args:
        config: The base's settings in the run.
        compute: Precision of the run's products; decides the type that matrices were
            packed from.
        adapter: A PEFT adapter that the run trained.
        dtype: Type to write; `None` for the files' own.

    Raises:
        ModelError: If the adapter changes more than matrices of the decoder, or the
            base's files do not name these.
    """
    quiet()
    check_packable(config)
    source = source_of(config)
    settings = settings_of(config, source)
    with loading(config):
        network = outlined(settings)
    layers = stored_layers(config.name, network, source)
    transposed = frozenset(
        layers[name]
        for name, module in network.get_decoder().named_modules()
        if isinstance(module, InputMajor)
    )
    packed: dict[str, torch.dtype] = {}
    if config.quantization != "none":
        kind = held_type(stored_weights(source).kinds, compute)
        packed = dict.fromkeys(layers.values(), kind)
    found = read_adapter(network, adapter)
    if found.rest:
        raise ModelError(
            f"adapter {adapter} holds {found.rest}, which is not a low-rank change of "
            "a linear layer of the decoder, so it is not merged file by file; merge it "
            "with PEFT's merge_and_unload"
        )
    changes = {layers[name]: change for name, change in found.changes.items()}
    return MergedWeights(source, settings, dtype, changes, transposed, packed)


def whole_weights(
    config: ModelConfig, folder: Path, dtype: torch.dtype | None = None
) -> MergedWeights:
    """Return the weights of a model trained with `full` tuning."""
    quiet()
    source = Source(str(folder))
    own = config.model_copy(update={"name": str(folder), "quantization": "none"})
    return MergedWeights(source, settings_of(own, source), dtype)


def stored_layers(model: str, network: Any, source: Source) -> dict[str, str]:
    """Return the stored names of the decoder's matrices, by layer."""
    held = {name for file in source.weight_files() for name in header_of(file)}
    start = decoder_prefix(network)
    named = network.get_decoder().named_modules()
    found = {}
    for name in (name for name, module in named if isinstance(module, nn.Linear)):
        known = f"{start}{name}.weight"
        others = [one for one in held if one.endswith(f"{name}.weight")]
        if known not in held and len(others) != 1:
            raise ModelError(
                f"the files of {model} do not name one matrix {known}, so nothing can "
                "be merged into it file by file; load the model with the adapter in "
                "PEFT and merge it with merge_and_unload"
            )
        found[name] = known if known in held else others[0]
    return found


def write_tensors(
    path: Path,
    specs: Mapping[str, Spec],
    tensors: Iterator[tuple[str, Tensor]],
    on_done: Callable[[int], None],
) -> None:
    """Write a safetensors file while holding only one tensor.

    The library needs all at once. Format: header length (eight bytes), JSON header,
    values in its order, little-endian.

    Args:
        path: A new file.
        specs: What to write, in order.
        tensors: The tensors, in the same order.
        on_done: Called with the bytes of each tensor written.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, spec in specs.items():
        start, end = end, end + spec.num_bytes
        kind, shape = NAMES[spec.kind], list(spec.shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for (name, spec), (given, tensor) in zip(specs.items(), tensors, strict=True):
            if (given, Spec(tensor.dtype, tuple(tensor.shape))) != (name, spec):
                raise ValueError(f"{given} comes where {name} was announced as {spec}")
            file.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
            on_done(spec.num_bytes)
