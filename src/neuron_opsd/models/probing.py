"""Checks of a newly loaded model: does it work as assumed?

Passes are right-padded without a mask, logits come from the head alone, and decoding
uses cached keys and values. A model that differs would be silently wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from neuron_opsd.errors import ModelError, is_out_of_memory
from neuron_opsd.method.losses import capped
from neuron_opsd.models.decoding.library_cache import CachedRows
from neuron_opsd.models.decoding.paged_decoder import PagedDecoder
from neuron_opsd.models.decoding.pages import Limits, Pages
from neuron_opsd.models.decoding.scheduling import Schedule
from neuron_opsd.models.forward.attention import MIN_ROWS, replacing
from neuron_opsd.models.hf import HFModel
from neuron_opsd.models.library_errors import FAULTS, refusing
from neuron_opsd.records import TokenIds

TOLERANCE: Final = 1e-3
"""Allowed difference, relative to the largest value."""

PROMPTS: Final[tuple[TokenIds, ...]] = (tuple(range(1, 12)), tuple(range(3, 8)))
"""Two lengths, so that one is padded."""

WRITTEN: Final[TokenIds] = (2, 1, 3)


def tried(model: HFModel) -> bool:
    """Check a model; return whether its samples can share prompts."""
    family = model.facts.family
    if model.facts.num_layers < 1:
        raise ModelError(f"this {family} model has no layers; download its files again")
    model = model.in_float32()
    advice = "use a model of another family"
    with (
        refusing(f"a {family} model cannot be run here", advice),
        model.computing(model.network),
    ):
        check_logits(model)
        check_order(model)
        shares = decodes_alike(model)
        if not shares:
            check_library_cache(model)
    return shares


def check_order(model: HFModel) -> None:
    """Refuse a model whose states depend on later tokens."""
    ids = torch.tensor([[1, 2, 3], [1, 2, 4]], device=model.device)
    with torch.inference_mode():
        states = model.decoder(input_ids=ids, use_cache=False).last_hidden_state
    if not bool(states.isfinite().all()):
        raise no_numbers(model)
    first, second = states[:, :2]
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-4):
        raise unfit(
            model,
            "looks ahead at later tokens, so it is not a causal language model",
        )


def unfit(model: HFModel, why: str) -> ModelError:
    """Return the error for a family that cannot be used here."""
    return ModelError(
        f"a {model.facts.family} model {why}; use a model of another family"
    )


def no_numbers(model: HFModel) -> ModelError:
    """Return the error for finite weights with results that are not."""
    return ModelError(
        f"this {model.facts.family} model computes values that are not finite (NaN or "
        "infinite), so a number of its config.json is wrong; get that and its other "
        "files again"
    )


def check_logits(model: HFModel) -> None:
    """Refuse a model whose logits are more than unembedding and softcap."""
    one = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    head = model.head()
    with torch.inference_mode():
        own = model.network(input_ids=one).logits[0, 0]
        if not bool(own.isfinite().all()):
            raise no_numbers(model)
        decoder = model.network.get_decoder()
        states = decoder(input_ids=one, use_cache=False).last_hidden_state
        ours = capped(head.weight @ states[0, 0], head.softcap)
    if (own - ours).abs().max() > 1e-3 * (1.0 + own.abs().max()):
        raise unfit(
            model,
            "changes its logits after the unembedding, which cannot be followed here",
        )


def decodes_alike(model: HFModel) -> bool:
    """Return whether decoding over shared prompts equals whole passes."""
    network = Unrounded(model.device, model.decoder)
    with torch.inference_mode():
        whole = [torch.tensor([p + WRITTEN], device=model.device) for p in PROMPTS]
        wanted = torch.cat([network.run_decoder(input_ids=i)[:, -1] for i in whole])
        try:
            with replacing(network.decoder.config):
                found = decoded(network)
        except FAULTS as error:
            if is_out_of_memory(error):
                raise
            # Other attention may not even accept the inputs.
            return False
    return bool((found - wanted).abs().max() < TOLERANCE * wanted.abs().max())


@dataclass(frozen=True, slots=True)
class Unrounded:
    """A float32 network, where two correct ways differ by almost nothing."""

    device: torch.device
    decoder: Any

    def run_decoder(self, **inputs: Any) -> Tensor:
        """Return the final states ``(B, T, D)`` of ``input_ids`` ``(B, T)``."""
        states: Tensor = self.decoder(use_cache=False, **inputs).last_hidden_state
        return states


def decoded(network: Unrounded) -> Tensor:
    """Return the final states ``(P, D)`` after writing to the prompts.

    Each prompt has two samples on several pages, and the second is returned, so that
    indexing mistakes show.
    """
    limits = Limits(rows=2 * len(PROMPTS), longest=len(WRITTEN), page=MIN_ROWS)
    lengths = [len(prompt) for prompt in PROMPTS]
    pages = Pages(limits.most_pages([(length, 2) for length in lengths]))
    schedule = Schedule(lengths, [(0, 1)] * len(PROMPTS), pages, limits)
    paged = PagedDecoder(schedule, network, lambda states: states)
    slots = [admitted.slots[1] for admitted in schedule.admit()]
    paged.read(dict(enumerate(PROMPTS)))
    states = []
    for token in WRITTEN:
        paged.make_room()
        states.append(paged.step(schedule.slots, [token] * 2 * len(PROMPTS)))
    order = schedule.slots.tolist()
    by_prompt = sorted(slots, key=lambda slot: schedule.places[slot])
    return states[-1][[order.index(slot) for slot in by_prompt]]


def check_library_cache(model: HFModel) -> None:
    """Refuse a model whose float32 logits over its cache differ from a full pass's."""
    rows = [1, 0, 1]
    with torch.inference_mode():
        wanted = model.next_logits(
            torch.cat([model.states([(p, WRITTEN)], after=1)[-1:] for p in PROMPTS])
        )
        state = CachedRows(model, PROMPTS)
        state.select(rows)
        for token in WRITTEN:
            state.step(torch.full((len(rows),), token, device=model.device))
    apart = (state.logits - wanted[rows]).abs().max()
    if not apart < TOLERANCE * wanted.abs().max():
        raise unfit(
            model,
            "writes other tokens over its cache than over whole texts, so nothing can "
            "be sampled from it here",
        )
