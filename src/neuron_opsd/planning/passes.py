"""What it costs to read off what rules compare of questions and of their answers."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

from neuron_opsd.beliefs import belief_name
from neuron_opsd.config import Config, NeuronsConfig
from neuron_opsd.known import MEDOIDS_NAME, NAMES
from neuron_opsd.method.contexts.search import Signal
from neuron_opsd.methods import context_signals, needs_medoids
from neuron_opsd.planning import workload
from neuron_opsd.planning.workload import Cost, QuestionTokens, Rates, Work, Writing
from neuron_opsd.stages.beliefs import MOST_TOKENS

TWO_ANSWERS: Final = 2
"""Different answers that the samples of a free question are taken to give."""


def reading_off(
    questions: QuestionTokens, writing: Writing, rates: Rates, *, needed: bool = True
) -> Cost:
    """Cost of one pass over each question with its completion, where it is needed."""
    if not needed:
        return Cost()
    answers = questions.num_questions * workload.answer_length(writing, questions)
    tokens = questions.prompt_tokens + answers
    return Cost(prefill=tokens, seconds=tokens * rates.capture)


def passes(work: Work, rates: Rates, config: Config) -> dict[str, Cost]:
    """Costs of the passes that choosing questions and demonstrations takes besides."""
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
    """Costs of the passes over questions without any answer, by what they read."""
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
    """Cost of one pass over each question with each of its different samples, at most.

    Samples among choices are as many as there are choices, or fewer.
    """
    free, whole = questions.num_free, max(1, questions.num_questions)
    among = min(samples * (whole - free), questions.num_choices)
    times = (samples * free + among) / whole
    once = reading_off(questions, writing, rates)
    return Cost(prefill=times * once.prefill, seconds=times * once.seconds)


def believing(work: Work, rates: Rates, config: Config) -> Cost:
    """Cost of asking student and teacher about the whole pool.

    How many answers the samples of a free question will differ by is not known before;
    two are taken, which is more than most questions have.
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
    """Return how long the part of answers is that is read for its neurons.

    What stands before an answer's span is read as well, however short that is.
    """
    most = config.first_tokens
    if not most or config.span == "answer":
        return writing
    return Writing(min(writing.mean, most), min(writing.limit, most))
