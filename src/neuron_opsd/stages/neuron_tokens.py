"""Which tokens of completions some neurons pushed most.

Axes: N completion tokens of a batch, F neurons of one layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from neuron_opsd.config import Config
from neuron_opsd.errors import naming
from neuron_opsd.models.roles import LanguageModel
from neuron_opsd.records import Completion, TokenIds
from neuron_opsd.stages.capture import pairs_of, read_scores
from neuron_opsd.stages.rollouts import PromptedQuestion

TOKENS_KEPT: Final = 3
"""Per neuron and completion."""
TOKENS_BEFORE: Final = 24


@dataclass(frozen=True, slots=True)
class Watched:
    """A completion, and the neurons to watch in it."""

    asked: PromptedQuestion
    completion: Completion
    neuron_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TokenPush:
    """How far a neuron pushed one token."""

    neuron_id: int
    token: int
    before: TokenIds
    """Up to `TOKENS_BEFORE`, from prompt and completion."""
    score: float


@dataclass(frozen=True, slots=True)
class TokenPushes:
    """The tokens of one completion that the watched neurons pushed most."""

    question_id: str
    pushes: tuple[TokenPush, ...]
    """By neuron, highest first; none if it pushed no token upwards."""


def watch_tokens(
    model: LanguageModel, watched: Sequence[Watched], config: Config
) -> list[TokenPushes]:
    """Return which tokens neurons pushed, in one pass over each completion.

    Raises:
        NotFiniteError: If a score is not finite.
    """
    asked = [one.asked for one in watched]
    completions = [one.completion for one in watched]
    pairs = pairs_of(model, asked, completions, config.neurons)
    width = model.facts.num_neurons
    found: dict[int, list[TokenPush]] = {place: [] for place in range(len(watched))}

    def read_off(batch: list[int]) -> None:
        chosen = [pairs[place] for place in batch]

        def take(layer: int, scores: Tensor) -> None:
            parts = scores.split([len(completion) for _, completion in chosen])
            for place, part in zip(batch, parts, strict=True):
                for neuron_id in watched[place].neuron_ids:
                    if neuron_id // width == layer:
                        own = part[:, neuron_id % width]
                        found[place] += pushes_of(neuron_id, own, *pairs[place])

        with naming([asked[place].question.id for place in batch]):
            read_scores(model, chosen, take, config.neurons)

    model.room.each_pass(pairs, read_off, config.model.tokens_per_batch)
    return [
        TokenPushes(one.question.id, tuple(found[place]))
        for place, one in enumerate(asked)
    ]


def pushes_of(
    neuron_id: int, scores: Tensor, prompt: TokenIds, completion: TokenIds
) -> list[TokenPush]:
    """Return a completion's tokens with the highest positive scores ``(T,)``.

    Ties go to the earlier token.
    """
    values = scores.float().cpu()
    order = torch.argsort(values, descending=True, stable=True)[:TOKENS_KEPT].tolist()
    return [
        TokenPush(
            neuron_id,
            completion[place],
            (prompt + completion[:place])[-TOKENS_BEFORE:],
            float(values[place]),
        )
        for place in order
        if values[place] > 0
    ]
