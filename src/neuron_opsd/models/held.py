"""A network and its matrices, which models that differ in changes alone have in common.

Under `full` tuning the network where training begins is seldom asked again, and would
stand in memory beside the one that is trained. So it may be dropped, and is loaded
again by whoever does ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from neuron_opsd.models.adapters.matrices import Matrices


class Held:
    """A network, loaded again if it was dropped."""

    def __init__(self, network: Any, load: Callable[[], Any] | None = None) -> None:
        """Hold a network; `load` returns its like, and without it none is dropped."""
        self._network = network
        self._load = load
        self._matrices: dict[torch.dtype, Matrices] = {}

    @property
    def network(self) -> Any:
        """The network itself."""
        if self._network is None and self._load is not None:
            self._network = self._load()
        return self._network

    def matrices(self, kind: torch.dtype) -> Matrices:
        """Return the network's matrices for products in a type."""
        if kind not in self._matrices:
            self._matrices[kind] = Matrices(self.network, kind)
        return self._matrices[kind]

    def release(self) -> None:
        """Free what was made of the network; it is made again when it is needed."""
        self._matrices.clear()

    def drop(self) -> None:
        """Free the network too, if it can be loaded again."""
        if self._load is not None:
            self.release()
            self._network = None
