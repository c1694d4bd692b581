"""Bytes that passes really hold, counted: what graphs save, and what lives at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from neuron_opsd.models.learner import HFLearner
from neuron_opsd.records import Pair


def saved_bytes(learner: HFLearner, pairs: Sequence[Pair]) -> int:
    """Return the bytes that the graph of a student's pass keeps, weights left out."""
    held = {storage_of(weight) for weight in learner.network.parameters()}
    held |= {storage_of(buffer) for buffer in learner.network.buffers()}
    with torch.no_grad():
        learner.student(pairs[:1])  # prepares what is kept between passes
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


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is entered and still live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.most = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation and count what it made."""
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return made

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001 - one for each memory
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, key, storage.nbytes())

    def _forget(self, key: int, count: int) -> None:
        self._seen.discard(key)
        self.now -= count


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most bytes of tensors that work makes and holds at once."""
    live = LiveBytes()
    with live:
        work()
    return live.most
