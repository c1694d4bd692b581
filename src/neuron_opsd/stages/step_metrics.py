"""The metrics of a step, from facts about its questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from neuron_opsd.records import StepMetrics
from neuron_opsd.stages.rollouts import top_share


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """What a step's metrics need from one question; all values are JSON."""

    num_tokens: int
    """Completion tokens trained on, repeats counted."""
    num_generated: int
    lengths: Sequence[int]
    cut: Sequence[bool]
    entropies: Sequence[float]
    """In nats per token."""
    repetitions: Sequence[float]
    """Shares of runs of tokens just written."""
    texts: Sequence[str]
    """Hashes."""
    reward: float | None
    agreement: float | None


def metrics_of(
    step: int,
    groups: Sequence[GroupFacts],
    loss: float,
    grad_norm: float,
    rate: float,
) -> StepMetrics:
    """Return the metrics of a step."""
    return StepMetrics(
        step=step,
        loss=loss,
        grad_norm=grad_norm,
        learning_rate=rate,
        num_tokens=sum(group.num_tokens for group in groups),
        mean_length=mean([n for group in groups for n in group.lengths]) or 0.0,
        truncated=mean([cut for group in groups for cut in group.cut]) or 0.0,
        entropy=mean([one for group in groups for one in group.entropies]) or 0.0,
        top_answer_share=top_share([t for group in groups for t in group.texts])[1],
        num_generated=sum(group.num_generated for group in groups),
        reward=mean([group.reward for group in groups]),
        agreement=mean([group.agreement for group in groups]),
        repetition=mean([one for group in groups for one in group.repetitions]) or 0.0,
    )


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are not `None`, or `None`."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
