"""Timed samples of a run's stages, which `planning.costs` scales up.

The slow first call of each kind is not counted. Earlier samples set the size of later
ones.
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
from neuron_opsd.planning.workload import Decoding, QuestionTokens
from neuron_opsd.processes.memory import forget_peak, peak_memory
from neuron_opsd.records import Completion, Rollout
from neuron_opsd.stages.rollouts import (
    OWN,
    PromptedQuestion,
    choice_tokens,
    pool_draws,
    sample_rollouts,
)

T = TypeVar("T")

ANSWERING_SECONDS = 4.0
WRITING_SECONDS = 4.0
"""Budgets for answers among choices, and for free ones."""

TELLING_ROWS = 64
"""Minimum completions in the larger sample of free answers."""

MEASURED_TOKENS = 32
"""Length at which sampled free completions are cut."""

FEW = 4
"""Questions in the first sample, which sets the size of the second."""

SHORTEST = 1e-9
"""Minimum seconds of anything."""


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return items at evenly spaced ranks, never at the ends.

    Of sorted items, such a sample has on average the mean, spread and maximum of a
    random one of its size.

    Args:
        items: In order of size, at least one.
        count: If larger than `items`, items repeat.

    Example:
        >>> spread([1, 2, 3, 4, 5, 6], 2), spread([1, 2], 3)
        ([2, 5], [1, 2, 2])
    """
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def affordable(seconds_each: float, allowed: float, most: int) -> int:
    """Return how many things fit into a time, at least one."""
    if seconds_each * most <= allowed:
        return most
    return max(1, int(allowed / seconds_each))


def fit_decoding(few: tuple[int, int, float], many: tuple[int, int, float]) -> Decoding:
    """Separate the cost of a decoding step from that of its rows.

    Example:
        >>> fit_decoding((10, 10, 30.0), (10, 40, 60.0))
        Decoding(step_seconds=2.0, token_seconds=1.0)
    """
    slope = few[0] * many[1] - many[0] * few[1]
    token = (few[0] * many[2] - many[0] * few[2]) / slope if slope else 0.0
    # A falling line is noise: then use the larger sample alone.
    token = token if 0.0 < token * many[1] <= many[2] else many[2] / max(1, many[1])
    return Decoding(max(0.0, many[2] - token * many[1]) / max(1, many[0]), token)


def end_chance(completions: Sequence[Completion]) -> float:
    """Return the chance that a token ends a completion, assumed constant.

    Unlike a plain mean, this accounts for cut completions.

    Example:
        >>> end_chance([])
        0.0
    """
    made = sum(len(one.token_ids) for one in completions)
    return min(1.0, sum(one.finished for one in completions) / made) if made else 0.0


def mean_length(chance: float, longest: int) -> float:
    """Return the mean length of completions with a constant chance of ending.

    Args:
        chance: Per token; 0 if none ever ends one.
        longest: Length at which completions are cut.

    Example:
        >>> mean_length(0.5, 2), mean_length(0.0, 7)
        (1.5, 7.0)
    """
    if not chance:
        return float(longest)
    return (1.0 - (1.0 - chance) ** longest) / chance


def count_questions(
    model: Tokenizer, asked: Sequence[PromptedQuestion]
) -> QuestionTokens:
    """Count the tokens of questions and of scoring their choices.

    A prompt, with the choices' shared prefix, is read once per final branching point of
    its choices.
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
    """Of the run, with `prompts.form` resolved."""
    clock: Callable[[], float]
    reads_neurons: bool = True
    """Whether the plan reads neurons."""

    def timed(self, call: Callable[[], T]) -> tuple[T, float]:
        """Return a call's result and its seconds, never zero."""
        start = self.clock()
        result = call()
        return result, max(self.clock() - start, SHORTEST)

    def length(self, asked: PromptedQuestion) -> int:
        """Return the tokens read to answer a question."""
        found = count_questions(self.model, [asked])
        return found.prompt_tokens + found.extra_tokens

    def tokens(self, asked: Sequence[PromptedQuestion]) -> int:
        """Return the tokens read to answer some questions."""
        return sum(map(self.length, asked))

    def limit(self) -> int:
        """Return the length at which free completions are cut."""
        return min(MEASURED_TOKENS, self.config.rollouts.max_new_tokens)

    def cut_config(self, limit: int) -> Config:
        """Return the run's settings with completions cut early."""
        cut = {"max_new_tokens": limit}
        return self.config.changed(rollouts=cut, distill=cut, evaluation=cut)

    def answered(
        self, asked: Sequence[PromptedQuestion]
    ) -> tuple[list[Rollout], float]:
        """Answer questions like the run, but cut early; return the seconds."""
        drawn, cut = self.config.rollouts, self.cut_config(self.limit())
        draws = [(drawn.temperature, drawn.num_samples)]
        return self.timed(lambda: sample_rollouts(self.model, asked, cut, OWN, draws))


@dataclass(frozen=True, slots=True)
class Answered:
    """Sampled questions of one kind with the model's answers."""

    asked: tuple[PromptedQuestion, ...]
    rollouts: tuple[Rollout, ...]
    seconds_per_token: float
    """Per token as counted by `Trial.length`."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a sample of free answers also shows."""

    decoding: Decoding = field(default_factory=Decoding)
    end_chance: float = 1.0
    """Per token, of ending a completion."""
    position: float = 0.0
    """Bytes per position of growing completions."""
    num_positions: int = 0
    """In the larger sample."""

    def length(self, longest: int) -> float:
        """Return the mean length of completions cut at `longest`."""
        return mean_length(self.end_chance, longest)

    def rest(self, trial: Trial, longest: int) -> float:
        """Return a cut completion's expected further tokens."""
        return self.length(max(0, longest - trial.limit()))


def try_choices(trial: Trial, asked: Sequence[PromptedQuestion]) -> Answered:
    """Answer sampled questions among their choices, as the run does."""
    return grow_sample(trial, asked, trial.config, pool_draws(trial.config))


def grow_sample(
    trial: Trial,
    asked: Sequence[PromptedQuestion],
    config: Config,
    draws: Sequence[tuple[float, int]],
) -> Answered:
    """Answer a few questions, then as many as time allows, up to a block."""
    ordered = sorted(asked, key=trial.length)

    def answer(some: Sequence[PromptedQuestion]) -> list[Rollout]:
        return sample_rollouts(trial.model, some, config, OWN, draws)

    answer(ordered[:1])
    sample = spread(ordered, min(FEW, len(ordered)))
    rollouts, seconds = trial.timed(partial(answer, sample))
    most = min(config.rollouts.block_size, len(ordered))
    count = affordable(seconds / len(sample), ANSWERING_SECONDS, most)
    if count > len(sample):
        sample = spread(ordered, count)
        rollouts, seconds = trial.timed(partial(answer, sample))
    return Answered(tuple(sample), tuple(rollouts), seconds / trial.tokens(sample))


def try_writing(
    trial: Trial, asked: Sequence[PromptedQuestion]
) -> tuple[Answered, Written]:
    """Answer sampled questions freely, cut after a few dozen tokens.

    A pass of one token each gives the cost of prompts; a small and a larger sample give
    that of further tokens, shared and per row.
    """
    temperature = trial.config.rollouts.temperature
    read = grow_sample(trial, asked, trial.cut_config(1), [(temperature, 1)])
    ordered = sorted(asked, key=trial.length)
    few = write(trial, spread(ordered, 1), read.seconds_per_token)
    rollouts = trial.config.rollouts
    side_by_side = MAX_ROWS // rollouts.num_samples
    most = max(1, min(rollouts.block_size, len(ordered), side_by_side))
    # More rows cost little more time, and samples of similar size could not
    # separate a step's cost from a row's.
    least = min(most, max(2, TELLING_ROWS // rollouts.num_samples))
    count = max(least, affordable(few.work[-1], WRITING_SECONDS, most))
    many = write(trial, spread(ordered, count), read.seconds_per_token)
    more = many.positions - few.positions
    written = Written(
        decoding=fit_decoding(few.work, many.work),
        end_chance=end_chance([rollout.completion for rollout in many.rollouts]),
        position=max(0, many.peak - few.peak) / more if more > 0 else 0.0,
        num_positions=many.positions,
    )
    return replace(read, asked=many.asked, rollouts=many.rollouts), written


@dataclass(frozen=True, slots=True)
class WritingSample:
    """Free answers to some questions, with their cost."""

    asked: tuple[PromptedQuestion, ...]
    rollouts: tuple[Rollout, ...]
    work: tuple[int, int, float]
    """Decoding steps, tokens generated, and seconds without reading prompts."""
    peak: int

    @property
    def positions(self) -> int:
        """The positions held while the last completion grows."""
        return len(self.rollouts) * self.work[0]


def write(
    trial: Trial, asked: Sequence[PromptedQuestion], reading: float
) -> WritingSample:
    """Answer some questions freely, as often as the run does."""
    device = trial.model.facts.device
    forget_peak(device)
    made, seconds = trial.answered(asked)
    without = max(seconds - reading * trial.tokens(asked), 0.05 * seconds)
    work = (*decoded(made), without)
    return WritingSample(tuple(asked), tuple(made), work, peak_memory(device))


def decoded(rollouts: Sequence[Rollout]) -> tuple[int, int]:
    """Return steps and tokens of completions decoded in parallel."""
    lengths = [len(rollout.completion.token_ids) for rollout in rollouts]
    return max(lengths), sum(lengths)
