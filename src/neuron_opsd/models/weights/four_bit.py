"""Frozen matrices in four bits (QLoRA), packed on loading by bitsandbytes.

Each product unpacks its matrix, and the graph keeps only the packed one. Results equal
those of a file with the rounded matrices, including an adapter's small changes.

Axes: K inputs and O outputs of a layer, r extra columns.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from neuron_opsd.config import Config, ModelConfig
from neuron_opsd.errors import ConfigError, ModelError
from neuron_opsd.models.adapters.low_rank import COLUMNS
from neuron_opsd.models.gguf import is_gguf

UNPACKED: Final = "set model.quantization=none"

NOT_TRAINED: Final = (
    "distill.tuning is full, but model.quantization=nf4 packs the weights into four "
    f"bits, which cannot be trained; set distill.tuning=lora, or {UNPACKED}"
)


def check_quantization(config: Config) -> None:
    """Refuse settings that a four-bit model cannot have.

    Raises:
        ConfigError: Naming the setting and what to use instead.
        ModelError: If bitsandbytes is missing or the model is a GGUF file.
    """
    if config.model.quantization != "none" and config.distill.tuning == "full":
        raise ConfigError(NOT_TRAINED)
    check_packable(config.model)


def check_packable(model: ModelConfig) -> None:
    """Refuse a model that should be packed but cannot be."""
    if model.quantization == "none":
        return
    if is_gguf(Path(model.name).expanduser()):
        raise ModelError(
            f"{model.name} is a GGUF file, and model.quantization=nf4 would round its "
            "weights a second time; give the checkpoint that it was made from, or "
            f"{UNPACKED}"
        )
    if find_spec("bitsandbytes") is None:
        raise ModelError(
            "model.quantization is nf4, which needs bitsandbytes, and that is not "
            f"installed; run pip install 'neuron-opsd[qlora]', or {UNPACKED}"
        )


def packing(quantization: Literal["none", "nf4"], device: str) -> dict[str, Any]:
    """Return transformers' options for packing matrices on loading."""
    if quantization == "none":
        return {}
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization,
        bnb_4bit_use_double_quant=True,
    )
    return {"quantization_config": settings, "device_map": {"": device}}


def rounded_to_four_bits(matrix: Tensor) -> Tensor:
    """Return a matrix as it is after packing, in its own type."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    found: Tensor = dequantize_4bit(
        *quantize_4bit(matrix, compress_statistics=True, quant_type="nf4")
    )
    return found


class PackedLinear(nn.Linear):
    """A linear layer that unpacks its matrix for each product."""

    def __init__(self, packed: Any) -> None:
        with torch.device("meta"):
            super().__init__(packed.in_features, packed.out_features, bias=False)
        self.bias = packed.bias
        self.state = packed.weight.quant_state
        self.weight = nn.Parameter(packed.weight.data, requires_grad=False)
        self.register_buffer(COLUMNS, None, persistent=False)

    def matrix(self) -> Tensor:
        """Return the unpacked matrix ``(O, K)``, in its original precision."""
        from bitsandbytes.functional import dequantize_4bit

        found: Tensor = dequantize_4bit(self.weight.data, self.state)
        return found

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as torch calls it
        """Multiply ``(..., K)``, or ``(..., K + r)`` with extra columns."""
        kind = input.dtype
        if torch.is_autocast_enabled(input.device.type):
            kind = torch.get_autocast_dtype(input.device.type)
        given: nn.Parameter | None = self.bias
        bias = None if given is None else given.to(kind)
        # Bound now; the next pass may replace them.
        columns: Tensor | None = getattr(self, COLUMNS)

        def whole(kind: torch.dtype) -> Tensor:
            matrix = self.matrix().to(kind)
            return matrix if columns is None else torch.cat([matrix, columns], dim=1)

        output: Tensor = Unpacking.apply(input.to(kind), whole, bias)  # type: ignore[no-untyped-call]
        return output

    def _apply(self, fn: Any, recurse: bool = True) -> Any:  # noqa: FBT001, FBT002
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.state.to(self.weight.device)
        return self


class Unpacking(torch.autograd.Function):
    """A product whose graph keeps only the packed matrix."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, whole: Any, bias: Tensor | None) -> Tensor:
        """Multiply by what `whole` unpacks, and add a bias."""
        ctx.whole = whole
        with torch.autocast(states.device.type, enabled=False):
            return nn.functional.linear(states, whole(states.dtype), bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the states."""
        with torch.autocast(grad.device.type, enabled=False):
            return grad @ ctx.whole(grad.dtype), None, None


def take_over(network: Any) -> Any:
    """Replace the packed layers of bitsandbytes with ours."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(getattr(child, "weight", None), "quant_state"):
                setattr(parent, name, PackedLinear(child))
    return network


def is_packed(network: nn.Module) -> bool:
    """Return whether a network holds packed matrices."""
    return any(isinstance(module, PackedLinear) for module in network.modules())
