"""Bytes that the graphs of our passes really keep, counted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neuron_opsd.models.learner import HFLearner
from neuron_opsd.records import Pair


def saved_bytes(learner: HFLearner, pairs: Sequence[Pair]) -> int:
    """Return the bytes that the graph of a student's pass keeps, weights left out."""
    with torch.no_grad():
        learner.student(pairs[:1])  # puts what is kept between passes in its place
    held = {storage_of(weight) for weight in learner.network.parameters()}
    held |= {storage_of(buffer) for buffer in learner.network.buffers()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[storage_of(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        learner.student(pairs)
    return sum(
        tensor.untyped_storage().nbytes()
        for storage, tensor in kept.items()
        if storage not in held
    )


def storage_of(tensor: Tensor) -> int:
    """Return what tensors have in common that are views of one memory."""
    return tensor.untyped_storage().data_ptr()
