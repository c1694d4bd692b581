"""Asking a model questions: rollouts of the pool, of tests and of training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

import numpy as np

from neuron_opsd.answers.readers import reader_for
from neuron_opsd.answers.spans import Reading
from neuron_opsd.config import Config, ContextsConfig, RolloutsConfig
from neuron_opsd.errors import naming
from neuron_opsd.models.decoding import choices
from neuron_opsd.models.roles import Answerer, Sampling, TextScorer, Tokenizer
from neuron_opsd.prompts import choice_answers, student_prompt
from neuron_opsd.records import Completion, Prompt, Question, Rollout, TokenIds
from neuron_opsd.seeds import derive_seed, uniforms

Item = TypeVar("Item")
R = TypeVar("R")
M_co = TypeVar("M_co", covariant=True)

OWN: Final = "rollout"
"""Stage name for the seeds of the pool's own rollouts."""


class Employed(Protocol[M_co]):
    """A model, and the workers that have it."""

    def each(
        self,
        function: Callable[[M_co, Sequence[Item]], Sequence[R]],
        chunks: Sequence[Sequence[Item]],
    ) -> list[Sequence[R]]:
        """Return the results of chunks in order."""


@dataclass(frozen=True, slots=True)
class PromptedQuestion:
    """A question with the prompt that asks it."""

    question: Question
    prompt: Prompt
    written: tuple[str, ...] = ()
    """What the model writes for each choice; empty for free answers."""
    bias: tuple[float, ...] = ()
    """Subtracted from each choice's log-probability; may be empty."""


def bias_of(question: Question, config: RolloutsConfig) -> tuple[float, ...]:
    """Return the mean log-probabilities of a question's choices, if all are known."""
    known = config.choice_bias
    if not known or any(choice not in known for choice in question.choices):
        return ()
    return tuple(known[choice] for choice in question.choices)


def ask(questions: Sequence[Question], config: Config) -> list[PromptedQuestion]:
    """Build questions as the student is asked, by settings resolved for the model."""
    return [
        PromptedQuestion(
            question,
            student_prompt(question, config.prompts),
            written(question, config),
            bias_of(question, config.rollouts),
        )
        for question in questions
    ]


def written(question: Question, config: Config) -> tuple[str, ...]:
    """Return what a model writes for each choice, nothing for free answers."""
    if config.rollouts.mode == "auto":
        raise ValueError("rollouts.mode is auto; resolve the settings for a model")
    if config.rollouts.mode == "free":
        return ()
    return choice_answers(question, config.prompts)


def sampling_of(
    config: Config, temperature: float, longest: int | None = None
) -> Sampling:
    """Return how pool and test rollouts are sampled."""
    rollouts = config.rollouts
    return Sampling(
        temperature=temperature,
        top_p=rollouts.top_p,
        top_k=rollouts.top_k,
        min_p=rollouts.min_p,
        stop=rollouts.stop,
        max_new_tokens=longest or rollouts.max_new_tokens,
        stop_at_newline=config.prompts.form == "plain",
    )


def shown_draws(config: ContextsConfig) -> list[tuple[float, int]]:
    """Return the draws needed besides the samples for the answers to show."""
    return [(0.0, 1)] if config.answer == "greedy" else []


def pool_draws(config: Config) -> list[tuple[float, int]]:
    """Return the temperatures and numbers of samples that answer a pool."""
    samples = (config.rollouts.temperature, config.rollouts.num_samples)
    return [samples, *shown_draws(config.contexts)]


def sample_rollouts(
    model: Answerer,
    asked: Sequence[PromptedQuestion],
    config: Config,
    stage: str,
    draws: Sequence[tuple[float, int]],
    longest: int | None = None,
) -> list[Rollout]:
    """Answer questions, with a seed for each draw.

    `stage` names the purpose, so that stages do not share draws; `draws` are pairs of a
    temperature, 0 for greedy, and a number of samples; `longest` cuts completions, by
    default at the pool's length.

    Returns:
        All rollouts of the first question, then of the second, and so on.
    """

    def draw(temperature: float, count: int) -> Draw:
        seeds = [
            [derive_seed(config.seed, stage, a.question.id, k) for k in range(count)]
            for a in asked
        ]
        return Draw(sampling_of(config, temperature, longest), seeds)

    groups = complete(model, asked, [draw(*one) for one in draws])
    return [
        Rollout(a.question.id, k, temperature, completion, read(a, completion, config))
        for i, a in enumerate(asked)
        for (temperature, _), group in zip(draws, groups, strict=True)
        for k, completion in enumerate(group[i])
    ]


def read(asked: PromptedQuestion, completion: Completion, config: Config) -> str | None:
    """Read the final answer of a completion, `None` if there is none."""
    return reading_of(asked, completion, config).answer


def reading_of(
    asked: PromptedQuestion, completion: Completion, config: Config
) -> Reading:
    """Read the final answer; there is none if reasoning is not closed.

    Completions sampled among choices cannot be misread.
    """
    if asked.written:
        place = asked.written.index(completion.text)
        return Reading(asked.question.choices[place], "sampled among the choices")
    reader = reader_for(asked.question, config.answers, config.prompts.list_choices)
    final = completion.final
    return reader.read(final, asked.question, finished=completion.finished)


@dataclass(frozen=True, slots=True)
class Draw:
    """One way to sample: a completion for every seed of every question."""

    sampling: Sampling
    seeds: Sequence[Sequence[int]]


def complete(
    model: Answerer, asked: Sequence[PromptedQuestion], draws: Sequence[Draw]
) -> list[list[list[Completion]]]:
    """Sample completions, among the choices for questions with some.

    Choices are scored once, whatever the number of draws.

    Returns:
        For every draw and every question one completion per seed.
    """
    results: list[list[list[Completion]]] = [[[] for _ in asked] for _ in draws]
    among = [i for i, a in enumerate(asked) if a.written]
    free = [i for i, a in enumerate(asked) if not a.written]
    scores = scored_choices(model, [asked[i] for i in among]) if among else []
    prompts = model.encode_all([asked[i].prompt for i in free])
    for draw, result in zip(draws, results, strict=True):
        for i, score in zip(among, scores, strict=True):
            temperature = draw.sampling.temperature
            result[i] = drawn(score, asked[i], draw.seeds[i], temperature)
        if free:
            seeds = [draw.seeds[i] for i in free]
            with naming([asked[i].question.id for i in free]):
                groups = model.sample(prompts, seeds, draw.sampling)
            for i, group in zip(free, groups, strict=True):
                result[i] = group
    return results


def scored_choices(
    model: TextScorer, asked: Sequence[PromptedQuestion]
) -> list[choices.ChoiceScores]:
    """Score the choices of questions.

    Raises:
        DataError: If choices of a question tokenise to the same ids.
        NotFiniteError: If a logit is not finite.
    """
    prompts = model.encode_all([a.prompt for a in asked])
    completions = [choice_tokens(model, a) for a in asked]
    with naming([a.question.id for a in asked]):
        scores = choices.score_choices(model, prompts, completions)
    return [replace(s, bias=a.bias) for s, a in zip(scores, asked, strict=True)]


def choice_tokens(model: Tokenizer, asked: PromptedQuestion) -> list[TokenIds]:
    """Return the completion of each choice, end token included."""
    tokens = [model.encode_answer(asked.prompt, text) for text in asked.written]
    choices.check_choices(asked.question.id, asked.written, tokens)
    return tokens


def drawn(
    scores: choices.ChoiceScores,
    asked: PromptedQuestion,
    seeds: Sequence[int],
    temperature: float,
) -> list[Completion]:
    """Sample one choice per seed; entropy is the choice's, per token."""
    logprobs = choices.choice_logprobs(scores, temperature)
    uniform = np.array([uniforms(seed, 1)[0] for seed in seeds])
    spread = choices.entropy(logprobs)
    return [
        Completion(
            token_ids=scores.completions[c],
            text=asked.written[c],
            finished=True,
            logprob=float(logprobs[c]),
            entropy=spread / len(scores.completions[c]),
        )
        for c in choices.draw_choices(logprobs, uniform)
    ]


def top_share(texts: Sequence[str]) -> tuple[str, float]:
    """Return the most frequent text, the earliest of ties, and its share."""
    if not texts:
        return "", 0.0
    text, count = Counter(texts).most_common(1)[0]
    return text, count / len(texts)
