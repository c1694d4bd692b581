"""Small samples of a run's own stages, timed; `planning.costs` scales them up.

The first call of each kind is slow and not counted. Later samples are as large as the
earlier ones say that their seconds allow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from neuron_opsd.config import Config
from neuron_opsd.models.decoding.choices import find_branches, longest_prefixes
from neuron_opsd.models.roles import LanguageModel, Tokenizer
from neuron_opsd.models.room import MAX_ROWS
from neuron_opsd.planning import measuring
from neuron_opsd.planning.workload import Decoding, QuestionTokens
from neuron_opsd.processes.memory import forget_peak, peak_memory
from neuron_opsd.records import Rollout
from neuron_opsd.stages.rollouts import (
    OWN,
    PromptedQuestion,
    choice_tokens,
    sample_rollouts,
)
from neuron_opsd.stages.teaching import pool_draws

T = TypeVar("T")

ANSWERING_SECONDS = 4.0
WRITING_SECONDS = 4.0
"""What samples of answers among choices, and of free ones, may take, about."""

TELLING_ROWS = 64
"""Completions that the larger sample of free answers has at least."""

MEASURED_TOKENS = 32
"""Where free completions of a sample are cut."""

FEW = 4
"""Questions of the first sample, which says how many the second may have."""

SHORTEST = 1e-9
"""Seconds that anything takes at least."""


def count_questions(
    model: Tokenizer, asked: Sequence[PromptedQuestion]
) -> QuestionTokens:
    """Count the tokens of questions, and what scoring their choices reads.

    A prompt is read once for every place where choices part that no other place lies
    behind, together with what the choices share before it.
    """
    prompts = [len(model.encode(a.prompt)) for a in asked]
    choices = [choice_tokens(model, a) for a in asked]
    rows = [longest_prefixes(find_branches(group)) for group in choices]
    again = [max(0, len(found) - 1) for found in rows]
    shared = sum(len(prefix) for found in rows for prefix in found)
    return QuestionTokens(
        num_questions=len(prompts),
        prompt_tokens=sum(prompts),
        choice_tokens=sum(len(tokens) for group in choices for tokens in group),
        num_choices=sum(map(len, choices)),
        extra_rows=sum(again),
        extra_tokens=shared + sum(n * p for n, p in zip(again, prompts, strict=True)),
        num_free=sum(not a.written for a in asked),
    )


@dataclass(frozen=True, slots=True)
class Trial:
    """What samples are taken with."""

    model: LanguageModel
    config: Config
    """Of the run, its `prompts.form` resolved."""
    clock: Callable[[], float]
    reads_neurons: bool = True
    """Whether what is planned reads any."""

    def timed(self, call: Callable[[], T]) -> tuple[T, float]:
        """Return what a call gives and the seconds that it takes, never zero."""
        start = self.clock()
        result = call()
        return result, max(self.clock() - start, SHORTEST)

    def length(self, asked: PromptedQuestion) -> int:
        """Return the tokens that are read to answer a question."""
        found = count_questions(self.model, [asked])
        return found.prompt_tokens + found.extra_tokens

    def tokens(self, asked: Sequence[PromptedQuestion]) -> int:
        """Return the tokens that are read to answer some questions."""
        return sum(map(self.length, asked))

    def limit(self) -> int:
        """Return where free completions are cut."""
        return min(MEASURED_TOKENS, self.config.rollouts.max_new_tokens)

    def cut_config(self, limit: int) -> Config:
        """Return the settings of a run whose completions end early."""
        cut = {"max_new_tokens": limit}
        return self.config.changed(rollouts=cut, distill=cut, evaluation=cut)


@dataclass(frozen=True, slots=True)
class Answered:
    """A sample of questions of one kind with the model's answers."""

    asked: tuple[PromptedQuestion, ...]
    rollouts: tuple[Rollout, ...]
    seconds_per_token: float
    """Of what `Trial.length` counts."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a sample of free answers shows besides."""

    decoding: Decoding = field(default_factory=Decoding)
    end_chance: float = 1.0
    """Of a token, that it ends a completion."""
    position: float = 0.0
    """Bytes that one more position of growing completions takes."""
    num_positions: int = 0
    """Such positions in the larger sample."""

    def length(self, longest: int) -> float:
        """Return the mean length of completions that are cut at `longest`."""
        return measuring.mean_length(self.end_chance, longest)

    def rest(self, trial: Trial, longest: int) -> float:
        """Return what a completion cut in the sample would have had besides."""
        return self.length(max(0, longest - trial.limit()))


def try_choices(trial: Trial, asked: Sequence[PromptedQuestion]) -> Answered:
    """Answer a sample of questions among their choices, as the run does."""
    return grow_sample(trial, asked, trial.config, pool_draws(trial.config))


def grow_sample(
    trial: Trial,
    asked: Sequence[PromptedQuestion],
    config: Config,
    draws: Sequence[tuple[float, int]],
) -> Answered:
    """Answer a few questions, then as many as the time allows, up to a block."""
    ordered = sorted(asked, key=trial.length)

    def answer(some: Sequence[PromptedQuestion]) -> list[Rollout]:
        return sample_rollouts(trial.model, some, config, OWN, draws)

    answer(ordered[:1])
    sample = measuring.spread(ordered, min(FEW, len(ordered)))
    rollouts, seconds = trial.timed(partial(answer, sample))
    most = min(config.rollouts.block_size, len(ordered))
    count = measuring.affordable(seconds / len(sample), ANSWERING_SECONDS, most)
    if count > len(sample):
        sample = measuring.spread(ordered, count)
        rollouts, seconds = trial.timed(partial(answer, sample))
    return Answered(tuple(sample), tuple(rollouts), seconds / trial.tokens(sample))


def try_writing(
    trial: Trial, asked: Sequence[PromptedQuestion]
) -> tuple[Answered, Written]:
    """Answer a sample of questions freely, completions cut after a few dozen tokens.

    A pass that makes one token each says what prompts cost; a small and a larger
    sample say what each further token costs, for all rows and for each.
    """
    temperature = trial.config.rollouts.temperature
    read = grow_sample(trial, asked, trial.cut_config(1), [(temperature, 1)])
    ordered = sorted(asked, key=trial.length)
    few = write(trial, measuring.spread(ordered, 1), read.seconds_per_token)
    rollouts = trial.config.rollouts
    side_by_side = MAX_ROWS // rollouts.num_samples
    most = max(1, min(rollouts.block_size, len(ordered), side_by_side))
    # More rows cost little more time, and two samples of like size would not tell a
    # step's cost from a row's.
    least = min(most, max(2, TELLING_ROWS // rollouts.num_samples))
    count = max(least, measuring.affordable(few.seconds, WRITING_SECONDS, most))
    many = write(trial, measuring.spread(ordered, count), read.seconds_per_token)
    made = [rollout.completion for rollout in many.rollouts]
    more = many.positions() - few.positions()
    written = Written(
        decoding=measuring.fit_decoding(few.work(), many.work()),
        end_chance=measuring.end_chance(made),
        position=max(0, many.peak - few.peak) / more if more > 0 else 0.0,
        num_positions=many.positions(),
    )
    return replace(read, asked=many.asked, rollouts=many.rollouts), written


@dataclass(frozen=True, slots=True)
class WritingSample:
    """Free answers of some questions with what they took."""

    asked: tuple[PromptedQuestion, ...]
    rollouts: tuple[Rollout, ...]
    seconds: float
    """Without the reading of prompts."""
    peak: int

    def work(self) -> tuple[int, int, float]:
        """Return decoding steps, tokens made and seconds."""
        return *decoded(self.rollouts), self.seconds

    def positions(self) -> int:
        """Return the positions that are held while the last completion grows."""
        return len(self.rollouts) * decoded(self.rollouts)[0]


def write(
    trial: Trial, asked: Sequence[PromptedQuestion], reading: float
) -> WritingSample:
    """Answer some questions freely, as often as the run does."""
    rollouts = trial.config.rollouts
    device = trial.model.facts.device
    draws = [(rollouts.temperature, rollouts.num_samples)]
    forget_peak(device)
    made, seconds = trial.timed(
        lambda: sample_rollouts(
            trial.model, asked, trial.cut_config(trial.limit()), OWN, draws
        )
    )
    without = seconds - reading * trial.tokens(asked)
    return WritingSample(
        tuple(asked), tuple(made), max(without, 0.05 * seconds), peak_memory(device)
    )


def decoded(rollouts: Sequence[Rollout]) -> tuple[int, int]:
    """Return the steps and the tokens of completions that grew side by side."""
    lengths = [len(rollout.completion.token_ids) for rollout in rollouts]
    return max(lengths), sum(lengths)
