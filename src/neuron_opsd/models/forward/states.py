"""Mean hidden states of a layer over some positions of a pass.

Axes: B rows of a batch, T positions, D residual width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuron_opsd.errors import ModelError, NotFiniteError
from neuron_opsd.records import Pair


class MeanStates:
    """Watches a layer while pairs, padded on the right, go through a network."""

    def __init__(self, network: Any, layer: int, pairs: Sequence[Pair]) -> None:
        """Watch what a layer, counted from 1, gives at the completions of pairs.

        Raises:
            ModelError: If the network keeps no list of its layers.
        """
        self._layer = layer
        self._pairs = pairs
        self._means: list[Tensor] = []
        self._handle = layers_of(network)[layer - 1].register_forward_hook(self._see)

    def __enter__(self) -> MeanStates:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _see(self, _module: nn.Module, _given: Any, output: Any) -> None:
        """Take the states ``(B, T, D)``, beside which some families return more."""
        states = output[0] if isinstance(output, tuple) else output
        for row, (prompt, completion) in zip(states, self._pairs, strict=True):
            own = row[len(prompt) : len(prompt) + len(completion)]
            self._means.append(own.float().mean(dim=0))

    def found(self) -> list[NDArray[np.float32]]:
        """Return the mean ``(D,)`` of each pair.

        Raises:
            NotFiniteError: If one is not finite; its places are pairs'.
        """
        found = torch.stack(self._means)
        if wrong := (~found.isfinite().all(dim=1)).nonzero().flatten().tolist():
            what = f"hidden states of layer {self._layer} are not finite"
            raise NotFiniteError(what, wrong)
        return list(found.cpu().numpy())


def layers_of(network: Any) -> nn.ModuleList:
    """Return the layers of a decoder, first layer first."""
    count = network.config.num_hidden_layers
    for module in network.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ModelError(
        f"a {network.config.model_type} model keeps its layers where no hidden state "
        "can be read; choose another contexts.rule"
    )
