"""What a step trains on: completions, and values at their tokens.

Axes: N completion tokens of all sequences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from neuron_opsd.errors import NotFiniteError
from neuron_opsd.models.roles import Learner
from neuron_opsd.records import Completion, Pair, Prompt, TrainingExample


@dataclass(frozen=True, slots=True)
class TrainingSequence:
    """One completion that a step trains on."""

    example: TrainingExample
    completion: Completion
    count: int = 1
    """How often it was sampled, and counts."""
    advantage: float = 0.0
    idle: bool = False
    """Whether its gradient is always 0 and needs no pass; its tokens count in the
    mean."""

    @property
    def num_tokens(self) -> int:
        """Completion tokens, repeats counted."""
        return self.count * len(self.completion.token_ids)


Sequences: TypeAlias = Sequence[TrainingSequence]


def student_pairs(learner: Learner, sequences: Sequences) -> list[Pair]:
    """Return the student's prompts with their completions."""
    prompts = [s.example.student_prompt for s in sequences]
    return pairs_of(learner, prompts, sequences)


def teacher_pairs(learner: Learner, sequences: Sequences) -> list[Pair]:
    """Return the teacher's prompts with the same completions."""
    prompts = [s.example.teacher_prompt for s in sequences]
    return pairs_of(learner, prompts, sequences)


def pairs_of(
    learner: Learner, prompts: Sequence[Prompt], sequences: Sequences
) -> list[Pair]:
    """Return prompts with completions, encoding each distinct prompt once."""
    distinct = list(dict.fromkeys(prompts))
    ids = dict(zip(distinct, learner.encode_all(distinct), strict=True))
    return [
        (ids[prompt], sequence.completion.token_ids)
        for prompt, sequence in zip(prompts, sequences, strict=True)
    ]


def completion_tokens(sequences: Sequences, like: Tensor) -> Tensor:
    """Return all completion tokens ``(N,)`` on the device of a tensor."""
    ids = [token for s in sequences for token in s.completion.token_ids]
    return torch.tensor(ids, device=like.device)


def per_token(values: Sequence[float], sequences: Sequences, like: Tensor) -> Tensor:
    """Return each sequence's value at all its completion tokens, ``(N,)``."""
    sizes = torch.tensor([len(s.completion.token_ids) for s in sequences])
    each = torch.tensor(values, dtype=torch.float32).repeat_interleave(sizes)
    return each.to(like.device)


def refuse_not_finite(
    what: str, numbers: Iterable[tuple[str, Sequence[float]]]
) -> None:
    """Raise NotFiniteError for numbers that are not finite."""
    wrong = [name for name, values in numbers if not all(map(math.isfinite, values))]
    if wrong:
        raise NotFiniteError(what, (), wrong)
