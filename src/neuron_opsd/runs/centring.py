"""Measuring the choices' means of a pool once, before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neuron_opsd.models.roles import TextScorer
from neuron_opsd.records import Question
from neuron_opsd.runs.context import RunContext
from neuron_opsd.stages.centring import choice_bias, is_centring, with_bias
from neuron_opsd.stages.rollouts import ask
from neuron_opsd.storage.codecs import json_codec

BIAS_NAME = "choice-bias"
BIAS = json_codec("choice-bias.json")

NO_EFFECT = (
    "rollouts.centre_choices has no effect: no choice stands in enough questions of "
    "the pool that are answered among their choices"
)


def centred(run: RunContext, model: TextScorer, pool: Sequence[Question]) -> RunContext:
    """Return a run whose choices are centred, where its settings ask for that.

    Args:
        run: Keeps the means.
        model: The untrained one.
        pool: The questions that the means are over.
    """
    config = run.config
    if not is_centring(config.rollouts):
        return run
    asked = ask(pool, config)
    bias = run.directory.once(
        BIAS_NAME,
        BIAS,
        lambda: choice_bias(model, asked, config.rollouts.block_size),
    )
    if not bias:
        run.directory.warn(NO_EFFECT)
    return replace(run, config=with_bias(config, bias))
