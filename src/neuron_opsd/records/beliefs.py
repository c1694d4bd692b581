"""What student and teacher believe the answer to a question to be, before training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Belief:
    """What the model answers to one question without and with demonstrations.

    `stages.pool_beliefs` says how it is measured.
    """

    question_id: str
    answers: tuple[str, ...] = ()
    """The choices, or the different answers of the samples; empty where none of these
    can be read, or only the divergence was asked for."""
    student: tuple[float, ...] = ()
    """Log-probability of each answer without demonstrations, in nats."""
    teacher: tuple[float, ...] = ()
    """The same with demonstrations."""
    divergence: float | None = None
    """KL(student || teacher) in nats: of the choice, or per token of a sample; `None`
    where nobody asked for it."""
    num_tokens: int = 0
    """Tokens that were read to know all this."""
