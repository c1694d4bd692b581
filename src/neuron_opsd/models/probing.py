"""First steps with a model that was just loaded: is it what it is taken for?

Passes over whole sequences are padded on the right without a mask, logits come from the
head alone, and decoding goes over keys and values that are kept. A model for which one
of these is not so would be wrong without a word.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from neuron_opsd.errors import ModelError
from neuron_opsd.method.divergence import capped
from neuron_opsd.models.decoding.generation import decodes_alike
from neuron_opsd.models.decoding.library_cache import check_plain_decoding
from neuron_opsd.models.library_errors import refusing

if TYPE_CHECKING:
    from neuron_opsd.models.hf import HFModel


def tried(model: HFModel) -> bool:
    """Take first steps with a model; return whether it can share prompts.

    Raises:
        ModelError: If it cannot be followed here, or decoding gives other states than
            whole passes do.
    """
    family = model.facts.family
    if model.facts.num_layers < 1:
        raise ModelError(f"this {family} model has no layers; get its files again")
    with refusing(
        f"a {family} model cannot be run here", "use a model of another family"
    ):
        check_logits(model)
        check_order(model)
        shares = decodes_alike(model)
        if not shares:
            check_plain_decoding(in_float32(model))
    return shares


def in_float32(model: HFModel) -> HFModel:
    """Return a model of the same weights that computes in float32."""
    facts = replace(model.facts, compute="float32")
    return type(model)(
        model.network, model.tokens, facts, model.mlps, model.room.wanted
    )


def check_order(model: HFModel) -> None:
    """Refuse a model whose states depend on tokens that come later.

    Raises:
        ModelError: If they do, as those of models that fill gaps do.
    """
    ids = torch.tensor([[1, 2, 3], [1, 2, 4]], device=model.device)
    with torch.inference_mode():
        states = model.decoder(input_ids=ids, use_cache=False).last_hidden_state
    if not bool(states.isfinite().all()):
        raise no_numbers(model)
    first, second = states[:, :2]
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-4):
        raise ModelError(
            f"a {model.facts.family} model looks ahead at tokens that are still to "
            "come, so it is no causal language model; use a model of another family"
        )


def no_numbers(model: HFModel) -> ModelError:
    """Return the error for finite weights that give no finite results."""
    return ModelError(
        f"this {model.facts.family} model computes values that are not finite (NaN or "
        "infinite), so a number of its config.json is wrong; get that and its other "
        "files again"
    )


def check_logits(model: HFModel) -> None:
    """Refuse a model that does more to its logits than unembed and squash them.

    Raises:
        ModelError: If it scales them, as Granite does, or adds something.
    """
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
        raise ModelError(
            f"a {model.facts.family} model changes its logits after the unembedding, "
            "which cannot be followed here; use a model of another family"
        )
