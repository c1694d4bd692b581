"""What a training leaves of its steps: metrics, looks at the student, and signs.

None of it knows a gold answer.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model's rollouts of some questions are like, told without labels.

    What has not been measured is `None`.
    """

    mean_length: float
    """Completion tokens of a rollout."""
    truncated: float
    """Share of rollouts cut at the longest length allowed."""
    repetition: float
    """Share of a rollout's runs of tokens that it has just written before."""
    entropy: float
    """Mean over rollouts of the entropy per token they were drawn with, in nats."""
    agreement: float | None = None
    """Unanimity: share of a question's rollouts that agree with its most frequent
    answer, the mean over questions."""
    top_answer_share: float | None = None
    """Share of all rollouts that the most frequent answer takes."""
    information: float | None = None
    """Nats that an answer tells of which question it answers: the entropy of the
    answers to all questions less the mean entropy of those to one."""
    base_agreement: float | None = None
    """How probably a rollout says what a rollout of the base model says."""
    divergence: float | None = None
    """KL(model || base) in nats: of the choice, or per token of the model's rollouts
    where answers are free."""
    surprise: float | None = None
    """KL(base || model) in nats, of the choice, or per token of the base's rollouts:
    how improbable the model finds what the base says."""
    num_rollouts: int = 0
    """How many were drawn; 0 where shares are exact probabilities of choices."""


@dataclass(frozen=True, slots=True)
class Look:
    """What student and base answer to the guard's questions after a step."""

    student: Reading
    base: Reading


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """What one optimiser step did."""

    step: int
    loss: float
    """Mean over all completion tokens of the batch, in nats."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    num_tokens: int
    """Completion tokens that were trained on."""
    mean_length: float
    """Completion tokens of a rollout."""
    truncated: float
    """Share of rollouts cut at the longest length allowed."""
    entropy: float
    """Mean over rollouts of the entropy per token they were drawn with, in nats."""
    top_answer_share: float
    """Share of the rollouts whose text is the most frequent of the step."""
    num_generated: int = 0
    """Completion tokens that were drawn, trained on or not."""
    reward: float | None = None
    """Mean over rollouts, where a method rewards them."""
    agreement: float | None = None
    """Mean share of a question's rollouts that agree with their vote, where one was
    held."""
    skipped: str = ""
    """Why nothing was learnt in this step; what is measured of it is 0 then."""
    spike: float = 0.0
    """How many times the usual its loss, or gradient, was, where a warning said so."""
    engine_gap: float | None = None
    """Mean distance of the engine's log-probabilities from the trainer's, in nats."""
    repetition: float = 0.0
    """Mean over rollouts of the share of their runs of tokens that they have just
    written before."""
    look: Look | None = None
    """At the guard's questions, after the steps that `guard.every` names."""


@dataclass(frozen=True, slots=True)
class Collapse:
    """One label-free sign, seen during training, that the student is collapsing."""

    step: int
    """After which it was first seen."""
    sign: str
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class Kept:
    """The best step of a training, chosen without labels."""

    num_steps: int
    """How many steps it had taken then; 0 for the untrained model."""
    score: float
    last: float
    """Score after the last step."""
