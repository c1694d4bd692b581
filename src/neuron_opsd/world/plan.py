"""What a run will cost: plain arithmetic on counts of tokens and measured rates.

`world.measure` makes the counts and the rates from a model.

Tokens of three kinds are told apart: *prefill* (read many at once), *decode* (made one
after another) and *train* (forward and backward).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from neuron_opsd.config import Config

if TYPE_CHECKING:
    from neuron_opsd.models.protocol import ModelFacts

MARGIN = 0.25
"""Share by which times are uncertain, up and down."""

PROGRAM_BYTES = 700 * 2**20
"""Python and the libraries before any weight is read."""

REPORT_BYTES = 3 * 2**20

BYTES_PER_TOKEN_STORED = 8
"""Of a rollout on the disk: ids and text, compressed."""


@dataclass(frozen=True, slots=True)
class QuestionTokens:
    """A set of questions in tokens; sums over the set."""

    num_questions: int
    prompt_tokens: int
    choice_tokens: int = 0
    """Of all choices of all questions, read when answers are constrained to them."""
    num_choices: int = 0
    """Of all questions together."""
    longest_prompt: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """What a run is about to do."""

    pool: QuestionTokens
    tests: QuestionTokens
    completion_tokens: float
    """Mean length of a free completion, end token included."""
    constrained: bool
    """Whether answers are drawn among choices, which reads tokens and makes none."""
    in_domain: QuestionTokens | None = None
    """The test set that is also asked with demonstrations; `None` for all of them."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens per second on this machine."""

    prefill: float
    decode: float
    """Over all completions that are made side by side."""
    train: float
    capture: float
    """Of a forward pass that hands on contribution scores."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """The cost of one stage."""

    name: str
    prefill_tokens: int
    decode_tokens: int
    train_tokens: int
    seconds: float
    low: float
    high: float

    @property
    def tokens(self) -> int:
        """Tokens of all kinds."""
        return self.prefill_tokens + self.decode_tokens + self.train_tokens


@dataclass(frozen=True, slots=True)
class Plan:
    """The cost of a run."""

    stages: tuple[StagePlan, ...]
    peak_memory_bytes: int
    disk_bytes: int

    @property
    def seconds(self) -> float:
        """Time of all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def low(self) -> float:
        """Time if everything goes well."""
        return sum(stage.low for stage in self.stages)

    @property
    def high(self) -> float:
        """Time if everything goes slowly."""
        return sum(stage.high for stage in self.stages)


def plan(work: Work, rates: Rates, facts: ModelFacts, config: Config) -> Plan:
    """Work out what a run will cost, without running anything."""
    if work.constrained and work.pool.num_choices:
        length = work.pool.choice_tokens / work.pool.num_choices
        work = replace(work, completion_tokens=length)
    builders = (rollouts, neurons, fitness, training, evaluation, control)
    stages = [build(work, rates, config) for build in builders]
    return Plan(
        stages=tuple(stage for stage in stages if stage.tokens),
        peak_memory_bytes=peak_memory(work, facts, config),
        disk_bytes=disk(work, facts, config),
    )


def rollouts(work: Work, rates: Rates, config: Config) -> StagePlan:
    """Cost of answering the pool, the greedy answers included where they are shown."""
    prefill, decode = answering(work, work.pool, num_rollouts(config))
    return stage("rollouts", rates, prefill, decode)


def neurons(work: Work, rates: Rates, config: Config) -> StagePlan:
    """Cost of one pass over each question of the pool with its completion."""
    del config
    tokens = work.pool.prompt_tokens + work.pool.num_questions * work.completion_tokens
    return stage("neurons", rates, tokens, prefill_rate=rates.capture)


def fitness(work: Work, rates: Rates, config: Config) -> StagePlan:
    """Cost of asking student and teacher, the teacher with two contexts."""
    if config.fitness.action == "off":
        return stage("fitness", rates, 0)
    count = min(config.fitness.num_questions, num_selected(work, config))
    student, teacher = mean_prompt(work), teacher_prompt(work, config)
    answer = work.completion_tokens
    return stage("fitness", rates, count * (student + 2 * teacher + 3 * answer))


def training(
    work: Work, rates: Rates, config: Config, name: str = "training"
) -> StagePlan:
    """Cost of the optimiser's steps: a rollout, a teacher's and a student's pass."""
    count = config.distill.steps * config.distill.batch_size
    prompt, answer = mean_prompt(work), work.completion_tokens
    sampled, decoded = sampling_cost(work, prompt)
    taught = teacher_prompt(work, config) + answer
    return stage(
        name,
        rates,
        count * (sampled + taught),
        count * decoded,
        count * (prompt + answer),
    )


def evaluation(work: Work, rates: Rates, config: Config) -> StagePlan:
    """Cost of testing the model before and after, and with demonstrations."""
    prefill, decode = answering(work, work.tests, config.evaluation.num_samples)
    more_prefill, more_decode = prompted(work, config)
    return stage(
        "evaluation", rates, 2 * prefill + more_prefill, 2 * decode + more_decode
    )


def prompted(work: Work, config: Config) -> tuple[float, float]:
    """Return the prefill and decode tokens of the test with demonstrations.

    Questions find their demonstrations by the neurons of an answer of their own, so
    they are answered twice and read once more.
    """
    if not (config.evaluation.prompted and config.contexts.num_demonstrations):
        return 0.0, 0.0
    tests = work.in_domain or work.tests
    own, made = answering(work, tests, num_rollouts(config))
    prefill, decode = answering(work, tests, config.evaluation.num_samples)
    read = tests.prompt_tokens + tests.num_questions * work.completion_tokens
    shown = tests.num_questions * (teacher_prompt(work, config) - mean_prompt(work))
    return own + read + prefill + shown, made + decode


def num_rollouts(config: Config) -> int:
    """Return how often a question is answered to get a demonstration of it."""
    return config.rollouts.num_samples + (config.contexts.answer == "greedy")


def control(work: Work, rates: Rates, config: Config) -> StagePlan:
    """Cost of training and testing on random choices, where that is asked for."""
    if not config.evaluation.form_only:
        return stage("form-only control", rates, 0)
    count = config.distill.steps * config.distill.batch_size
    trained = count * (mean_prompt(work) + work.completion_tokens)
    prefill, decode = answering(work, work.tests, config.evaluation.num_samples)
    return stage("form-only control", rates, prefill, decode, trained)


def stage(
    name: str,
    rates: Rates,
    prefill: float,
    decode: float = 0.0,
    train: float = 0.0,
    *,
    prefill_rate: float | None = None,
) -> StagePlan:
    """Turn the tokens of a stage into its time, with a margin."""
    seconds = (
        prefill / (prefill_rate or rates.prefill)
        + decode / rates.decode
        + train / rates.train
    )
    return StagePlan(
        name=name,
        prefill_tokens=round(prefill),
        decode_tokens=round(decode),
        train_tokens=round(train),
        seconds=seconds,
        low=seconds * (1 - MARGIN),
        high=seconds * (1 + MARGIN),
    )


def answering(
    work: Work, questions: QuestionTokens, samples: int
) -> tuple[float, float]:
    """Return the prefill and decode tokens of sampling answers to some questions."""
    if work.constrained:
        return questions.prompt_tokens + questions.choice_tokens, 0.0
    made = questions.num_questions * samples * work.completion_tokens
    return questions.prompt_tokens, made


def sampling_cost(work: Work, prompt: float) -> tuple[float, float]:
    """Return the prefill and decode tokens of one rollout of one pool question."""
    if work.constrained:
        choices = work.pool.choice_tokens / max(1, work.pool.num_questions)
        return prompt + choices, 0.0
    return prompt, work.completion_tokens


def mean_prompt(work: Work) -> float:
    """Return the mean length of the student's prompts."""
    return work.pool.prompt_tokens / max(1, work.pool.num_questions)


def teacher_prompt(work: Work, config: Config) -> float:
    """Return the mean length of the teacher's prompts."""
    shown = config.contexts.num_demonstrations
    shown = min(shown, max(0, work.pool.num_questions - 1))
    return mean_prompt(work) + shown * (mean_prompt(work) + work.completion_tokens)


def num_selected(work: Work, config: Config) -> int:
    """Return how many questions of the pool are trained on, ties left out."""
    if config.selection.rule == "all":
        return work.pool.num_questions
    return math.ceil(config.selection.keep_fraction * work.pool.num_questions)


def trained_parameters(facts: ModelFacts, config: Config) -> int:
    """Return how many numbers are trained: all, or the adapter on linear layers."""
    if config.distill.tuning == "full":
        return facts.num_parameters
    attention = 4 * 2 * facts.width
    mlp = 3 * (facts.width + facts.num_neurons)
    return config.distill.lora_rank * facts.num_layers * (attention + mlp)


def peak_memory(work: Work, facts: ModelFacts, config: Config) -> int:
    """Estimate the most memory that a run holds, in bytes.

    Weights, what the optimiser and the teacher keep, the activations that a
    micro-batch leaves for the backward pass, the logits of a chunk, and a batch of
    keys and values while answers are sampled.
    """
    number = 2 if facts.compute == "bfloat16" else 4
    weights = facts.num_parameters * 4
    if facts.compute == "bfloat16":
        weights += facts.num_parameters * 2
    # Gradient, two moments and the teacher's copy, beside the adapter itself.
    learner = trained_parameters(facts, config) * 4 * 5
    longest = work.pool.longest_prompt + work.completion_tokens
    tokens = config.distill.micro_batch_size * longest
    # Per layer about 16 widths around attention and 4 of the MLP are kept.
    per_token = facts.num_layers * (16 * facts.width + 4 * facts.num_neurons)
    activations = tokens * per_token * number
    logits = config.distill.chunk_positions * facts.vocab_size * 4 * 3
    cache = config.model.tokens_per_batch * facts.num_layers * 2 * facts.width * number
    return round(PROGRAM_BYTES + weights + max(learner + activations + logits, cache))


def disk(work: Work, facts: ModelFacts, config: Config) -> int:
    """Estimate the bytes of a finished run directory.

    Two checkpoints (student, teacher, two moments), the adapter, every rollout and the
    neurons of every question of the pool, eight bytes each.
    """
    trained = trained_parameters(facts, config) * 4
    samples = config.rollouts.num_samples * work.pool.num_questions
    samples += 3 * config.evaluation.num_samples * work.tests.num_questions
    stored = samples * work.completion_tokens * BYTES_PER_TOKEN_STORED
    kept = config.neurons.keep or scaled_keep(facts)
    sets = work.pool.num_questions * kept * 8
    return round(trained * (2 * 4 + 1) + stored + sets + REPORT_BYTES)


def scaled_keep(facts: ModelFacts) -> int:
    """Return the paper's 5,000 of 36 x 9,728 neurons for a model of another size."""
    return max(1, round(5000 * facts.num_layers * facts.num_neurons / (36 * 9728)))
