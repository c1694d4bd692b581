"""Linear layers that some families keep transposed, turned into plain ones.

GPT-2 multiplies by ``(inputs, outputs)`` matrices. Adapters, merging and rounding here
know ``(outputs, inputs)``; a square matrix taken the wrong way round would be wrong
without a word.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


class InputMajor(nn.Linear):
    """A linear layer whose files hold its weight as ``(inputs, outputs)``."""

    def _save_to_state_dict(
        self,
        destination: dict[str, Tensor],
        prefix: str,
        keep_vars: bool,  # noqa: FBT001 - as torch calls it
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        name = f"{prefix}weight"
        destination[name] = destination[name].t().contiguous()


def as_linear(network: Any) -> Any:
    """Turn the transposed layers of a network into plain ones; it computes as before.

    What `save_pretrained` writes of it is what its family reads.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Conv1D):
                setattr(parent, name, plain(child))
    return network


def plain(layer: Conv1D) -> InputMajor:
    """Return a transposed layer as a plain one."""
    inputs, outputs = layer.weight.shape
    with torch.device("meta"):
        made = InputMajor(inputs, outputs)
    made.weight = nn.Parameter(
        layer.weight.detach().t().contiguous(), requires_grad=layer.weight.requires_grad
    )
    made.bias = layer.bias
    return made
