"""How fast a model is on this machine, and how many tokens some questions have.

A few short calls tell it, before a run spends hours; `world.plan` does the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from neuron_opsd.records import Completion, Prompt, TokenIds
from neuron_opsd.world.plan import QuestionTokens, Rates

if TYPE_CHECKING:
    from torch import Tensor

    from neuron_opsd.models.protocol import LanguageModel, Sampling

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
    choices = 0
    for prompt, texts in questions:
        prompts.append(len(model.encode(prompt)))
        choices += sum(len(model.encode_answer(prompt, text)) for text in texts)
    return QuestionTokens(
        num_questions=len(prompts),
        prompt_tokens=sum(prompts),
        choice_tokens=choices,
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
    pairs = [(tuple(prompt[:-1]), tuple(prompt[-1:])) for prompt in prompts]
    columns: list[list[TokenIds]] = [[(), (0,)] for _ in pairs]
    num_tokens = sum(map(len, prompts))
    model.logits_at(pairs[:1], columns[:1])  # the first call of a process is slow
    forward = timed(clock, lambda: model.logits_at(pairs, columns))
    halves = [halve(prompt) for prompt in prompts]
    scored = timed(clock, lambda: model.capture(halves, "gate", drop))
    seeds = [list(range(num_samples)) for _ in prompts]
    drawn: list[Completion] = []
    sampled = timed(
        clock,
        lambda: drawn.extend(
            one for row in model.sample(prompts, seeds, sampling) for one in row
        ),
    )
    made = sum(len(one.token_ids) for one in drawn)
    prefill = num_tokens / forward
    return Measurement(
        rates=Rates(
            prefill=prefill,
            decode=made / max(sampled - forward, 0.05 * sampled),
            train=prefill / TRAIN_COST,
            capture=num_tokens / scored,
        ),
        completion_tokens=expected_length(drawn, sampling.max_new_tokens),
    )


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
    return max(clock() - start, 1e-9)


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
