"""Find tensors with NaN or infinite values by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from neuron_opsd.errors import ModelError


def first_not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Return the name of the first tensor that is not finite, or ""."""
    # Scalars are step counts, on the CPU whatever the device.
    large = {name: tensor for name, tensor in tensors.items() if tensor.dim() > 0}
    if not large:
        return ""
    ends = torch.stack([torch.stack(torch.aminmax(t)) for t in large.values()])
    finite = ends.isfinite().all(dim=-1).tolist()
    return next((n for n, ok in zip(large, finite, strict=True) if not ok), "")


def refuse_not_finite(what: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse weights that are not all finite.

    A sum is finite if all values are, unless enormous, so one pass clears nearly every
    tensor.
    """
    for name, tensor in tensors:
        values = tensor.detach()
        if not values.is_floating_point() or bool(values.sum().isfinite()):
            continue
        if wrong := int((~torch.isfinite(values)).sum()):
            raise ModelError(
                f"{what}: {wrong} of the {values.numel()} values of {name} are not "
                "finite (NaN or infinite); the file is damaged, or its training failed"
            )
