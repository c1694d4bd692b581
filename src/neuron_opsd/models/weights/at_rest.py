"""Weights kept in their file's precision, computed with as if float32.

Only matrices of products stay in half precision. Norms, biases and buffers are float32,
as are embedding rows after lookup, so the values equal those of a file loaded in
float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

HALVES: Final = torch.bfloat16, torch.float16

DTYPE: Final[Any] = vars(torch._C.TensorBase)["dtype"].__get__  # noqa: SLF001
"""Called when code reads a tensor's `dtype`."""


class AsFloat32(TorchFunctionMode):
    """Computes as if half-precision weights were float32.

    Each is converted for one operation only; of an embedding, only the rows looked up.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func is nn.functional.embedding:
            return func(*args, **given).float()
        if func == DTYPE:
            found = func(*args)
            return torch.float32 if found in HALVES else found
        if getattr(func, "__name__", "") == "__get__":
            return func(*args, **given)
        widened = {name: as_float32(value) for name, value in given.items()}
        return func(*map(as_float32, args), **widened)


def as_float32(value: Any) -> Any:
    """Convert half-precision tensors to float32, nothing else."""
    halves = isinstance(value, Tensor) and value.dtype in HALVES
    return value.float() if halves else value


class LooksUpInFloat32:
    """A half-precision embedding that returns float32 rows."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Look up and scale rows in float32."""
        with AsFloat32():
            return super().forward(*args, **kwargs)  # type: ignore[misc]


def look_up_in_float32(embedding: Any) -> None:
    """Let an embedding of any family return float32 rows."""
    kind = type(embedding)
    embedding.__class__ = type(kind.__name__, (LooksUpInFloat32, kind), {})


def hold_halves(network: Any, exact: Mapping[str, Tensor]) -> None:
    """Keep multiplied matrices in bfloat16, everything else in float32.

    Embedding and head keep their file's type: float16 must not be rounded for lookups
    and divergences. `exact` has the float32 buffers by name; the network's may be
    rounded.
    """
    head = network.get_output_embeddings()
    for module in list(network.modules()):
        if isinstance(module, nn.Embedding):
            look_up_in_float32(module)
        for name, weight in module.named_parameters(recurse=False):
            if weight.is_floating_point():  # not packed
                is_end = module is head or isinstance(module, nn.Embedding)
                matrix = weight.dtype if is_end else torch.bfloat16
                kind = matrix if is_matrix(module, name, weight) else torch.float32
                weight.data = weight.data.to(kind)
    for name, buffer in network.named_buffers():
        if buffer.dtype in HALVES:
            buffer.data = exact[name].to(buffer.device)


def is_matrix(module: nn.Module, name: str, weight: Tensor) -> bool:
    """Return whether a weight is only used in products or looked up by row."""
    if isinstance(module, nn.Linear | nn.Embedding):
        return name == "weight"
    # Stacked experts.
    return weight.ndim == 3 and not isinstance(module, nn.Conv1d)


def is_half(network: nn.Module) -> bool:
    """Return whether a network's matrices are in half precision."""
    return next(network.parameters()).dtype in HALVES  # the embedding's
