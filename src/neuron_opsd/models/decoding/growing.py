"""Completions while they are written: what is asked for, and one record for each.

Two ways of decoding fill a `Request`; what they ask of a network is a `Decoder`.

Axes: B rows of a step (one per completion that still grows), D residual width,
V vocabulary.
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
    """A network that gives states."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def decoder(self) -> Any:
        """The module below the head."""

    def run_decoder(self, **inputs: Any) -> Tensor:
        """Return the final states ``(B, T, D)`` of ``input_ids`` ``(B, T)``."""


class Decoder(Network, Protocol):
    """A network as decoding uses it."""

    tokens: Tokens
    facts: ModelFacts
    room: Room

    def next_logits(self, states: Tensor) -> Tensor:
        """Return the logits ``(B, V)`` that final states ``(B, D)`` give."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends a completion."""

    tokens: Tokens
    ids: frozenset[int]
    """Tokens that do."""
    stop: tuple[str, ...] = ()
    """Texts that do."""

    def reached(self, token_ids: Sequence[int]) -> bool:
        """Whether a completion ends with its last token."""
        if token_ids[-1] in self.ids:
            return True
        if not self.stop:
            return False
        # A token is a byte at least, so these hold the longest text and its beginning.
        width = max(len(text.encode()) for text in self.stop) + 1
        tail = self.tokens.tokenizer.decode(list(token_ids[-width:]))
        return any(text in tail for text in self.stop)

    def cut(self, text: str) -> str:
        """Return a text without what stands from the first stop text on."""
        places = [text.find(stop) for stop in self.stop]
        return text[: min((p for p in places if p >= 0), default=len(text))].strip()


def ending_of(tokens: Tokens, sampling: Sampling) -> Ending:
    """Return what ends a completion."""
    breaks = tokens.newline_ids if sampling.stop_at_newline else frozenset()
    return Ending(tokens, tokens.end_ids | breaks, sampling.stop)


@dataclass(slots=True, eq=False)
class Growing:
    """One completion while it grows."""

    place: tuple[int, int]
    """Number of its prompt and of its seed."""
    uniforms: Sequence[float] | NDArray[np.float64]
    """One random number for each token to come."""
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
    """Completions to be drawn, one per seed of every prompt."""

    prompts: Sequence[TokenIds]
    seeds: Sequence[Sequence[int]]
    sampling: Sampling
    ending: Ending
    finished: Finished = ignore
    """Told of every prompt once all its completions are written."""
    ended: list[dict[int, Growing]] = field(default_factory=list)
    """Those that are written, by prompt and then by the number of the seed."""

    def __post_init__(self) -> None:
        self.ended.extend({} for _ in self.prompts)

    def left(self) -> list[list[int]]:
        """Return for each prompt the numbers of the seeds that are still to be used."""
        return [
            [k for k in range(len(group)) if k not in ended]
            for group, ended in zip(self.seeds, self.ended, strict=True)
        ]

    def begin(self, prompt: int, numbers: Sequence[int]) -> list[Growing]:
        """Return the completions of some seeds of a prompt, with no token yet."""
        length, seeds = self.sampling.max_new_tokens, self.seeds[prompt]
        return [Growing((prompt, k), uniforms(seeds[k], length)) for k in numbers]

    def draw(self, rows: Sequence[Growing], logits: Tensor) -> Tensor:
        """Draw one more token for each row from its logits ``(B, V)``; return them."""
        numbers = [float(row.uniforms[len(row.token_ids)]) for row in rows]
        uniform = torch.tensor(numbers, dtype=torch.float64)
        draw = draw_tokens(logits, uniform, self.sampling)
        # One transfer from a device; float64 holds every token id.
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
        """Return the completions of a prompt that are written, by seed."""
        opened = self.ending.tokens.opens_reasoning(self.prompts[prompt])
        rows = sorted(self.ended[prompt].items())
        return [completed(self.ending, row, opened=opened) for _, row in rows]

    def completions(self) -> list[list[Completion]]:
        """Return what is written, by prompt and then by seed."""
        return [self.completions_of(prompt) for prompt in range(len(self.prompts))]


def completed(ending: Ending, row: Growing, *, opened: bool) -> Completion:
    """Turn a row into a completion; `opened`: its prompt ended inside reasoning."""
    tokens, ids = ending.tokens, tuple(row.token_ids)
    # Other tokens than these may carry text before what ends a completion.
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
