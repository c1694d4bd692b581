"""Weights held in the precision of their file, and computed with as float32 ones are.

All that is no product stays in float32: norms, biases and buffers are held so, and rows
of an embedding become so when they are looked up. So the numbers are those of the file
loaded in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

HALVES: Final = torch.bfloat16, torch.float16

DTYPE: Final[Any] = vars(torch._C.TensorBase)["dtype"].__get__  # noqa: SLF001
"""What is called when code asks for the type of a tensor."""


class AsFloat32(TorchFunctionMode):
    """Lets what runs inside compute as if weights of half precision were float32.

    Each is widened for one operation alone; of an embedding, the rows looked up are.
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
    """Return a tensor of halves in float32, and anything else as it is."""
    halves = isinstance(value, Tensor) and value.dtype in HALVES
    return value.float() if halves else value


class LooksUpInFloat32:
    """An embedding held in half precision whose rows are handed on in float32."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Look rows up, and scale them where the family does, in float32."""
        with AsFloat32():
            return super().forward(*args, **kwargs)  # type: ignore[misc]


def look_up_in_float32(embedding: Any) -> None:
    """Let an embedding hand rows on in float32, whatever its family does to them."""
    kind = type(embedding)
    embedding.__class__ = type(kind.__name__, (LooksUpInFloat32, kind), {})


def hold_halves(network: Any, exact: Mapping[str, Tensor]) -> None:
    """Put matrices that are only multiplied in bfloat16, and all else in float32.

    Embedding and head stay as their file has them: rows of the one are looked up in
    float32 and divergences read out through the other, so float16 must not be rounded.
    `exact` are the buffers in float32 by name, of which the network's may be rounded.
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
    """Whether a weight goes into nothing but products, or rows of it are looked up."""
    if isinstance(module, nn.Linear | nn.Embedding):
        return name == "weight"
    # Those of experts are stacked.
    return weight.ndim == 3 and not isinstance(module, nn.Conv1d)


def is_half(network: nn.Module) -> bool:
    """Whether a network holds its matrices in half precision."""
    return next(network.parameters()).dtype in HALVES  # the embedding's
