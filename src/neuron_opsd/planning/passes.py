"""What it costs to read off what rules compare of questions and of their answers."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from neuron_opsd.config import Config
from neuron_opsd.known import MEDOIDS_NAME, NAMES
from neuron_opsd.method.contexts.search import Signal
from neuron_opsd.methods import context_signals, needs_medoids
from neuron_opsd.planning import workload
from neuron_opsd.planning.cost import Cost
from neuron_opsd.planning.workload import QuestionTokens, Rates, Work, Writing


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
    """Costs of the passes that choosing demonstrations takes of the pool besides."""
    found = looking_up(work.pool, rates, context_signals(config))
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
