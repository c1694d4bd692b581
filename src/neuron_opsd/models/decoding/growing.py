"""Completions being written: the request, and one record each.

Axes: B rows of a step (unfinished completions), D residual width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuron_opsd.errors import NotFiniteError
from neuron_opsd.models.decoding.sampling import draw_tokens
from neuron_opsd.models.roles import Finished, ModelFacts, Sampling, ignore
from neuron_opsd.models.room import Room
from neuron_opsd.models.tokenizer.encoding import Tokens
from neuron_opsd.records import Completion, TokenIds
from neuron_opsd.seeds import uniforms


class Network(Protocol):
    """A network that computes final states."""

    @property
    def device(self) -> torch.device:
        """Its device."""

    @property
    def decoder(self) -> Any:
        """The module below the head."""

    def run_decoder(self, **inputs: Any) -> Tensor:
        """Return the final states ``(B, T, D)`` of ``input_ids`` ``(B, T)``."""


class Decoder(Network, Protocol):
    """What decoding needs from a network."""

    tokens: Tokens
    facts: ModelFacts
    room: Room

    def next_logits(self, states: Tensor) -> Tensor:
        """Return the logits ``(B, V)`` of final states ``(B, D)``."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends a completion."""

    tokens: Tokens
    ids: frozenset[int]
    stop: tuple[str, ...] = ()

    def reached(self, token_ids: Sequence[int]) -> bool:
        """Return whether the last token ends the completion."""
        if token_ids[-1] in self.ids:
            return True
        if not self.stop:
            return False
        # A token is at least a byte, so these cover the longest text and its start.
        width = max(len(text.encode()) for text in self.stop) + 1
        tail = self.tokens.tokenizer.decode(list(token_ids[-width:]))
        return any(text in tail for text in self.stop)

    def cut(self, text: str) -> str:
        """Return the text before the first stop text, stripped."""
        places = [text.find(stop) for stop in self.stop]
        return text[: min((p for p in places if p >= 0), default=len(text))].strip()


def ending_of(tokens: Tokens, sampling: Sampling) -> Ending:
    """Return what ends a completion under these settings."""
    breaks = tokens.newline_ids if sampling.stop_at_newline else frozenset()
    return Ending(tokens, tokens.end_ids | breaks, sampling.stop)


@dataclass(slots=True, eq=False)
class Growing:
    """One completion being written."""

    place: tuple[int, int]
    """Index of its prompt and of its seed."""
    uniforms: Sequence[float] | NDArray[np.float64]
    token_ids: list[int] = field(default_factory=list)
    logprob: float = 0.0
    entropy: float = 0.0
    finished: bool = False

    @property
    def grows(self) -> bool:
        """Whether another token may follow."""
        return not self.finished and len(self.token_ids) < len(self.uniforms)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One completion to sample per seed of every prompt."""

    prompts: Sequence[TokenIds]
    seeds: Sequence[Sequence[int]]
    sampling: Sampling
    ending: Ending
    finished: Finished = ignore
    """Called for each prompt once all its completions are written."""
    ended: list[dict[int, Growing]] = field(default_factory=list)
    """By prompt and then by index of the seed."""

    def __post_init__(self) -> None:
        self.ended.extend({} for _ in self.prompts)

    def left(self) -> list[list[int]]:
        """Return each prompt's unused seeds, by index."""
        return [
            [k for k in range(len(group)) if k not in ended]
            for group, ended in zip(self.seeds, self.ended, strict=True)
        ]

    def begin(self, prompt: int, numbers: Sequence[int]) -> list[Growing]:
        """Return empty completions for some seeds of a prompt."""
        length, seeds = self.sampling.max_new_tokens, self.seeds[prompt]
        return [Growing((prompt, k), uniforms(seeds[k], length)) for k in numbers]

    def draw(self, rows: Sequence[Growing], logits: Tensor) -> Tensor:
        """Sample and return a token per row from logits ``(B, V)``."""
        numbers = [float(row.uniforms[len(row.token_ids)]) for row in rows]
        uniform = torch.tensor(numbers, dtype=torch.float64)
        draw = draw_tokens(logits, uniform, self.sampling)
        # One transfer; float64 holds every token id exactly.
        values = draw.tokens.double(), draw.logprobs.double(), draw.entropies.double()
        columns = torch.stack(values).tolist()
        drawn = [
            (row, int(t), *nats) for row, t, *nats in zip(rows, *columns, strict=True)
        ]
        wrong = [row for row, _, *nats in drawn if not math.isfinite(sum(nats))]
        if wrong:
            raise NotFiniteError(
                f"the logits of token {len(wrong[0].token_ids) + 1} of an answer are "
                "not finite, so none can be drawn",
                [row.place[0] for row in wrong],
            )
        for row, token, logprob, entropy in drawn:
            row.token_ids.append(token)
            row.logprob += logprob
            row.entropy += entropy
            row.finished = self.ending.reached(row.token_ids)
            if not row.grows:
                self._end(row)
        return draw.tokens

    def _end(self, row: Growing) -> None:
        prompt, number = row.place
        self.ended[prompt][number] = row
        if len(self.ended[prompt]) == len(self.seeds[prompt]):
            self.finished(prompt, self.completions_of(prompt))

    def completions_of(self, prompt: int) -> list[Completion]:
        """Return a prompt's finished completions, by seed."""
        opened = self.ending.tokens.opens_reasoning(self.prompts[prompt])
        rows = sorted(self.ended[prompt].items())
        return [completed(self.ending, row, opened=opened) for _, row in rows]

    def completions(self) -> list[list[Completion]]:
        """Return all finished completions, by prompt and then by seed."""
        return [self.completions_of(prompt) for prompt in range(len(self.prompts))]


def completed(ending: Ending, row: Growing, *, opened: bool) -> Completion:
    """Turn a row into a completion; `opened`: its prompt ended inside reasoning."""
    tokens, ids = ending.tokens, tuple(row.token_ids)
    # Tokens other than end tokens may carry text before the stop.
    closed = row.finished and ids[-1] in tokens.end_ids
    text = ending.cut(tokens.decode(ids[:-1] if closed else ids))
    return Completion(
        token_ids=ids,
        text=text,
        finished=row.finished,
        logprob=row.logprob,
        entropy=row.entropy / max(len(ids), 1),
        final_start=tokens.final_start(text, opened=opened),
    )
