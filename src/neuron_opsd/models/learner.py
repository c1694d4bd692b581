"""A model that moves, and its slower teacher: one network, three sets of weights.

The frozen weights are the base model's own, held once. Student and teacher are two
values of each trained tensor beside them. Only a pass that asks for a gradient runs
through the adapter; all others run the base model's network. In float32 the adapter is
merged into its matrices; in bfloat16, which would round its changes away, it stands
beside them.

Axes: N completion tokens of a batch, D residual width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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


class HFLearner(HFModel):
    """The student, its teacher's weights and its optimiser."""

    def __init__(
        self,
        base: HFModel,
        network: Any,
        trained: Any,
        *,
        weight_decay: float,
        max_grad_norm: float,
        checkpointing: str = "off",
    ) -> None:
        """Begin with student and teacher equal.

        The network shares the base's frozen weights and holds what is trained;
        `save_pretrained` is called on `trained`, the PEFT model or the network itself.
        """
        refuse_unsupported(checkpointing, network.get_decoder())
        super().__init__(network, base.tokens, base.facts, base.mlps, base.room)
        self.frozen = base
        """The model where training began."""
        self.trained = trained
        self.max_grad_norm = max_grad_norm
        self.checkpointing = checkpointing
        named = network.named_parameters()
        self.weights: dict[str, nn.Parameter] = {
            name: weight for name, weight in named if weight.requires_grad
        }
        self.teacher_weights: dict[str, Tensor] = {
            name: weight.detach().clone() for name, weight in self.weights.items()
        }
        self._held: ProductWeights | None = None
        self._holds = ""
        self.optimizer = torch.optim.AdamW(
            self.weights.values(), lr=0.0, weight_decay=weight_decay, foreach=False
        )

    def student(self, pairs: Sequence[Pair]) -> HiddenStates:
        """Return ``(N, D)`` states that predict the completions, with gradient."""
        decoder: nn.Module = self.network.get_decoder()
        weights: Mapping[str, Tensor] = {}
        if self._widens:
            held = self._weights_as("student").decoder
            decoder = self.decoder
            weights = low_rank.learning(held, self._changes(self.weights))
        again = torch.is_grad_enabled() and runs_again(self.checkpointing, pairs)
        with running_again(decoder, self.computing) if again else nullcontext():
            states = self._states_under(decoder, weights, pairs)
        return self.head().reading(states)

    def teacher(self, pairs: Sequence[Pair]) -> HiddenStates:
        """Return the same under the teacher's weights, without gradient."""
        with torch.no_grad():
            weights = self._weights_as("teacher").decoder
            states = self._states_under(self.decoder, weights, pairs)
        head = self.head()
        for name, weight in self.weights.items():
            if weight is head.weight:
                head = Head(self.teacher_weights[name], head.softcap)
        return head.reading(states)

    def reference(self, pairs: Sequence[Pair]) -> HiddenStates:
        """Return the same of the model where training began, without gradient."""
        with torch.no_grad():
            weights = self.frozen.product_weights().decoder
            states = self._states_under(self.decoder, weights, pairs)
        return self.frozen.head().reading(states)

    @property
    def decoder(self) -> nn.Module:
        """The base's decoder, which runs with other weights in place of its own."""
        return self.frozen.decoder

    def product_weights(self) -> ProductWeights:
        """Return the student's weights for passes without gradient."""
        return self._weights_as("student")

    def step(self, learning_rate: float) -> float:
        """Apply the gradients gathered so far; return their norm before clipping."""
        weights = list(self.weights.values())
        given = {name: weight.grad for name, weight in self.weights.items()}
        gradients = {n: grad for n, grad in given.items() if grad is not None}
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
        self._holds = ""
        return float(norm)

    def drop_gradients(self) -> None:
        """Forget the gradients gathered so far."""
        self.optimizer.zero_grad(set_to_none=True)

    def zero_gradients(self) -> None:
        """Give every trained weight a gradient of 0, which still ages its moments."""
        for weight in self.weights.values():
            weight.grad = torch.zeros_like(weight)

    def check(self) -> None:
        """Refuse to be kept with a weight or a moment that is not finite."""
        if name := first_not_finite(self._kept()):
            raise NotFiniteError(f"{name} is not finite")

    def update_teacher(self, rate: float) -> None:
        """Move the teacher's weights the share `rate` of the way to the student's."""
        self._holds = ""
        for name, weight in self.weights.items():
            self.teacher_weights[name].lerp_(weight.detach(), rate)

    def state(self) -> dict[str, Tensor]:
        """Return copies of student, teacher and optimiser for a checkpoint."""
        return {
            name: value.detach().cpu().clone().contiguous()
            for name, value in self._kept().items()
        }

    def digest(self) -> str:
        """Return a hash of the same, to compare it with another process's."""
        digest = hashlib.sha256()
        for name, value in self._kept().items():
            digest.update(name.encode())
            held = value.detach().cpu().contiguous().flatten()
            digest.update(held.view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _kept(self) -> dict[str, Tensor]:
        """Return all that a checkpoint must hold, as it is used here."""
        kept: dict[str, Tensor] = {}
        for name, weight in self.weights.items():
            kept[f"student.{name}"] = weight.detach()
            kept[f"teacher.{name}"] = self.teacher_weights[name]
            for key, value in self.optimizer.state.get(weight, {}).items():
                kept[f"optimizer.{key}.{name}"] = value
        return kept

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go back to what `state` returned."""
        self._holds = ""
        keys = sorted({k.split(".")[1] for k in state if k.startswith("optimizer.")})
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state[f"student.{name}"])
                self.teacher_weights[name].copy_(state[f"teacher.{name}"])
                if keys:
                    moments = {k: state[f"optimizer.{k}.{name}"].clone() for k in keys}
                    # `step` counts on the processor whatever the device.
                    self.optimizer.state[weight] = {
                        key: value if key == "step" else value.to(self.device)
                        for key, value in moments.items()
                    }

    def save_adapter(self, folder: Path) -> None:
        """Write what training made: a PEFT adapter, or a whole model after `full`."""
        with saving():
            if self.trained is self.network:
                self.trained.save_pretrained(folder)
                self.tokens.tokenizer.save_pretrained(folder)
                return
            # Otherwise PEFT asks the hub whether the embedding was resized.
            self.trained.save_pretrained(folder, save_embedding_layers=False)
            sort_targets(folder / ADAPTER_SETTINGS)

    @property
    def num_bytes(self) -> int:
        """Size of what is trained."""
        return sum(weight.nbytes for weight in self.weights.values())

    def _states_under(
        self, decoder: nn.Module, weights: Mapping[str, Tensor], pairs: Sequence[Pair]
    ) -> Tensor:
        """Return ``(N, D)`` states of passes over pairs of like length, in order.

        A prompt that several completions follow is read once for all of them.
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
        """Return the states ``(N, D)`` of one pass over packs, in their order."""
        if all(len(pack.completions) == 1 for pack in packs):
            return self.states_under(decoder, weights, [pack.row for pack in packs])
        layout = layout_of(packs, self.device)
        inputs: dict[str, Any] = {"input_ids": layout.ids, "attending": Apart(layout)}
        inputs["position_ids"] = layout.positions
        hidden = self.run(decoder, weights, inputs)
        return hidden[layout.rows, layout.columns]

    @property
    def _widens(self) -> bool:
        """Whether changes stand beside matrices, which would round them away."""
        return self.product_type != torch.float32

    def _weights_as(self, whose: str) -> ProductWeights:
        """Return the student's or the teacher's weights, kept until they move.

        Only one of the two is held: a step first writes, then asks the teacher.
        """
        if self._holds != whose or self._held is None:
            self._holds = ""
            values = self.teacher_weights if whose == "teacher" else self.weights
            with (
                torch.inference_mode(mode=False),
                torch.no_grad(),
                torch.autocast(self.device.type, enabled=False),
            ):
                self._held = self._made(values)
            self._holds = whose
        return self._held

    def _made(self, values: Mapping[str, Tensor]) -> ProductWeights:
        """Return the weights of passes without gradient that trained values make."""
        base = self.frozen.product_weights()
        if self._widens and self._held is not None:
            low_rank.rewrite(self._held.decoder, self._changes(values))
            return self._held
        self._held = None  # it makes room
        if self.trained is self.network:  # never rounded
            own = self.head().weight
            head = next(values[n].detach() for n, w in self.weights.items() if w is own)
            return ProductWeights(self._inside(values), head)
        changes = self._changes(values)
        if self._widens:
            return ProductWeights(low_rank.widened(base.decoder, changes), base.head)
        merged = low_rank.merged(self.network.get_decoder(), changes)
        return ProductWeights(merged, base.head)

    def _changes(self, values: Mapping[str, Tensor]) -> dict[str, low_rank.LowRank]:
        """Return what an adapter of these values changes."""
        return changes_of(self.network.get_decoder(), self._inside(values))

    def _inside(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return trained values by the decoder's own names."""
        name_of = {id(weight): name for name, weight in self.weights.items()}
        return {
            name: values[name_of[id(weight)]]
            for name, weight in self.network.get_decoder().named_parameters()
            if id(weight) in name_of
        }
