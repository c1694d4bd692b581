"""How fast a model is on this machine, and how many tokens some questions have.

A few short calls tell it, before a run spends hours; `world.plan` does the sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from neuron_opsd.records import Completion, Prompt, TokenIds
from neuron_opsd.world.plan import QuestionTokens, Rates

if TYPE_CHECKING:
    from torch import Tensor

    from neuron_opsd.models.protocol import LanguageModel, Sampling

MEASURED_TOKENS = 1024
"""Tokens of a timed forward pass, at least; small batches are slower per token."""

SHORTEST = 1e-9
"""Seconds that anything takes at least."""

TRAIN_COST = 3.0
"""A training pass takes this many forward passes: backward costs two."""


def count_questions(
    model: LanguageModel,
    questions: Sequence[tuple[Prompt, Sequence[str]]],
) -> QuestionTokens:
    """Count the tokens of some questions.

    Args:
        model: Whose tokens they are.
        questions: The student's prompt of each with its choices.
    """
    prompts: list[int] = []
    choices: list[int] = []
    for prompt, texts in questions:
        prompts.append(len(model.encode(prompt)))
        choices += [len(model.encode_answer(prompt, text)) for text in texts]
    return QuestionTokens(
        num_questions=len(prompts),
        prompt_tokens=sum(prompts),
        choice_tokens=sum(choices),
        num_choices=len(choices),
        longest_prompt=max(prompts, default=0),
    )


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a few short calls of a model tell about longer ones."""

    rates: Rates
    completion_tokens: float
    """Expected length of a free completion, cut at the longest length allowed."""


def measure(
    model: LanguageModel,
    prompts: Sequence[TokenIds],
    sampling: Sampling,
    *,
    num_samples: int = 8,
    clock: Callable[[], float] = perf_counter,
) -> Measurement:
    """Time a few short calls of a model.

    Args:
        model: The model of the run.
        prompts: A few typical ones, at least one.
        sampling: As in the run, but with a `max_new_tokens` of a few dozen.
        num_samples: Completions per prompt, as in the run.
        clock: Gives seconds.

    Raises:
        ValueError: If there is no prompt.
    """
    if not prompts:
        raise ValueError("at least one prompt is needed to measure a model")
    forward, capture = time_reading(model, prompts, clock)
    seeds = [list(range(num_samples)) for _ in prompts]
    start = clock()
    drawn = [one for row in model.sample(prompts, seeds, sampling) for one in row]
    seconds = max(clock() - start, SHORTEST)
    made = sum(len(one.token_ids) for one in drawn)
    # Sampling begins by reading the prompts; the rest of its time makes tokens.
    reading = sum(map(len, prompts)) / forward
    return Measurement(
        rates=Rates(
            prefill=forward,
            decode=made / max(seconds - reading, 0.05 * seconds),
            train=forward / TRAIN_COST,
            capture=capture,
        ),
        completion_tokens=expected_length(drawn, sampling.max_new_tokens),
    )


def time_reading(
    model: LanguageModel, prompts: Sequence[TokenIds], clock: Callable[[], float]
) -> tuple[float, float]:
    """Return the tokens per second of a plain pass and of one that captures."""
    copies = math.ceil(MEASURED_TOKENS / sum(map(len, prompts)))
    pairs = [halve(prompt) for prompt in prompts] * copies
    columns: list[list[TokenIds]] = [
        [*[() for _ in completion], (0,)] for _, completion in pairs
    ]
    num_tokens = sum(len(prompt) + len(completion) for prompt, completion in pairs)
    model.logits_at(pairs[:1], columns[:1])  # the first call of a process is slow
    plain = timed(clock, lambda: model.logits_at(pairs, columns))
    captured = timed(clock, lambda: model.capture(pairs, "gate", drop))
    return num_tokens / plain, num_tokens / captured


def halve(prompt: TokenIds) -> tuple[TokenIds, TokenIds]:
    """Return a prompt as if its second half were a completion."""
    middle = max(1, len(prompt) // 2)
    return prompt[:middle], prompt[middle:] or prompt[:1]


def drop(layer: int, scores: Tensor) -> None:
    """Take the contribution scores of a layer and forget them."""
    del layer, scores


def timed(clock: Callable[[], float], call: Callable[[], object]) -> float:
    """Return the seconds that a call takes, never zero."""
    start = clock()
    call()
    return max(clock() - start, SHORTEST)


def expected_length(completions: Sequence[Completion], longest: int) -> float:
    """Return the mean length of completions as if every token ended one alike.

    Completions that were cut say how long others may become; a plain mean would not.

    Args:
        completions: Drawn with a low limit, so that some may be cut.
        longest: Where the completions of interest are cut.

    Example:
        >>> expected_length([], longest=7)
        7.0
    """
    made = sum(len(one.token_ids) for one in completions)
    ended = sum(one.finished for one in completions)
    if not made or not ended:
        return float(longest)
    chance = min(1.0, ended / made)
    return (1.0 - (1.0 - chance) ** longest) / chance
