"""What ranks settle together, at the same places of a step."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import torch

from neuron_opsd.errors import (
    NeuronOpsdError,
    NotFiniteError,
    TrainingError,
    TryAgainError,
)
from neuron_opsd.models.roles import Learner
from neuron_opsd.processes.ranks import LostRankError, Ranks

T = TypeVar("T")
Fault: TypeAlias = dict[str, Any]
"""What is not finite and for which questions, or an error's text and exit status."""


def told(ranks: Ranks, topic: str, value: T) -> list[T]:
    """Tell all ranks a JSON value; return all ranks' values, in order.

    Raises:
        LostRankError: If another rank is at another topic, because one has failed.
    """
    if ranks.size == 1:
        return [value]
    heard = [json.loads(word) for word in ranks.tell(json.dumps([topic, value]))]
    topics = [topic for topic, _ in heard]
    if len(set(topics)) > 1:
        raise LostRankError(
            "the processes that train together are not at the same place "
            f"({', '.join(topics)}), so one has failed; its own message says why; the "
            "last checkpoint is intact, and the same command resumes from it"
        )
    return [value for _, value in heard]


def done_by_all(ranks: Ranks, work: Callable[[], T]) -> T:
    """Do some work, and fail on every rank if it fails on one."""
    if ranks.size == 1:
        return work()
    found: list[T] = []
    fault: NeuronOpsdError | None = None
    try:
        found.append(work())
    except LostRankError:
        raise
    except NeuronOpsdError as error:
        fault = error
    faults = told(ranks, "faults", None if fault is None else as_told(fault))
    heard = {rank: one for rank, one in enumerate(faults) if one is not None}
    if heard:
        raise joint_error(heard) from fault
    return found[0]


def as_told(error: NeuronOpsdError) -> Fault:
    """Return what other ranks must know about an error."""
    if isinstance(error, NotFiniteError):
        return {"what": error.what, "questions": list(error.questions)}
    return {"text": str(error), "status": error.exit_status}


def joint_error(faults: Mapping[int, Fault]) -> NeuronOpsdError:
    """Return the error that every rank raises for the faults of some.

    Steps that are not finite may be skipped; any other fault is final.
    """
    again = TryAgainError.exit_status
    for rank, fault in faults.items():
        if "text" in fault:
            kind = TryAgainError if fault["status"] == again else TrainingError
            return kind(f"on rank {rank}, {fault['text']}")
    first, *_ = faults.values()
    names = [name for fault in faults.values() for name in fault["questions"]]
    return NotFiniteError(first["what"], (), names)


def sum_gradients(ranks: Ranks, learner: Learner) -> None:
    """Add up the gradients of all ranks, in the order of the trained weights.

    A weight without gradient on one rank gets zeros if another has one.
    """
    if ranks.size == 1:
        return
    weights = list(learner.weights.values())
    given = torch.tensor([int(weight.grad is not None) for weight in weights])
    ranks.add_up([given])
    taught = [weight for weight, count in zip(weights, given, strict=True) if count]
    for weight in taught:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    ranks.add_up([weight.grad for weight in taught if weight.grad is not None])


def unlike_first(ranks: Ranks, learner: Learner) -> list[str]:
    """Return the ranks whose weights differ from rank 0's."""
    if ranks.size == 1:
        return []
    hashes = told(ranks, "weights", learner.digest())
    return [str(rank) for rank, one in enumerate(hashes) if one != hashes[0]]


def check_alike(ranks: Ranks, learner: Learner, when: str) -> None:
    """Raise TrainingError if the ranks' weights differ."""
    if others := unlike_first(ranks, learner):
        raise TrainingError(
            f"{when} the weights of rank {', '.join(others)} are not those of rank 0, "
            "although all started and moved alike, so one of the devices or machines "
            "computes wrongly or has other software; none of this is kept; check these "
            "machines, and run the same command again, which resumes from the last "
            "checkpoint"
        )
