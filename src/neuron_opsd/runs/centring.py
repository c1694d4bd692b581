"""Measuring the choices' means of a pool once, before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from neuron_opsd.models.roles import TextScorer
from neuron_opsd.pipeline import BIAS_NAME
from neuron_opsd.records import Question
from neuron_opsd.stages.centring import choice_bias, is_centring, with_bias
from neuron_opsd.stages.rollouts import ask
from neuron_opsd.storage.caching import Workspace
from neuron_opsd.storage.codecs import json_codec

NO_EFFECT: Final = (
    "rollouts.centre_choices has no effect: no choice is in enough questions of "
    "the pool that are answered among their choices"
)


def centred(work: Workspace, model: TextScorer, pool: Sequence[Question]) -> Workspace:
    """Return a workspace whose choices are centred, where its settings ask for that."""
    config = work.config
    if not is_centring(config.rollouts):
        return work
    asked = ask(pool, config)
    bias = work.cache.once(
        BIAS_NAME,
        json_codec(f"{BIAS_NAME}.json"),
        lambda: choice_bias(model, asked, config.rollouts.block_size),
    )
    if not bias:
        work.progress.warn(NO_EFFECT)
    return replace(work, config=with_bias(config, bias))
