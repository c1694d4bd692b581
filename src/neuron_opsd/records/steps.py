"""What a training records of its steps: metrics, looks at the student, and signs.

None of it uses gold answers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """Label-free measures of a model's rollouts of some questions.

    `None` means not measured.
    """

    mean_length: float
    """Completion tokens per rollout."""
    truncated: float
    """Share of rollouts cut at the maximum length."""
    repetition: float
    """Share of a rollout's token runs that repeat recent ones."""
    entropy: float
    """Mean over rollouts of the entropy per token when sampled, in nats."""
    agreement: float | None = None
    """Share of a question's rollouts with its most frequent answer; question mean."""
    top_answer_share: float | None = None
    """Share of all rollouts with the most frequent answer."""
    information: float | None = None
    """Nats that an answer tells about its question: the entropy of answers to all
    questions less the mean entropy of answers to one."""
    base_agreement: float | None = None
    """Probability that a rollout's answer equals one of the base model's."""
    divergence: float | None = None
    """KL(model || base) in nats: of the choice, or per token of the model's rollouts
    for free answers."""
    surprise: float | None = None
    """KL(base || model) in nats: of the choice, or per token of the base's rollouts."""
    num_rollouts: int = 0
    """Number sampled; 0 if shares are exact probabilities of choices."""


@dataclass(frozen=True, slots=True)
class Look:
    """Answers of student and base to the guard's questions after a step."""

    student: Reading
    base: Reading


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """The metrics of one optimiser step."""

    step: int
    loss: float
    """Mean over all completion tokens of the batch, in nats."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    num_tokens: int
    """Completion tokens trained on."""
    mean_length: float
    """Completion tokens per rollout."""
    truncated: float
    """Share of rollouts cut at the maximum length."""
    entropy: float
    """Mean over rollouts of the entropy per token when sampled, in nats."""
    top_answer_share: float
    """Share of the step's rollouts with its most frequent text."""
    num_generated: int = 0
    """Completion tokens sampled, trained on or not."""
    reward: float | None = None
    """Mean over rollouts, if the method rewards them."""
    agreement: float | None = None
    """Mean share of a question's rollouts that agree with their vote, if any."""
    skipped: str = ""
    """Why the step taught nothing; its measures are 0 then."""
    spike: float = 0.0
    """Loss or gradient as a multiple of the usual, if a warning said so."""
    engine_gap: float | None = None
    """Mean distance between engine and trainer log-probabilities, in nats."""
    repetition: float = 0.0
    """Mean over rollouts of the share of token runs that repeat recent ones."""
    look: Look | None = None
    """At the guard's questions, after steps chosen by `guard.every`."""


@dataclass(frozen=True, slots=True)
class Collapse:
    """One label-free sign, seen in training, that the student is collapsing."""

    step: int
    """After which it was first seen."""
    sign: str
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class Kept:
    """The best step of a training, chosen without labels."""

    num_steps: int
    """Steps taken by then; 0 for the untrained model."""
    score: float
    last: float
    """Score after the last step."""
