"""What a run is about to do, what samples of it took, and costs: the terms of a plan.

The lengths of free answers are taken as if every token ended one with the same chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

from neuron_opsd.config import Config
from neuron_opsd.models.room import MAX_ROWS

EULER = 0.5772


@dataclass(frozen=True, slots=True)
class QuestionTokens:
    """A set of questions in tokens; sums over the set."""

    num_questions: int
    prompt_tokens: int
    choice_tokens: int = 0
    """Of all choices of all questions that are answered by choosing."""
    num_choices: int = 0
    """Of all questions together."""
    extra_rows: int = 0
    """How often prompts are read again because choices part after their first token."""
    extra_tokens: int = 0
    """What is read in these rows, and of choices, beyond one prompt a question."""
    num_free: int = 0
    """Questions whose answer is made token by token."""


@dataclass(frozen=True, slots=True)
class Writing:
    """How long free answers are that are asked for one purpose, in tokens."""

    mean: float
    """End token included."""
    limit: int
    """Where they are cut."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a run is about to do."""

    pool: QuestionTokens
    tests: QuestionTokens
    in_domain: QuestionTokens
    """The test set that is also asked with demonstrations."""
    written: Writing
    """Of the pool and of the teacher's check."""
    trained: Writing
    """Of training."""
    tested: Writing
    """Of the tests."""
    trained_prompt: float
    """Mean length of the student's prompts that are trained on."""
    shown_tokens: float
    """Mean length that demonstrations add to a prompt."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """Seconds that making tokens takes."""

    step_seconds: float = 0.0
    """Of one more token for all rows, whatever their number."""
    token_seconds: float = 0.0
    """Of each row's token besides."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds that samples of a run's own work took on this machine."""

    reading: float
    """Per token of plain prompts, as often as choices need them, and of choices."""
    showing: float
    """The same of prompts with demonstrations."""
    capture: float
    """Per token of a pass that reads off neurons."""
    distil_step: float = 0.0
    """Per optimiser step: rollouts, teacher, student, backward and update."""
    form_step: float = 0.0
    """Per optimiser step of the form-only control."""
    saving: float = 0.0
    """Per checkpoint."""
    loading: float = 0.0
    """Per model that is loaded."""
    decoding: Decoding = Decoding()


@dataclass(frozen=True, slots=True)
class Held:
    """The most bytes that samples of a run's own work held."""

    answering: int
    """With the base model alone."""
    training: int
    """With the base model and the one that learns."""
    network: int
    """What one more model takes."""
    between: int = 0
    """Between steps of training."""
    engine: int = 0
    """What vLLM holds where it writes answers."""
    sleeps: bool = False
    """Whether it gives that back while a network computes here."""
    position: float = 0.0
    """What one more position takes of completions that grow side by side."""
    num_positions: int = 0
    """Such positions in the sample."""


def decoding_steps(
    writing: Writing, num_questions: int, samples: int, config: Config
) -> float:
    """Return how often a token is made for all rows that grow, over all blocks.

    A sample that ends makes room for the next. Memory is taken to have room for all the
    rows that are decoded side by side.
    """
    block = min(num_questions, config.rollouts.block_size)
    if not block:
        return 0.0
    mean, limit = writing.mean, writing.limit
    rows = rows_of(block, samples)
    waiting = block * samples * min(mean, limit) / rows
    return num_questions / block * max(waiting, expected_longest(mean, rows, limit))


def rows_of(num_questions: int, samples: int) -> int:
    """Return how many samples of a block are written side by side, at most."""
    return min(MAX_ROWS, num_questions * samples)


def expected_longest(mean: float, rows: int, limit: int) -> float:
    """Return the expected length of the longest of some completions.

    Every token is taken to end a completion with the same chance.
    """
    if mean <= 1.0 or mean >= limit:
        return min(float(limit), max(1.0, mean))
    last = (math.log(rows) + EULER) / -math.log1p(-1.0 / mean)
    return min(float(limit), max(mean, last))


def answer_length(writing: Writing, questions: QuestionTokens) -> float:
    """Return the mean length of an answer, free or a choice, end token included."""
    if not questions.num_questions:
        return 0.0
    free = questions.num_free / questions.num_questions
    choice = questions.choice_tokens / max(1, questions.num_choices)
    return free * writing.mean + (1.0 - free) * choice


def part_of(questions: QuestionTokens, count: int) -> QuestionTokens:
    """Return the tokens of so many questions that are like these."""
    share = count / max(1, questions.num_questions)
    parts = QuestionTokens(*(round(share * one) for one in astuple(questions)))
    return replace(parts, num_questions=count)


MARGIN = 0.25
"""Share by which times are uncertain, up and down."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """The cost of one stage."""

    name: str
    prefill_tokens: int
    decode_tokens: int
    train_tokens: int
    seconds: float | None
    """`None`, as its range, where it was not measured."""
    low: float | None
    high: float | None

    @property
    def tokens(self) -> int:
        """Tokens of all kinds."""
        return self.prefill_tokens + self.decode_tokens + self.train_tokens


@dataclass(frozen=True, slots=True)
class Plan:
    """The cost of a run."""

    stages: tuple[StagePlan, ...]
    peak_memory_bytes: int
    """0 where the system does not say."""
    disk_bytes: int
    engine_memory_bytes: int = 0
    """Of the peak, what vLLM holds where it writes answers."""
    why_untimed: str = ""
    """Why stages have no time; empty where all have one."""

    @property
    def seconds(self) -> float | None:
        """Time of all stages, `None` where one has none."""
        return total([stage.seconds for stage in self.stages])

    @property
    def low(self) -> float | None:
        """Time if everything goes well."""
        return total([stage.low for stage in self.stages])

    @property
    def high(self) -> float | None:
        """Time if everything goes slowly."""
        return total([stage.high for stage in self.stages])


def total(times: Sequence[float | None]) -> float | None:
    """Return the sum of times, `None` if one is missing."""
    known = [time for time in times if time is not None]
    return sum(known) if len(known) == len(times) else None


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens of each kind and the time that they take; costs add up."""

    prefill: float = 0.0
    decode: float = 0.0
    train: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def stage(self, name: str, config: Config) -> StagePlan:
        """Return it as a stage, with a margin; without a time where vLLM writes."""
        timed = not (self.decode and writes_elsewhere(config))
        return StagePlan(
            name=name,
            prefill_tokens=round(self.prefill),
            decode_tokens=round(self.decode),
            train_tokens=round(self.train),
            seconds=self.seconds if timed else None,
            low=self.seconds * (1 - MARGIN) if timed else None,
            high=self.seconds * (1 + MARGIN) if timed else None,
        )


def writes_elsewhere(config: Config) -> bool:
    """Whether another engine than our own decoder writes free answers."""
    return config.engine.rollouts != "transformers"
