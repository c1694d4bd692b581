"""Estimate a run's cost from token counts and measured rates.

Tokens are *prefill* (read in parallel), *decode* (generated one by one) or *train*
(forward and backward).
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

from neuron_opsd.beliefs import belief_name
from neuron_opsd.config import Config, NeuronsConfig
from neuron_opsd.known import MEDOIDS_NAME, NAMES
from neuron_opsd.method.contexts.search import OF_ANSWERS, Signal
from neuron_opsd.method.neurons import scaled_sizes
from neuron_opsd.method.selection import limit_of, share_asked
from neuron_opsd.methods import (
    METHODS,
    context_signals,
    needs_contexts,
    needs_medoids,
    needs_neurons,
)
from neuron_opsd.models.roles import ModelFacts
from neuron_opsd.planning import workload
from neuron_opsd.planning.workload import (
    Cost,
    Held,
    Plan,
    QuestionTokens,
    Rates,
    Work,
    Writing,
    writes_elsewhere,
)
from neuron_opsd.stages.beliefs import MOST_TOKENS
from neuron_opsd.stages.rollouts import shown_draws

WHY_UNTIMED = (
    "vLLM writes the free answers, and a sample of a few seconds does not show how "
    "fast; to find out, run it on a small part of the pool with --set distill.steps=5"
)
"""Shown if a stage has no time."""

TWO_ANSWERS: Final = 2
"""Assumed distinct answers among a free question's samples."""

REPORT_BYTES = 3 * 2**20

BYTES_PER_TOKEN_STORED = 8
"""A stored rollout's ids and text, compressed."""


def plan(
    work: Work, rates: Rates, held: Held, facts: ModelFacts, config: Config
) -> Plan:
    """Estimate a run's cost without running anything."""
    num_loads = 3 if config.evaluation.form_only else 2  # base and trained models
    costs = {
        "loading": Cost(seconds=num_loads * rates.loading),
        "rollouts": rollouts(work, rates, config),
        "neurons": reading_off(
            work.pool,
            scored(work.written, config.neurons),
            rates,
            needed=needs_neurons(config),
        ),
        **passes(work, rates, config),
        "teacher_check": teacher_check(work, rates, config),
        "training": training(work, rates, config),
        "evaluation": evaluation(work, rates, config),
        "form-only control": control(work, rates, config),
    }
    stages = [cost.stage(name, config) for name, cost in costs.items() if cost.seconds]
    untimed = any(stage.seconds is None for stage in stages)
    return Plan(
        stages=tuple(stages),
        peak_memory_bytes=peak_memory(work, held, config),
        disk_bytes=disk(work, facts, config),
        engine_memory_bytes=held.engine if untimed else 0,
        why_untimed=WHY_UNTIMED if untimed else "",
    )


def rollouts(work: Work, rates: Rates, config: Config) -> Cost:
    """Cost of answering the pool, greedily too if those are shown."""
    draws = own_draws(config, config.rollouts.num_samples)
    return answering(work.pool, rates, config, draws, work.written)


def own_draws(config: Config, samples: int) -> tuple[int, ...]:
    """Return the samples per draw, including demonstrations' draws."""
    return (samples, *(count for _, count in shown_draws(config.contexts)))


def teacher_check(work: Work, rates: Rates, config: Config) -> Cost:
    """Cost of asking student and teacher, the teacher with two contexts."""
    if config.teacher_check.action == "off" or not needs_contexts(config):
        return Cost()
    count = min(config.teacher_check.num_questions, num_selected(work, config))
    some = workload.part_of(work.pool, count)
    asked = some, rates, config, (1,), work.written
    shown = answering(*asked, shown=work.shown_tokens)
    return answering(*asked) + shown + shown


def training(work: Work, rates: Rates, config: Config) -> Cost:
    """Cost of the steps: rollouts, teacher and student passes."""
    tuning, saved = config.distill, workload.num_saved(config)
    count = tuning.steps * tuning.batch_size
    some = workload.part_of(work.pool, count)
    drawn = METHODS[config.method].num_drawn(config)
    free = some.num_free * drawn * work.trained.mean
    answers = count * workload.answers_length(
        work.trained, work.pool, tuning.num_samples
    )
    teacher = workload.teacher_prompts(config)
    read = work.trained_prompt + teacher * (work.trained_prompt + work.shown_tokens)
    return Cost(
        prefill=count * read + some.extra_tokens + answers,
        decode=free,
        train=count * work.trained_prompt + answers,
        seconds=tuning.steps * rates.distil_step + saved * rates.saving,
    )


def control(work: Work, rates: Rates, config: Config) -> Cost:
    """Cost of training and testing on random choices, if requested."""
    if not config.evaluation.form_only:
        return Cost()
    tuning = config.distill
    count = tuning.steps * tuning.batch_size
    # It trains on what the pool wrote.
    answer = workload.answer_length(work.written, work.pool)
    trained = count * (work.trained_prompt + answer)
    seconds = tuning.steps * rates.form_step + workload.num_saved(config) * rates.saving
    draws = (config.evaluation.num_samples,)
    tested = answering(work.tests, rates, config, draws, work.tested)
    return Cost(train=trained, seconds=seconds) + tested


def evaluation(work: Work, rates: Rates, config: Config) -> Cost:
    """Cost of testing before and after, and with demonstrations."""
    samples = config.evaluation.num_samples
    draws = own_draws(config, samples)
    before = answering(work.tests, rates, config, draws, work.tested)
    after = answering(work.tests, rates, config, (samples,), work.tested)
    return before + after + with_demonstrations(work, rates, config)


def with_demonstrations(work: Work, rates: Rates, config: Config) -> Cost:
    """Cost of testing with the model's own demonstrations, if requested."""
    if not config.tests_prompted:
        return Cost()
    draws = (config.evaluation.num_samples,)
    home, writing = work.in_domain, work.tested
    asked = answering(home, rates, config, draws, writing, shown=work.shown_tokens)
    signals = config.context_signals
    found = sum(looking_up(home, rates, signals).values(), asked)
    if needs_medoids(config) and signals & OF_ANSWERS:
        found += reading_samples(home, writing, rates, *draws)
    read = scored(writing, config.neurons)
    return found + reading_off(home, read, rates, needed=config.shows_by_neurons)


def answering(
    questions: QuestionTokens,
    rates: Rates,
    config: Config,
    draws: tuple[int, ...],
    writing: Writing,
    *,
    shown: float = 0.0,
) -> Cost:
    """Cost of sampling answers.

    Choices are scored once, however many samples are drawn. Free answers restart with
    each draw; its samples are decoded in parallel. `draws` holds the samples per draw,
    `shown` the demonstration tokens per prompt.
    """
    free = questions.num_free / max(1, questions.num_questions)
    prompts = questions.prompt_tokens + questions.num_questions * shown
    again = questions.extra_tokens + questions.extra_rows * shown
    read = prompts * (1.0 + free * (len(draws) - 1)) + again
    per_token = rates.showing if shown else rates.reading
    made = questions.num_free * sum(draws) * writing.mean
    steps = sum(
        workload.decoding_steps(writing, questions.num_free, samples, config)
        for samples in draws
    )
    seconds = steps * rates.decoding.step_seconds + made * rates.decoding.token_seconds
    return Cost(prefill=read, decode=made, seconds=read * per_token + seconds)


def reading_off(
    questions: QuestionTokens, writing: Writing, rates: Rates, *, needed: bool = True
) -> Cost:
    """Cost of a pass over each question and completion, if needed."""
    if not needed:
        return Cost()
    answers = questions.num_questions * workload.answer_length(writing, questions)
    tokens = questions.prompt_tokens + answers
    return Cost(prefill=tokens, seconds=tokens * rates.capture)


def passes(work: Work, rates: Rates, config: Config) -> dict[str, Cost]:
    """Costs of other passes that selection and retrieval need."""
    found = looking_up(work.pool, rates, context_signals(config))
    if config.selection_rule.reads_teacher:
        found[belief_name(config, free=work.pool.num_free > 0)] = believing(
            work, rates, config
        )
    if needs_medoids(config):
        samples = config.rollouts.num_samples
        found[MEDOIDS_NAME] = reading_samples(work.pool, work.written, rates, samples)
    return found


def looking_up(
    questions: QuestionTokens, rates: Rates, signals: AbstractSet[Signal]
) -> dict[str, Cost]:
    """Costs of passes over questions without answers, by signal."""
    tokens = questions.prompt_tokens
    seconds = {
        Signal.QUESTION_NEURONS: tokens * rates.capture,
        Signal.HIDDEN_STATES: tokens * rates.reading,
    }
    return {
        NAMES[signal]: Cost(prefill=tokens, seconds=time)
        for signal, time in seconds.items()
        if signal in signals
    }


def reading_samples(
    questions: QuestionTokens, writing: Writing, rates: Rates, samples: int
) -> Cost:
    """Upper cost of a pass over all questions with each distinct sample.

    Samples among choices are no more than the choices.
    """
    free, whole = questions.num_free, max(1, questions.num_questions)
    among = min(samples * (whole - free), questions.num_choices)
    times = (samples * free + among) / whole
    once = reading_off(questions, writing, rates)
    return Cost(prefill=times * once.prefill, seconds=times * once.seconds)


def believing(work: Work, rates: Rates, config: Config) -> Cost:
    """Cost of asking student and teacher about the whole pool.

    The number of distinct free answers is unknown in advance; two per question are
    assumed, more than most have.
    """
    pool, alone = work.pool, config.selection_rule.reads_divergence
    share = pool.num_free / max(1, pool.num_questions)
    among = pool.num_questions - pool.num_free
    samples = pool.num_free * (1 if alone else TWO_ANSWERS)
    length = min(work.written.mean, MOST_TOKENS) if alone else work.written.mean
    prompt = pool.prompt_tokens / max(1, pool.num_questions)
    own = (1.0 - share) * pool.prompt_tokens + pool.extra_tokens
    own += samples * (prompt + length)
    shown = own + (among + pool.extra_rows + samples) * work.shown_tokens
    seconds = own * rates.reading + shown * rates.showing
    return Cost(prefill=own + shown, seconds=seconds)


def scored(writing: Writing, config: NeuronsConfig) -> Writing:
    """Return the length of the part of answers read for neurons.

    Text before an answer's span is read too, however short the span.
    """
    most = config.first_tokens
    if not most or config.span == "answer":
        return writing
    return Writing(min(writing.mean, most), min(writing.limit, most))


def num_selected(work: Work, config: Config) -> int:
    """Count the questions trained on, ignoring ties."""
    return limit_of(work.pool.num_questions, share_asked(config.selection))


def trained_parameters(facts: ModelFacts, config: Config) -> int:
    """Count trained parameters: all, or the adapter's."""
    if config.distill.tuning == "full":
        return facts.num_parameters
    attention = 4 * 2 * facts.width
    # If neurons cannot be read, MLPs are about four times as wide as the stream.
    mlp = 3 * (facts.width + (facts.num_neurons or 4 * facts.width))
    return config.distill.lora_rank * facts.num_layers * (attention + mlp)


def peak_memory(work: Work, held: Held, config: Config) -> int:
    """Return a run's peak memory in bytes; 0 if not measured.

    The base model stays throughout. The learner's memory is seldom freed before the
    trained model answers tests; that one has separate weights only under full training.
    With vLLM no answers are decoded here: the engine adds to what is held between
    steps, and to a step unless it sleeps.
    """
    if not held.answering:
        return 0
    most = max(held.answering, held.training)
    if writes_elsewhere(config) and num_positions(work, config):
        beside_a_step = 0 if held.sleeps else held.engine
        return max(held.between + held.engine, most + beside_a_step)
    positions = max(0.0, num_positions(work, config) - held.num_positions)
    more = positions * held.position
    whole = held.network if config.distill.tuning == "full" else 0
    return round(most + more + whole)


def num_positions(work: Work, config: Config) -> float:
    """Return the most positions of growing completions."""
    sets = (
        (work.pool, config.rollouts.num_samples, work.written),
        (work.tests, config.evaluation.num_samples, work.tested),
    )
    found = [0.0]
    for questions, samples, writing in sets:
        block = min(questions.num_free, config.rollouts.block_size)
        if rows := workload.rows_of(block, samples):
            longest = workload.expected_longest(writing.mean, rows, writing.limit)
            found.append(rows * longest)
    return max(found)


def disk(work: Work, facts: ModelFacts, config: Config) -> int:
    """Estimate the bytes of a finished run directory.

    Two checkpoints, the adapter, all rollouts and, per pool question, what rules read:
    eight bytes per neuron, four per hidden-state number.
    """
    samples = config.rollouts.num_samples * work.pool.num_questions
    tested = 3 * config.evaluation.num_samples * work.tests.num_questions
    tokens = samples * workload.answer_length(work.written, work.pool)
    tokens += tested * workload.answer_length(work.tested, work.tests)
    sizes = scaled_sizes(facts.num_layers, facts.num_neurons, keep=config.neurons.keep)
    signals = context_signals(config)
    num_sets = needs_neurons(config) + (Signal.QUESTION_NEURONS in signals)
    each = 8 * sizes.keep * num_sets
    if Signal.HIDDEN_STATES in signals:
        each += 4 * facts.width
    trained = trained_parameters(facts, config) * 4
    checkpoints = 2 * 4 * trained  # student, teacher and two moments each
    stored, sets = tokens * BYTES_PER_TOKEN_STORED, work.pool.num_questions * each
    return round(trained + checkpoints + stored + sets + REPORT_BYTES)
