"""A network and its matrices, held once for all models made from it.

The frozen model, student, teacher and any model with an adapter differ only in low-rank
changes. A matrix ``(O, K)`` is stored with room for extra columns: the frozen model
multiplies by the first K, the others by all, and the extra ones are overwritten when
another model needs them. Products with such views are as fast as others, and
bit-identical.

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

    Float32 matrices are rounded once for bfloat16 products; others are the network's
    own. Changes must already be in that type.
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
        """Return weights that add changes to rounded products, as PEFT does."""
        result = dict(self._plain())
        for name, change in changes.items():
            result |= {f"{name}.{DOWN}": change.down, f"{name}.{UP}": change.up}
        return result

    def widened(self, changes: Changes) -> dict[str, Tensor]:
        """Return weights that round a product together with its changes, once.

        Valid until called with a different `changes` object.
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
        """Return weights widened with `changes`, of which the last, `own`, learn."""
        result = self.widened(changes)
        for name, change in own.items():
            before = changes[name].down[: -len(change.down)]
            result[f"{name}.{DOWN}"] = torch.cat([before, change.down])
            result[f"{name}.{UP}"] = change.up
        return result

    def release(self) -> None:
        """Free rounded copies; they are rebuilt when needed."""
        self._rounded, self._head = None, None
        self._wide, self._written = {}, None

    def _plain(self) -> dict[str, Tensor]:
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
        """Write changes into the extra columns of their matrices."""
        self._written = None
        # Training takes gradients through them.
        with torch.inference_mode(mode=False), torch.no_grad():
            for name, change in changes.items():
                if self._is_packed(name):
                    continue
                inputs = self._inputs(name)
                columns = inputs + len(change.down)
                self._room(name, columns)[:, inputs:columns] = change.up
        self._written = changes

    def _is_packed(self, name: str) -> bool:
        return hasattr(self.decoder.get_submodule(name), COLUMNS)

    def _inputs(self, name: str) -> int:
        layer: Any = self.decoder.get_submodule(name)
        inputs: int = layer.in_features
        return inputs

    def _room(self, name: str, columns: int) -> Tensor:
        """Return a matrix's storage with enough columns."""
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
    """A network and its matrices, shared by models that differ only in changes.

    `full` tuning rarely needs the starting network, so it is dropped and loaded on
    demand.
    """

    def __init__(self, network: Any, load: Callable[[], Any] | None = None) -> None:
        """Hold a network; without `load` it is never dropped."""
        self._network = network
        self._load = load
        self._matrices: dict[torch.dtype, Matrices] = {}

    @property
    def network(self) -> Any:
        """The network, loaded again if it was dropped."""
        if self._network is None and self._load is not None:
            self._network = self._load()
        return self._network

    def matrices(self, kind: torch.dtype) -> Matrices:
        """Return the matrices for products in type `kind`."""
        if kind not in self._matrices:
            self._matrices[kind] = Matrices(self.network, kind)
        return self._matrices[kind]

    def release(self) -> None:
        """Free what was derived from the network."""
        self._matrices.clear()

    def drop(self) -> None:
        """Free the network too, if it can be loaded again."""
        if self._load is not None:
            self.release()
            self._network = None
