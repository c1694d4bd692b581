"""A model that moves, and its slower teacher: one network, two sets of weights.

The teacher is no second network. It is a second value for each trained tensor, run
through the same code by `torch.func.functional_call`. While it is asked, the matrices
that an adapter changes are held once more, merged, in the precision of products.

Axes: N completion tokens of a batch, D residual width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from neuron_opsd.models.hf import HFModel, padded, predicting_positions
from neuron_opsd.models.protocol import Head, Pair

ADAPTER = "default"
"""PEFT's name of the one adapter that is trained."""


class HFLearner(HFModel):
    """The student, its teacher's weights and its optimiser."""

    def __init__(
        self, model: HFModel, trained: Any, *, weight_decay: float, max_grad_norm: float
    ) -> None:
        """Take over a model.

        Args:
            model: Its network already holds the adapter, if there is one.
            trained: What `save_pretrained` is called on: the PEFT model or the network.
            weight_decay: Of AdamW, decoupled.
            max_grad_norm: Gradients are scaled down to this norm.
        """
        super().__init__(
            model.network,
            model.tokens,
            model.facts,
            model.mlps,
            model.tokens_per_batch,
        )
        self.trained = trained
        self.max_grad_norm = max_grad_norm
        self.weights: dict[str, nn.Parameter] = {
            name: weight
            for name, weight in self.network.named_parameters()
            if weight.requires_grad
        }
        self.teacher: dict[str, Tensor] = {
            name: weight.detach().clone() for name, weight in self.weights.items()
        }
        self._merged: dict[str, Tensor] | None = None
        self.optimizer = torch.optim.AdamW(
            self.weights.values(), lr=0.0, weight_decay=weight_decay, foreach=False
        )

    def student_hidden(self, pairs: Sequence[Pair]) -> Tensor:
        """Return ``(N, D)`` states that predict the completions, with gradient."""
        return self.states(pairs)

    def teacher_hidden(self, pairs: Sequence[Pair]) -> Tensor:
        """Return the same under the teacher's weights, without gradient."""
        decoder = self.network.get_decoder()
        rows, columns = predicting_positions(pairs, after=0)
        with torch.no_grad(), self.computing(), without_adapter(self.trained):
            ids = padded(pairs).to(self.device)
            output = torch.func.functional_call(
                decoder,
                self._teacher_values(),
                kwargs={"input_ids": ids, "use_cache": False},
            )
        hidden: Tensor = output.last_hidden_state
        return hidden[rows, columns]

    def teacher_head(self) -> Head:
        """Return the teacher's unembedding."""
        student = self.student_head()
        for name, weight in self.weights.items():
            if weight is student.weight:
                return Head(self.teacher[name], student.softcap)
        return student

    def step(self, learning_rate: float) -> float:
        """Apply the gradients gathered so far; return their norm before clipping.

        Raises:
            FloatingPointError: If the norm is not finite; no weight has moved then.
        """
        weights = list(self.weights.values())
        norm = nn.utils.clip_grad_norm_(weights, self.max_grad_norm, foreach=False)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the gradient's norm is {norm.item()}")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def update_teacher(self, rate: float) -> None:
        """Move the teacher's weights the share `rate` of the way to the student's."""
        self._merged = None
        for name, weight in self.weights.items():
            self.teacher[name].lerp_(weight.detach(), rate)

    def state(self) -> dict[str, Tensor]:
        """Return copies of student, teacher and optimiser for a checkpoint."""
        saved: dict[str, Tensor] = {}
        for name, weight in self.weights.items():
            saved[f"student.{name}"] = weight.detach()
            saved[f"teacher.{name}"] = self.teacher[name]
            for key, value in self.optimizer.state.get(weight, {}).items():
                saved[f"optimizer.{key}.{name}"] = value
        return {
            name: value.detach().cpu().clone().contiguous()
            for name, value in saved.items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go back to what `state` returned."""
        self._merged = None
        keys = sorted({k.split(".")[1] for k in state if k.startswith("optimizer.")})
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state[f"student.{name}"])
                self.teacher[name].copy_(state[f"teacher.{name}"])
                if keys:
                    # `step` counts on the processor whatever the device.
                    self.optimizer.state[weight] = {
                        key: self._moment(state[f"optimizer.{key}.{name}"], key)
                        for key in keys
                    }

    def save_adapter(self, folder: Path) -> None:
        """Write what training made: a PEFT adapter, or a whole model after `full`."""
        if self.trained is self.network:
            self.network.save_pretrained(folder)
            self.tokens.tokenizer.save_pretrained(folder)
            return
        # Otherwise PEFT asks the hub whether the embedding was resized.
        self.trained.save_pretrained(folder, save_embedding_layers=False)
        sort_targets(folder / "adapter_config.json")

    def _teacher_values(self) -> dict[str, Tensor]:
        """Return the teacher's weights under the decoder's names, kept until they move.

        An adapter is merged into the weights that it adapts, and matrices are rounded
        to the precision of products once, so that the teacher runs as fast as a model
        without an adapter.
        """
        if self._merged is None:
            decoder = self.network.get_decoder()
            name_of = {id(weight): name for name, weight in self.weights.items()}
            values = {
                inner: self.teacher[name_of[id(weight)]]
                for inner, weight in decoder.named_parameters()
                if id(weight) in name_of
            }
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                self._merged = merged(decoder, values, self._product_type())
        return self._merged

    def _product_type(self) -> torch.dtype:
        reduced = self.facts.compute == "bfloat16"
        return torch.bfloat16 if reduced else torch.float32

    def _moment(self, value: Tensor, key: str) -> Tensor:
        copy = value.clone()
        return copy if key == "step" else copy.to(self.device)


def without_adapter(trained: Any) -> AbstractContextManager[Any]:
    """Return a context in which a PEFT model runs the weights below its adapter."""
    if isinstance(trained, PeftModel):
        return trained.disable_adapter()
    return nullcontext()


def merged(
    decoder: nn.Module, values: Mapping[str, Tensor], product_type: torch.dtype
) -> dict[str, Tensor]:
    """Return the weights with which a decoder runs as `values` say, no adapter on.

    Args:
        decoder: Holds PEFT's layers where an adapter is trained.
        values: Trained weights by the decoder's names: an adapter's, or all.
        product_type: What the matrices of linear layers are rounded to.
    """
    result = dict(values)
    for name, module in decoder.named_modules():
        if isinstance(module, LoraLayer):
            down = result.pop(f"{name}.lora_A.{ADAPTER}.weight")
            up = result.pop(f"{name}.lora_B.{ADAPTER}.weight")
            weight = module.get_base_layer().weight + module.scaling[ADAPTER] * (
                up @ down
            )
            result[f"{name}.base_layer.weight"] = weight.to(product_type)
        elif isinstance(module, nn.Linear) and f"{name}.weight" in result:
            result[f"{name}.weight"] = result[f"{name}.weight"].to(product_type)
    return result


def sort_targets(path: Path) -> None:
    """Put the adapter's target modules in order; PEFT writes a set in any order."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["target_modules"] = sorted(settings["target_modules"])
    path.write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")
