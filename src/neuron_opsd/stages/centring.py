"""Centred scores of choices, so that no label wins for its wording.

A label's average over the pool is subtracted. No gold answer is read.

Source: Zhou et al., arXiv:2309.17249 (batch calibration); the mean here is over the
log-probabilities of the whole pool.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.config import Config, RolloutsConfig
from neuron_opsd.errors import ConfigError
from neuron_opsd.models.decoding.choices import choice_logprobs
from neuron_opsd.models.roles import TextScorer
from neuron_opsd.stages.rollouts import Employed, PromptedQuestion, scored_choices

LEAST_QUESTIONS: Final = 10
"""Fewest questions with a choice for its mean to say anything."""


def plain_logprobs(
    model: TextScorer, asked: Sequence[PromptedQuestion]
) -> list[NDArray[np.float64]]:
    """Return the log-probabilities of all questions' choices at temperature 1, flat."""
    scores = scored_choices(model, asked)
    return [np.concatenate([choice_logprobs(one, 1.0) for one in scores])]


def choice_bias(
    model: Employed[TextScorer], asked: Sequence[PromptedQuestion], block_size: int
) -> dict[str, float]:
    """Return each choice's mean log-probability at temperature 1, in nats.

    Over the pool, and only for choices with enough questions.
    """
    scored = [a for a in asked if a.written]
    # Compact, since a million questions may each have their own choices.
    found: dict[str, array[float]] = defaultdict(lambda: array("d"))
    blocks = [scored[n : n + block_size] for n in range(0, len(scored), block_size)]
    for block, (flat,) in zip(blocks, model.each(plain_logprobs, blocks), strict=True):
        choices = [choice for a in block for choice in a.question.choices]
        for choice, logprob in zip(choices, flat.tolist(), strict=True):
            found[choice].append(logprob)
    means = {
        choice: fmean(values)
        for choice, values in found.items()
        if len(values) >= LEAST_QUESTIONS
    }
    return {choice: mean for choice, mean in means.items() if math.isfinite(mean)}


def is_centring(config: RolloutsConfig) -> bool:
    """Tell whether the choices' means are still to be measured."""
    return config.centre_choices and not config.choice_bias


def refuse_centring(config: Config) -> None:
    """Raise ConfigError for centred choices; the method trains on plain ones."""
    if config.rollouts.centre_choices or config.rollouts.choice_bias:
        raise ConfigError(
            f"{config.method} trains on the probabilities that rollouts were drawn "
            "with, which those of centred choices are not; set rollouts.centre_choices "
            "to false or take a method that distils or imitates"
        )
