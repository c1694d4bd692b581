"""Bytes of tensors that live at once on a processor, counted operation by operation."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is entered and still live."""

    def __init__(self) -> None:
        """Begin with nothing."""
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
        given = {key_of(one) for one in args if isinstance(one, Tensor)}
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            # A view of what was there before is nothing new.
            if isinstance(tensor, Tensor) and key_of(tensor) not in given:
                self._count(tensor)
        return made

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = key_of(tensor)
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, key, storage.nbytes())

    def _forget(self, key: int, count: int) -> None:
        self._seen.discard(key)
        self.now -= count


def key_of(tensor: Tensor) -> int:
    """Return what tells the memory of a tensor from that of others."""
    key: int = tensor.untyped_storage()._cdata  # noqa: SLF001
    return key


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most bytes of tensors that work makes and holds at once."""
    live = LiveBytes()
    with live:
        work()
    return live.most
