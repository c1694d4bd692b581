"""A run's workload, measured rates and costs: the terms of a plan.

Each token of free answers is assumed to end them with the same chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

from neuron_opsd.config import Config
from neuron_opsd.methods import needs_contexts
from neuron_opsd.models.room import MAX_ROWS

EULER = 0.5772


@dataclass(frozen=True, slots=True)
class QuestionTokens:
    """A set of questions in tokens; sums over the set."""

    num_questions: int
    prompt_tokens: int
    choice_tokens: int = 0
    """All choices of questions answered by choosing."""
    num_choices: int = 0
    """Of all questions together."""
    extra_rows: int = 0
    """Extra reads of prompts whose choices diverge after the first token."""
    extra_tokens: int = 0
    """Tokens of these rows, and of choices, beyond one prompt per question."""
    num_free: int = 0
    """Questions answered token by token."""


@dataclass(frozen=True, slots=True)
class Writing:
    """Lengths of free answers for one purpose, in tokens."""

    mean: float
    """Including the end token."""
    limit: int
    """Length at which they are cut."""


@dataclass(frozen=True, slots=True)
class Work:
    """A run's workload."""

    pool: QuestionTokens
    tests: QuestionTokens
    in_domain: QuestionTokens
    """The test set that is also asked with demonstrations."""
    written: Writing
    """In the pool and the teacher check."""
    trained: Writing
    """In training."""
    tested: Writing
    """In tests."""
    trained_prompt: float
    """Mean length of the student's training prompts."""
    shown_tokens: float
    """Mean length that demonstrations add to a prompt."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """Seconds to generate tokens."""

    step_seconds: float = 0.0
    """Per step, whatever the number of rows."""
    token_seconds: float = 0.0
    """Per row's token, in addition."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds that samples of a run's work took on this machine."""

    reading: float
    """Per token of plain prompts, as often as choices need, and of choices."""
    showing: float
    """The same for prompts with demonstrations."""
    capture: float
    """Per token of a pass that reads neurons."""
    distil_step: float = 0.0
    """Per optimiser step: rollouts, teacher, student, backward and update."""
    form_step: float = 0.0
    """Per optimiser step of the form-only control."""
    saving: float = 0.0
    """Per checkpoint."""
    loading: float = 0.0
    """Per model loaded."""
    decoding: Decoding = Decoding()


@dataclass(frozen=True, slots=True)
class Held:
    """Peak bytes of samples of a run's work."""

    answering: int
    """With only the base model."""
    training: int
    """With the base model and the learner."""
    network: int
    """Per additional model."""
    between: int = 0
    """Between training steps."""
    engine: int = 0
    """What vLLM holds if it writes answers."""
    sleeps: bool = False
    """Whether it frees that while a network computes here."""
    position: float = 0.0
    """Per position of growing completions."""
    num_positions: int = 0
    """In the sample."""


def teacher_prompts(config: Config) -> int:
    """Return how many prompts of a question the teacher reads in a step."""
    if not needs_contexts(config):
        return 1
    return min(config.contexts.num_contexts, config.distill.num_samples)


def decoding_steps(
    writing: Writing, num_questions: int, samples: int, config: Config
) -> float:
    """Return the number of decoding steps over all blocks.

    Ended samples make room for others; memory is assumed to hold all parallel rows.
    """
    block = min(num_questions, config.rollouts.block_size)
    if not block:
        return 0.0
    mean, limit = writing.mean, writing.limit
    rows = rows_of(block, samples)
    waiting = block * samples * min(mean, limit) / rows
    return num_questions / block * max(waiting, expected_longest(mean, rows, limit))


def rows_of(num_questions: int, samples: int) -> int:
    """Return the most samples of a block decoded in parallel."""
    return min(MAX_ROWS, num_questions * samples)


def expected_longest(mean: float, rows: int, limit: int) -> float:
    """Return the expected maximum length of `rows` completions.

    Assumes a constant chance of ending per token.
    """
    if mean <= 1.0 or mean >= limit:
        return min(float(limit), max(1.0, mean))
    last = (math.log(rows) + EULER) / -math.log1p(-1.0 / mean)
    return min(float(limit), max(mean, last))


def answer_length(writing: Writing, questions: QuestionTokens) -> float:
    """Return an answer's mean length, free or a choice, with end token."""
    if not questions.num_questions:
        return 0.0
    free = questions.num_free / questions.num_questions
    choice = questions.choice_tokens / max(1, questions.num_choices)
    return free * writing.mean + (1.0 - free) * choice


def answers_length(writing: Writing, questions: QuestionTokens, number: int) -> float:
    """Return the mean length of a question's different answers, `number` at most."""
    if not questions.num_questions:
        return 0.0
    free = questions.num_free / questions.num_questions
    among = questions.num_questions - questions.num_free
    chosen = min(number, questions.num_choices / max(1, among))
    choice = questions.choice_tokens / max(1, questions.num_choices)
    return free * number * writing.mean + (1.0 - free) * chosen * choice


def num_saved(config: Config) -> int:
    """Count the checkpoints written."""
    return config.distill.steps // config.distill.checkpoint_every


def part_of(questions: QuestionTokens, count: int) -> QuestionTokens:
    """Return the tokens of `count` questions like these."""
    share = count / max(1, questions.num_questions)
    parts = QuestionTokens(*(round(share * one) for one in astuple(questions)))
    return replace(parts, num_questions=count)


MARGIN = 0.25
"""Relative uncertainty of times, up and down."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """The cost of one stage."""

    name: str
    prefill_tokens: int
    decode_tokens: int
    train_tokens: int
    seconds: float | None
    """`None`, like its range, if not measured."""
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
    """0 if the system does not say."""
    disk_bytes: int
    engine_memory_bytes: int = 0
    """Part of the peak: what vLLM holds if it writes answers."""
    why_untimed: str = ""
    """Why stages lack a time; empty if none does."""

    @property
    def seconds(self) -> float | None:
        """Total time, `None` if a stage has none."""
        return total([stage.seconds for stage in self.stages])

    @property
    def low(self) -> float | None:
        """Total time in the best case."""
        return total([stage.low for stage in self.stages])

    @property
    def high(self) -> float | None:
        """Total time in the worst case."""
        return total([stage.high for stage in self.stages])


def total(times: Sequence[float | None]) -> float | None:
    """Return the sum of times, `None` if one is missing."""
    known = [time for time in times if time is not None]
    return sum(known) if len(known) == len(times) else None


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens by kind and their time; costs add up."""

    prefill: float = 0.0
    decode: float = 0.0
    train: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def stage(self, name: str, config: Config) -> StagePlan:
        """Return it as a stage with a margin; untimed if vLLM writes."""
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
    """Whether another engine than our decoder writes free answers."""
    return config.engine.rollouts != "transformers"
