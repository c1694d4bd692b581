"""A model in training and its slower teacher: one network, three sets of weights.

Student and teacher are two values of each trained tensor, on top of the base model's
weights, which are held once. All passes run the base's network with one of the two in
the extra columns of its matrices. `full` tuning has a separate network.

Axes: N completion tokens of a batch, D residual width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from neuron_opsd.config import DistillConfig
from neuron_opsd.errors import NotFiniteError
from neuron_opsd.method.fused_loss import HiddenStates
from neuron_opsd.models.adapters import low_rank
from neuron_opsd.models.adapters.reading import changes_of, sort_targets
from neuron_opsd.models.forward.checkpointing import (
    refuse_unsupported,
    running_again,
    runs_again,
)
from neuron_opsd.models.forward.packing import Apart, Pack, layout_of, packs_of
from neuron_opsd.models.hf import HFModel, ProductWeights
from neuron_opsd.models.library_errors import saving
from neuron_opsd.models.room import batches
from neuron_opsd.models.scoring import Head
from neuron_opsd.models.weights.finite import first_not_finite
from neuron_opsd.models.weights.shards import ADAPTER_SETTINGS
from neuron_opsd.records import Pair

LOOK: Final = 64
"""Entries of a frozen matrix compared between processes."""


class HFLearner(HFModel):
    """The student, its teacher's weights and the optimiser."""

    def __init__(
        self, base: HFModel, network: Any, trained: Any, tuning: DistillConfig
    ) -> None:
        """Start with student and teacher equal.

        The network shares the base's frozen weights and holds the trained ones;
        `trained`, the PEFT model or the network itself, is what is saved.
        """
        refuse_unsupported(tuning.gradient_checkpointing, network.get_decoder())
        super().__init__(network, base.tokens, base.facts, base.room)
        self.frozen = base
        self.trained = trained
        self.max_grad_norm = tuning.max_grad_norm
        self.checkpointing = tuning.gradient_checkpointing
        named = network.named_parameters()
        self.weights: dict[str, nn.Parameter] = {
            name: weight for name, weight in named if weight.requires_grad
        }
        self.teacher_is_base = self._trains_all and tuning.teacher == "frozen"
        self.teacher_weights: dict[str, Tensor] = {}
        """Empty if the base or the student itself is the teacher."""
        if not self._trains_all or tuning.teacher not in ("frozen", "live"):
            values = {n: weight.detach() for n, weight in self.weights.items()}
            self.teacher_weights = {n: value.clone() for n, value in values.items()}
        self._made: dict[str, low_rank.Changes] = {}
        decay = tuning.weight_decay
        self.optimizer = torch.optim.AdamW(
            self.weights.values(), lr=0.0, weight_decay=decay, foreach=False
        )

    def student(self, pairs: Sequence[Pair]) -> HiddenStates:
        """See `Learner`."""
        weights: Mapping[str, Tensor] = {}
        if not self._trains_all:
            own = low_rank.for_products(self._changes(self.weights), self.product_type)
            weights = self.frozen.matrices.learning(self._changes_as("student"), own)
        again = torch.is_grad_enabled() and runs_again(self.checkpointing, pairs)
        computing = partial(self.computing, self.decoder)
        with running_again(self.decoder, computing) if again else nullcontext():
            states = self._states_under(self.decoder, weights, pairs)
        if again:
            states.register_hook(self._before_again)
        return self.head().reading(states)

    def teacher(self, pairs: Sequence[Pair]) -> HiddenStates:
        """See `Learner`."""
        if self.teacher_is_base:
            return self.reference(pairs)
        with torch.no_grad():
            weights = self._weights_as("teacher").decoder
            states = self._states_under(self.decoder, weights, pairs)
        head = self.head()
        for name, weight in self.weights.items():
            if weight is head.weight and self.teacher_weights:
                head = Head(self.teacher_weights[name], head.softcap)
        return head.reading(states)

    def reference(self, pairs: Sequence[Pair]) -> HiddenStates:
        """See `Learner`."""
        with torch.no_grad():
            weights = self.frozen.product_weights().decoder
            states = self._states_under(self.frozen.decoder, weights, pairs)
        return self.frozen.head().reading(states)

    @property
    def decoder(self) -> nn.Module:
        """The base's, or its own under `full` tuning."""
        owner = self if self._trains_all else self.frozen
        decoder: nn.Module = owner.network.get_decoder()
        return decoder

    def product_weights(self) -> ProductWeights:
        """Return the student's weights for passes without gradient."""
        return self._weights_as("student")

    def step(self, learning_rate: float) -> float:
        """See `Learner`."""
        weights = list(self.weights.values())
        given = self.weights.items()
        gradients = {n: w.grad for n, w in given if w.grad is not None}
        norm = nn.utils.get_total_norm(gradients.values(), foreach=False)
        if not torch.isfinite(norm):
            name = first_not_finite(gradients)
            where = f", from that of {name}" if name else ""
            raise NotFiniteError(f"the gradient's norm is {norm.item()}{where}")
        nn.utils.clip_grads_with_norm_(weights, self.max_grad_norm, norm, foreach=False)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.moved()
        return float(norm)

    def moved(self) -> None:
        """Drop caches after the weights have changed."""
        self._made.clear()

    def drop_gradients(self) -> None:
        """See `Learner`."""
        self.optimizer.zero_grad(set_to_none=True)

    def zero_gradients(self) -> None:
        """See `Learner`."""
        for weight in self.weights.values():
            weight.grad = torch.zeros_like(weight)

    def check(self) -> None:
        """See `Learner`."""
        if name := first_not_finite(self._kept()):
            raise NotFiniteError(f"{name} is not finite")

    def update_teacher(self, rate: float) -> None:
        """See `Learner`."""
        self.moved()
        for name, weight in self.weights.items():
            if name in self.teacher_weights:
                self.teacher_weights[name].lerp_(weight.detach(), rate)

    def state(self) -> dict[str, Tensor]:
        """See `Learner`."""
        return {
            name: value.detach().cpu().clone().contiguous()
            for name, value in self._kept().items()
        }

    def digest(self) -> str:
        """See `Learner`; it covers the first entries of each frozen matrix.

        Any merged adapter has changed these.
        """
        kept = list(self._kept().items())
        for name, weight in self.network.named_parameters():
            if not weight.requires_grad:
                kept.append((name, weight.flatten()[:LOOK]))
        for name, change in self.frozen.changes.items():
            kept += [(f"down.{name}", change.down), (f"up.{name}", change.up)]
        digest = hashlib.sha256()
        for name, value in kept:
            digest.update(name.encode())
            held = value.detach().cpu().contiguous().flatten()
            digest.update(held.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _kept(self) -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {}
        for name, weight in self.weights.items():
            kept[f"student.{name}"] = weight.detach()
            if name in self.teacher_weights:
                kept[f"teacher.{name}"] = self.teacher_weights[name]
            for key, value in self.optimizer.state.get(weight, {}).items():
                kept[f"optimizer.{key}.{name}"] = value
        return kept

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Learner`."""
        self.moved()
        keys = sorted({k.split(".")[1] for k in state if k.startswith("optimizer.")})
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state[f"student.{name}"])
                if name in self.teacher_weights:
                    self.teacher_weights[name].copy_(state[f"teacher.{name}"])
                if keys:
                    moments = {k: state[f"optimizer.{k}.{name}"].clone() for k in keys}
                    # `step` stays on the CPU whatever the device.
                    self.optimizer.state[weight] = {
                        key: value if key == "step" else value.to(self.device)
                        for key, value in moments.items()
                    }

    def save_adapter(self, folder: Path) -> None:
        """See `Learner`."""
        with saving():
            if self._trains_all:
                self.trained.save_pretrained(folder)
                self.tokens.tokenizer.save_pretrained(folder)
                return
            # Otherwise PEFT asks the hub about resized embeddings.
            self.trained.save_pretrained(folder, save_embedding_layers=False)
            sort_targets(folder / ADAPTER_SETTINGS)

    @property
    def num_bytes(self) -> int:
        """See `Learner`."""
        return sum(weight.nbytes for weight in self.weights.values())

    def _states_under(
        self, decoder: nn.Module, weights: Mapping[str, Tensor], pairs: Sequence[Pair]
    ) -> Tensor:
        """Return ``(N, D)`` states in order, from batches of similar length.

        A prompt shared by several completions is read once.
        """
        room = self.room.wanted if self.facts.shares_prompts else 0
        packs = packs_of(pairs, room)
        found: dict[int, Tensor] = {}
        for batch in batches([pack.row for pack in packs], self.room.wanted):
            part = [packs[i] for i in batch]
            places = [place for pack in part for place in pack.places]
            sizes = [len(pairs[place][1]) for place in places]
            states = self._pack_states(decoder, weights, part)
            found |= zip(places, states.split(sizes), strict=True)
        states = torch.cat([found[i] for i in range(len(pairs))])
        return states.to(self.readout_type)

    def _pack_states(
        self, decoder: nn.Module, weights: Mapping[str, Tensor], packs: Sequence[Pack]
    ) -> Tensor:
        """Return the states ``(N, D)`` of one pass over packs."""
        if all(len(pack.completions) == 1 for pack in packs):
            return self.states_under(decoder, weights, [pack.row for pack in packs])
        layout = layout_of(packs, self.device)
        inputs = {
            "input_ids": layout.ids,
            "position_ids": layout.positions,
            "attending": Apart(layout),
        }
        return self.run(decoder, weights, inputs)[layout.rows, layout.columns]

    def _before_again(self, _gradient: Tensor) -> None:
        """Restore the student's changes for layers that rerun."""
        self._weights_as("student")

    @property
    def _trains_all(self) -> bool:
        return self.trained is self.network

    def _weights_as(self, whose: str) -> ProductWeights:
        """Return the student's or teacher's weights for passes without gradient."""
        if not self._trains_all:
            matrices = self.frozen.matrices
            changes = self._changes_as(whose)
            return ProductWeights(matrices.widened(changes), matrices.head)
        head = self.head().weight.detach()
        if whose == "student" or not self.teacher_weights:
            return ProductWeights({}, head)
        return ProductWeights(self._inside(self.teacher_weights), head)

    def _changes_as(self, whose: str) -> low_rank.Changes:
        """Return all changes of student or teacher, cached until they move."""
        if whose not in self._made:
            values = self.teacher_weights if whose == "teacher" else self.weights
            with (
                torch.inference_mode(mode=False),
                torch.no_grad(),
                torch.autocast(self.device.type, enabled=False),
            ):
                parts = self.frozen.changes, self._changes(values)
                below, own = (
                    low_rank.for_products(part, self.product_type) for part in parts
                )
                self._made[whose] = low_rank.added(below, own)
        return self._made[whose]

    def _changes(self, values: Mapping[str, Tensor]) -> dict[str, low_rank.LowRank]:
        return changes_of(self.network.get_decoder(), self._inside(values))

    def _inside(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return trained values under the decoder's own names."""
        name_of = {id(weight): name for name, weight in self.weights.items()}
        return {
            name: values[name_of[id(weight)]]
            for name, weight in self.network.get_decoder().named_parameters()
            if id(weight) in name_of
        }
