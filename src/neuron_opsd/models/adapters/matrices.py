"""A network and its matrices, each held once for all models that are made of it.

The frozen model, a student and its teacher, and a model that is tested with an adapter
differ in low-rank changes alone. Beside a matrix ``(O, K)`` its storage has room for
columns: the frozen model multiplies by the first K, a student or a teacher by all, and
the last ones are written over when another asks. A product with such a view is as fast
as with a matrix of its own and has the same bits.

Axes: K inputs and O outputs of a linear layer, r rank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neuron_opsd.models.adapters.low_rank import COLUMNS, DOWN, UP, Changes


class Matrices:
    """A decoder's matrices in the type of products.

    Those of a float32 file are rounded once where products are in bfloat16; others are
    the network's own. Changes that are given must be in the type of products.
    """

    def __init__(self, network: Any, kind: torch.dtype) -> None:
        self.decoder: nn.Module = network.get_decoder()
        self.kind = kind
        self._network = network
        self._rounded: dict[str, Tensor] | None = None
        self._head: Tensor | None = None
        self._wide: dict[str, Tensor] = {}
        self._written: Changes | None = None

    @property
    def head(self) -> Tensor:
        """The unembedding ``(V, D)`` for products without gradient."""
        weight: Tensor = self._network.get_output_embeddings().weight.detach()
        if weight.dtype == self.kind:
            return weight
        if self._head is None:
            with torch.inference_mode(mode=False):
                self._head = weight.to(self.kind)
        return self._head

    def apart(self, changes: Changes) -> dict[str, Tensor]:
        """Return weights that add changes to rounded products, as PEFT's layers do."""
        result = dict(self._plain())
        for name, change in changes.items():
            result |= {f"{name}.{DOWN}": change.down, f"{name}.{UP}": change.up}
        return result

    def widened(self, changes: Changes) -> dict[str, Tensor]:
        """Return weights that round a product and its changes once.

        They hold until changes of another identity are asked for.
        """
        if self._written is not changes:
            self._write(changes)
        result = dict(self._plain())
        for name, change in changes.items():
            result[f"{name}.{DOWN}"] = change.down
            if self._is_packed(name):
                result[f"{name}.{COLUMNS}"] = change.up
            else:
                columns = self._inputs(name) + len(change.down)
                result[f"{name}.weight"] = self._wide[name][:, :columns]
        return result

    def learning(self, changes: Changes, own: Changes) -> dict[str, Tensor]:
        """Return weights widened with changes, the last of which, `own`, learn."""
        result = self.widened(changes)
        for name, change in own.items():
            before = changes[name].down[: -len(change.down)]
            result[f"{name}.{DOWN}"] = torch.cat([before, change.down])
            result[f"{name}.{UP}"] = change.up
        return result

    def release(self) -> None:
        """Free what was rounded; it is rounded again when it is needed."""
        self._rounded, self._head = None, None
        self._wide, self._written = {}, None

    def _plain(self) -> dict[str, Tensor]:
        """Return the matrices that are not the network's own, rounded once."""
        if self._rounded is None:
            with torch.inference_mode(mode=False):
                self._rounded = {
                    f"{name}.weight": module.weight.detach().to(self.kind)
                    for name, module in self.decoder.named_modules()
                    if isinstance(module, nn.Linear)
                    and module.weight.dtype == torch.float32 != self.kind
                }
        return self._rounded

    def _write(self, changes: Changes) -> None:
        """Put changes into the columns beside their matrices."""
        self._written = None
        # Training asks for gradients through them.
        with torch.inference_mode(mode=False), torch.no_grad():
            for name, change in changes.items():
                if self._is_packed(name):
                    continue
                inputs = self._inputs(name)
                columns = inputs + len(change.down)
                self._room(name, columns)[:, inputs:columns] = change.up
        self._written = changes

    def _is_packed(self, name: str) -> bool:
        """Whether a layer's matrix is unpacked for each product."""
        return hasattr(self.decoder.get_submodule(name), COLUMNS)

    def _inputs(self, name: str) -> int:
        layer: Any = self.decoder.get_submodule(name)
        inputs: int = layer.in_features
        return inputs

    def _room(self, name: str, columns: int) -> Tensor:
        """Return the storage of a matrix with room for columns, moved if need be."""
        wide = self._wide.get(name)
        if wide is None or wide.shape[1] < columns:
            layer: Any = self.decoder.get_submodule(name)
            rounded = self._plain()
            matrix = rounded.get(f"{name}.weight", layer.weight.detach())
            wide = matrix.new_empty(len(matrix), columns)
            inputs = matrix.shape[1]
            wide[:, :inputs] = matrix
            if f"{name}.weight" in rounded:
                rounded[f"{name}.weight"] = wide[:, :inputs]
            else:
                layer.weight.data = wide[:, :inputs]
            self._wide[name] = wide
        return wide


class Held:
    """A network and its matrices, which models that differ in changes alone share.

    Under `full` tuning the network where training begins is seldom asked again, so it
    may be dropped, and is loaded again by whoever does ask.
    """

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
