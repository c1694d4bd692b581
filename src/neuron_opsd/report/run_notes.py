"""How the numbers came about: the choices where the paper leaves room, in words."""

from __future__ import annotations

from collections.abc import Mapping

from neuron_opsd.config import Config, DistillConfig
from neuron_opsd.method.contexts import CONTEXT_RULES, SHOWN_ANSWERS
from neuron_opsd.method.divergence import DIVERGENCES
from neuron_opsd.method.selection import SELECTION_RULES
from neuron_opsd.results.run import OURS, ReportData

NEURON_RULES: Mapping[str, str] = {
    "flat": "a neuron counts when it is in one of the {size} strongest pairs of "
    "position and neuron of its layer",
    "per-token": "a neuron counts when it is among the strongest of one token, "
    "over all layers",
    "neufs": "a neuron counts as in the public NeuFS code, whose last position is "
    "dropped ({size} pairs per layer)",
}

NEURON_VALUES: Mapping[str, str] = {
    "gate": "the output of the activation function",
    "gated": "the input of the down-projection",
}

ROLLOUT_MODES: Mapping[str, str] = {
    "constrained": "among its choices where it has some",
    "free": "in its own words",
    "auto": "among its choices or in its own words, as suits the model's size",
}
"""Reports of earlier versions hold `auto`."""

SPANS: Mapping[str, str] = {
    "completion": "",
    "reasoning": " Only the tokens of the reasoning count.",
    "answer": " Only the tokens of the final answer after the reasoning count.",
}

GIVEN_NOTE = (
    "The teacher saw what the pool's column privileged_context gives with each "
    "question, after it; no demonstration was searched. Whether those texts hold "
    "answers is for whoever wrote them to say: if they do, this training was not "
    "without labels."
)

TEACHERS: Mapping[str, str] = {
    "ema": "follows the student slowly",
    "frozen": "stays the untrained model",
    "live": "is the student itself",
    "periodic": "copies the student from time to time",
}


def method_notes(data: ReportData) -> list[tuple[str, str]]:
    """Return how the model was trained, as pairs of a term and some sentences."""
    config = data.config
    return [
        ("Labels", "No gold answer was read before the evaluation."),
        ("Rollouts", rollouts_note(config)),
        ("Neurons", neurons_note(data)),
        ("Selection", selection_note(config)),
        ("Demonstrations", demonstrations_note(data)),
        ("Training", training_note(data)),
    ]


def rollouts_note(config: Config) -> str:
    """Say how the pool was answered."""
    rollouts = config.rollouts
    mode = ROLLOUT_MODES[rollouts.mode]
    return (
        f"Each question of the pool was answered {rollouts.num_samples} times at "
        f"temperature {rollouts.temperature:g}, {mode}. All answers "
        "vote; one that cannot be read stays in the denominator."
    )


def neurons_note(data: ReportData) -> str:
    """Say which neurons count, and how many are kept, or that none were read."""
    if data.pool and not any(share.neurons for share in data.pool.shares):
        return "None were read: neither selection nor demonstrations ask for them."
    neurons = data.config.neurons
    per_layer = neurons.per_layer or data.neurons_per_layer
    keep = neurons.keep or data.neurons_kept
    size = f"{per_layer:,}" if per_layer else "(scaled to the model)"
    rule = NEURON_RULES[neurons.rule].format(size=size)
    length = neurons.chunk_tokens
    chunks = f" and of each {length:,} tokens" if length else ""
    kept = f"{keep:,} strongest" if keep else "strongest (their number scales)"
    most = neurons.first_tokens
    first = f" Of longer spans only the first {most:,} tokens count." if most else ""
    return (
        f"A neuron's score is {NEURON_VALUES[neurons.value]} times its projection on "
        f"the sampled token; {rule}{chunks}. The {kept} with a positive score are "
        f"compared by Jaccard distance.{SPANS[neurons.span]}{first}"
    )


def selection_note(config: Config) -> str:
    """Say which questions were trained on."""
    selection = config.selection
    rule = SELECTION_RULES[selection.rule]
    if rule.keeps_all:
        return f"Trained on: {rule.help}."
    within = ", within those of each own answer" if selection.balance else ""
    unread = (
        " Questions whose own completion was cut or holds no answer that can be read "
        "were left out."
    ) * (not selection.include_unread)
    if rule.unknown:
        unread += f" A question was left out where {rule.unknown}."
    return (
        f"Trained on: {100 * selection.keep_fraction:g} % of the pool, {rule.help}"
        f"{within}; where many tie for the last places, a seeded draw decides.{unread}"
    )


def demonstrations_note(data: ReportData) -> str:
    """Say what the teacher saw and the student did not."""
    contexts = data.config.contexts
    count = contexts.num_demonstrations
    if not (count and data.reads_contexts):
        return "No demonstrations were shown in training."
    if data.config.shows_given:
        return GIVEN_NOTE
    source = "whole pool" if contexts.source == "pool" else "selected questions"
    rule = CONTEXT_RULES[contexts.rule]
    return (
        f"The teacher saw {count} other questions, {rule.help} from the {source}, the "
        f"{rule.last} last. Each shows {SHOWN_ANSWERS[contexts.answer].shown}."
    )


def training_note(data: ReportData) -> str:
    """Say how the student learned."""
    distill = data.config.distill
    kind = "a low-rank adapter" if distill.tuning == "lora" else "all weights"
    if data.config.method != OURS:
        return (
            f"By {data.config.method}: {data.method_summary}. {distill.steps} steps of "
            f"{distill.batch_size} questions moved {kind}."
        )
    return (
        f"The student answers without demonstrations; at every token of its own "
        f"answer {DIVERGENCES[distill.divergence].help} over {compared(distill)} is "
        f"lowered. The teacher {TEACHERS[distill.teacher]}. {distill.steps} steps of "
        f"{distill.batch_size} questions moved {kind}."
    )


def compared(config: DistillConfig) -> str:
    """Say which part of the vocabulary a divergence sees."""
    seen = "the full vocabulary"
    if config.top_k:
        seen = f"the {config.top_k_of}'s {config.top_k} likeliest tokens and all others"
    if config.entry_clip:
        seen += f", at most {config.entry_clip:g} nats from each,"
    return seen


def equality_note(data: ReportData) -> str:
    """Say how expressions were compared, and how often that did not end."""
    if not data.config.answers.may_leave_open:
        return ""
    results = [
        result
        for test in data.tests
        for result in (test.before, test.after, *test.controls.values())
    ]
    count = sum(result.num_unsettled for result in results)
    unsettled = f"{count:,} comparisons" if count != 1 else "1 comparison"
    return (
        "Two expressions are the same answer where math-verify says so, within limits "
        f"of steps and memory. {unsettled} of answers to the test sets could not be "
        "resolved within them and count as different."
    )
