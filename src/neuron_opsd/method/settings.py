"""Settings of what is captured, and of how a student learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from neuron_opsd.method.divergence import DIVERGENCES
from neuron_opsd.records import Reading
from neuron_opsd.section import (
    Fraction,
    NotNegative,
    OneOf,
    Positive,
    Probability,
    Rate,
    Section,
    Temperature,
)

LONG_ROW: Final = 512
"""Tokens of a row above which `distill.gradient_checkpointing=auto` runs layers again;
below, time counts more."""


def known_rule(value: Any) -> Any:
    """Refuse the neuron rule of earlier versions that gave all questions one count."""
    if value == "per-layer":
        raise PydanticCustomError(
            "gone",
            "this rule was removed, since it gave every question the same count; use "
            "flat, on long completions with neurons.chunk_tokens",
        )
    return value


def only_under_flat(value: int, info: ValidationInfo) -> int:
    """Refuse chunks under neuron rules that have none, which are all but `flat`."""
    rule = info.data.get("rule", "flat")
    if value and rule != "flat":
        raise PydanticCustomError(
            "no_chunks",
            "the rule {rule} has no chunks; leave it at 0, or set neurons.rule to flat",
            {"rule": rule},
        )
    return value


class NeuronsConfig(Section):
    """Which neurons count as having pushed a completion."""

    rule: Annotated[
        Literal["flat", "per-token", "neufs"], BeforeValidator(known_rule)
    ] = "flat"
    """`flat`: the strongest `per_layer` (position, neuron) pairs of each layer, and of
    each chunk if `chunk_tokens` is set; `per-token`: the strongest `keep` of each token
    over all layers, united; `neufs`: as in the public NeuFS code, which drops the last
    position."""
    value: Literal["gate", "gated"] = "gate"
    """`gate` is the output of the activation function (paper and NeuFS); `gated` the
    true input of the down-projection."""
    per_layer: NotNegative = 0
    """Entries kept per layer; 0 scales the paper's 2,000 of 9,728 to the model."""
    keep: NotNegative = 0
    """Neurons kept for overlap; 0 scales the paper's 5,000 of 36 x 9,728."""
    chunk_tokens: Annotated[NotNegative, AfterValidator(only_under_flat)] = 0
    """Tokens of a chunk under `flat`, which unites the lists of all chunks; 0 takes the
    whole completion as one chunk, whose count falls with length and repetition."""
    span: Literal["completion", "reasoning", "answer"] = "completion"
    """Which tokens count: all, the reasoning, or the final answer after it. Completions
    without that part count as a whole."""
    first_tokens: NotNegative = 0
    """Count only this many tokens from the start of the span, so that long completions
    are compared over as many tokens as short ones; 0 counts all."""


class DistillConfig(Section):
    """How the student learns from the teacher."""

    divergence: Annotated[str, OneOf(DIVERGENCES)] = "reverse-kl"
    """What is minimised at every token."""
    beta: Probability = 0.5
    """Weight of the teacher in the mixture of `jsd`."""
    top_k: NotNegative = 0
    """Compare only this many of the most likely tokens, and all others as one; 0
    compares every token."""
    top_k_of: Literal["teacher", "student"] = "teacher"
    """Whose most likely tokens these are."""
    entry_clip: Annotated[float, Field(ge=0.0)] = 0.0
    """The most that one token of the vocabulary may add to a divergence, in nats; 0
    sets no limit. OPSD uses 0.05 with `forward-kl`."""
    teacher: Literal["ema", "frozen", "live", "periodic"] = "ema"
    """`ema` follows the student slowly, `frozen` stays the base model, `live` is the
    student itself, `periodic` copies the student every `teacher_period` steps."""
    ema_rate: Fraction = 0.01
    """Share of the student mixed into the `ema` teacher after each step."""
    teacher_period: Positive = 10
    """Steps between copies of the `periodic` teacher."""
    steps: Positive = 150
    """Optimiser steps."""
    batch_size: Positive = 16
    """Questions per optimiser step."""
    num_samples: Positive = 1
    """Rollouts per question and step; methods that compare the rollouts of a question
    need more than one."""
    micro_batch_size: Positive = 4
    """Completions per forward pass, halved if memory runs out; changes memory, and the
    gradient only by rounding."""
    gradient_checkpointing: Literal["auto", "on", "off"] = "auto"
    """Store only each layer's input, and run the layers again in the backward pass: a
    fifteenth of the memory for a third more time, and the same gradient. `auto` does so
    if a prompt with its completion is longer than 512 tokens. You can change it when a
    stopped run resumes."""
    micro_batch_tokens: Positive = 8192
    """Tokens of prompts and completions per pass with gradient; a longer completion
    gets a pass of its own. Like `micro_batch_size`, changes memory, and the gradient
    only by rounding."""
    temperature: Temperature = 1.0
    """Temperature of the student's training rollouts; the loss itself uses the plain
    logits."""
    sampling_top_p: Fraction = 1.0
    """Nucleus of the student's training rollouts."""
    sampling_top_k: NotNegative = 0
    """Sample training rollouts among this many of the most probable tokens; 0 means
    all."""
    sampling_min_p: Probability = 0.0
    """Sample training rollouts among tokens at least this many times as probable as the
    most probable one."""
    max_new_tokens: NotNegative = 0
    """Longest training rollout; 0 means `rollouts.max_new_tokens`."""
    importance_clip: Annotated[float, Field(ge=0.0)] = 2.0
    """Largest importance weight of a token that another engine drew: the trainer's
    probability of it over the engine's; for a divergence that of the token before. 0
    weights all tokens the same; no effect on what transformers wrote, where the weight
    is 1."""
    tuning: Literal["lora", "full"] = "lora"
    """Train a low-rank adapter on every linear layer, or all weights. `full` computes
    in float32, since bfloat16 would round most of a step away."""
    lora_rank: Positive = 16
    """Rank of the adapter."""
    lora_alpha: Positive = 32
    """The adapter is scaled by `lora_alpha / lora_rank`."""
    learning_rate: Rate = 1e-4
    """Peak rate of AdamW; about 1e-6 to 2e-5 suits `full` tuning."""
    warmup_steps: NotNegative = 10
    """Steps over which the rate rises from zero."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the rate changes after warm-up; `linear` and `cosine` end at zero."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """Decoupled weight decay of AdamW."""
    max_grad_norm: Rate = 1.0
    """Gradients are scaled down to this norm."""
    chunk_positions: Positive = 128
    """Positions whose logits are held at once; changes memory, not the gradient."""
    checkpoint_every: Positive = 10
    """Steps between checkpoints."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What to do with a step in which the loss, a gradient or a logit is not a number:
    `stop`, or `skip` it, learning nothing, at most 3 in a row. You can change it when a
    stopped run resumes."""


class PolicyConfig(Section):
    """How methods that reward rollouts learn: TTRL, Intuitor, RENT, EMPO and others."""

    num_votes: NotNegative = 0
    """Rollouts per question and step that vote, of which `distill.num_samples` are
    trained on; 0 means only those."""
    scale_rewards: bool = True
    """Whether a group's centred rewards are divided by their standard deviation."""
    clip_low: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    """How far below 1 the ratio of new to old probability still counts."""
    clip_high: Annotated[float, Field(ge=0.0)] = 0.2
    """How far above 1 it still counts."""
    kl_weight: Annotated[float, Field(ge=0.0)] | None = None
    """Weight of the divergence from the model that training began with; unset takes the
    method's own, 0 for most."""


@dataclass(frozen=True, slots=True)
class Score:
    """How good a student seems by what it answers, without labels."""

    of: Callable[[Reading], float]
    """The higher the better."""
    help: str


SCORES: Final = {
    "base-agreement": Score(
        lambda reading: reading.base_agreement or 0.0,
        "how often it says what the base model says",
    ),
    "information": Score(
        lambda reading: reading.information or 0.0,
        "how much an answer tells about its question: sure of each, and not the same "
        "for all",
    ),
}


def only_looked_at(value: str, info: ValidationInfo) -> str:
    """Refuse to keep the best step where nothing says which it is."""
    if value == "best" and info.data.get("num_questions") == 0:
        raise PydanticCustomError(
            "no_looks",
            "the best step is chosen on the guard's questions, and "
            "guard.num_questions is 0; set it to 1 or more, or keep to last",
        )
    return value


class GuardConfig(Section):
    """What is watched, without labels, for signs that the student collapses."""

    on_collapse: Literal["warn", "stop"] = "warn"
    """What to do at the first sign: `warn` and continue, or `stop` the run. You can
    change it when a stopped run resumes."""
    every: Positive = 10
    """Steps between checks of the guard's questions; the last step is always
    checked."""
    num_questions: NotNegative = 32
    """Number of the guard's questions, drawn once from the pool, first from those that
    are not trained on. 0 checks none, and watches only the rollouts of the steps."""
    num_samples: Positive = 2
    """Rollouts of each if answers are free; with choices, exact probabilities are used
    instead."""
    keep: Annotated[Literal["last", "best"], AfterValidator(only_looked_at)] = "last"
    """Which adapter training ends with if a sign was seen: that of the `last` step, or
    of the `best` checked step by `score`, the untrained model included. Without a sign
    it is the last."""
    score: Annotated[str, OneOf(SCORES)] = "base-agreement"
    """How the best step is chosen, on the guard's questions."""
    max_length_factor: Rate = 3.0
    """How many times as long rollouts may become."""
    max_truncated_gain: Probability = 0.5
    """How much the share of rollouts that are cut may rise."""
    max_repetition_gain: Probability = 0.3
    """How much the share of a rollout that repeats what it has just said may rise."""
    min_entropy_factor: Probability = 0.02
    """Fraction of the entropy that must be left."""
    max_entropy_gain: Rate = 1.0
    """How much the entropy may rise, in nats per token."""
    min_dissent_factor: Probability = 0.02
    """Fraction that must be left of the share of rollouts that disagree with their
    vote."""
    min_others_factor: Probability = 0.25
    """Fraction that must be left of the share of answers other than the most
    frequent."""
    min_information_factor: Probability = 0.25
    """Fraction that must be left of the information, in nats, that an answer gives
    about which question it answers."""
    max_surprise: Rate = 1.2
    """Limit on the divergence of the base model from the student, KL(base || student),
    in nats of the choice, or per token of the base's rollouts if answers are free. A
    student that says what the base says more often than before may exceed it, and so
    may one that is not surer (`surer_entropy_factor`)."""
    surer_entropy_factor: Probability = 0.6
    """Fraction of the base model's entropy below which a student counts as surer."""
    max_divergence: Rate = 3.0
    """Limit on the divergence of the student from the base model, KL(student || base),
    in nats of the choice, or per token of the student's rollouts if answers are
    free."""
