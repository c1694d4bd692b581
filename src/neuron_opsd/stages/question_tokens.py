"""What a model makes of a question's own tokens, before any answer.

Axes: B questions of a batch, D residual width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuron_opsd.config import Config
from neuron_opsd.errors import naming
from neuron_opsd.models.roles import LanguageModel, Tokenizer
from neuron_opsd.prompts import student_prompt
from neuron_opsd.records import Message, NeuronSet, Pair, TokenIds
from neuron_opsd.records.beliefs import QuestionState
from neuron_opsd.stages.capture import capture_pairs
from neuron_opsd.stages.rollouts import PromptedQuestion

OTHERS: Final = ("a", "Zz.")
"""Replacements for a question that show which tokens are its own: they share no
letter."""


def question_pairs(
    model: Tokenizer, asked: Sequence[PromptedQuestion], config: Config
) -> list[Pair]:
    """Return for each question the tokens before its own, and its own.

    Its own run from the first to the last that replacing it would change: its text,
    listed choices, and the marks between its turns, but nothing from the settings.
    """
    known: dict[tuple[str, str], list[TokenIds]] = {}

    def others(a: PromptedQuestion) -> list[TokenIds]:
        labels = a.question.question_label, a.question.answer_label
        if labels not in known:
            empty = replace(a.question, choices=())
            asking = [
                replace(empty, messages=(Message("user", text),)) for text in OTHERS
            ]
            prompts = [student_prompt(one, config.prompts) for one in asking]
            known[labels] = model.encode_all(prompts)
        return known[labels]

    prompts = model.encode_all([a.prompt for a in asked])
    return [
        own_tokens(prompt, others(a)) for prompt, a in zip(prompts, asked, strict=True)
    ]


def own_tokens(prompt: TokenIds, others: Sequence[TokenIds]) -> Pair:
    """Split a prompt into a start shared with other prompts and its own tokens.

    There is at least one own token.
    """
    start = min(num_shared(prompt, other) for other in others)
    start = min(start, len(prompt) - 1)
    rest = prompt[start:]
    end = min(num_shared(rest[::-1], other[start:][::-1]) for other in others)
    return prompt[:start], rest[: max(1, len(rest) - end)]


def num_shared(one: TokenIds, other: TokenIds) -> int:
    """Return how many leading tokens two prompts share."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def capture_questions(
    model: LanguageModel, asked: Sequence[PromptedQuestion], config: Config
) -> list[NeuronSet]:
    """Return the neuron sets of questions, from their own tokens.

    Each token but the first is scored at the position before it; a single token after
    what precedes it.
    """
    pairs = question_pairs(model, asked, config)
    read = [
        (a.question.id, (before + own[:1], own[1:]) if len(own) > 1 else (before, own))
        for a, (before, own) in zip(asked, pairs, strict=True)
    ]
    return capture_pairs(model, read, config)


def middle_layer(num_layers: int) -> int:
    """Return the number, from 1, of the layer whose output represents a question."""
    return (num_layers + 1) // 2


def read_states(
    model: LanguageModel, asked: Sequence[PromptedQuestion], config: Config
) -> list[QuestionState]:
    """Return a middle layer's mean hidden state over each question's tokens.

    Raises:
        NotFiniteError: If a state is not finite.
    """
    pairs = question_pairs(model, asked, config)
    layer = middle_layer(model.facts.num_layers)
    found: dict[int, NDArray[np.float32]] = {}

    def read(batch: list[int]) -> None:
        with naming([asked[i].question.id for i in batch]):
            states = model.mean_states([pairs[i] for i in batch], layer)
        found.update(zip(batch, states, strict=True))

    model.room.each_pass(pairs, read, config.model.tokens_per_batch)
    return [QuestionState(a.question.id, found[i]) for i, a in enumerate(asked)]
