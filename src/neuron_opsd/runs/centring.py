"""Measuring the choices' means of a pool once, before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neuron_opsd.models.protocol import LanguageModel
from neuron_opsd.records import Question
from neuron_opsd.runs.context import Job
from neuron_opsd.stages.centring import choice_bias, is_centring, with_bias
from neuron_opsd.stages.rollouts import ask
from neuron_opsd.storage.codecs import json_codec

BIAS_NAME = "choice-bias"
BIAS = json_codec("choice-bias.json")

NO_EFFECT = (
    "rollouts.centre_choices has no effect: no choice stands in enough questions of "
    "the pool that are answered among their choices"
)


def centred(job: Job, model: LanguageModel, pool: Sequence[Question]) -> Job:
    """Return a job whose choices are centred, where its settings ask for that.

    Args:
        job: Keeps the means.
        model: The untrained one.
        pool: The questions that the means are over.
    """
    config = job.config
    if not is_centring(config.rollouts):
        return job
    asked = ask(pool, config, constrained=job.constrained)
    bias = job.run.once(
        BIAS_NAME,
        BIAS,
        lambda: choice_bias(model, asked, config.rollouts.block_size),
    )
    if not bias:
        job.run.warn(NO_EFFECT)
    return replace(job, config=with_bias(config, bias))
