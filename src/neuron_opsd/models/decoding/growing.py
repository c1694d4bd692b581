"""Completions while they grow, one row each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from neuron_opsd.errors import NotFiniteError
from neuron_opsd.models.decoding.sampling import Draw
from neuron_opsd.models.roles import Sampling
from neuron_opsd.models.tokenizer.tokens import Tokens
from neuron_opsd.records import Completion, TokenIds
from neuron_opsd.seeds import uniforms


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


@dataclass(slots=True, eq=False)
class Row:
    """One completion while it grows."""

    place: tuple[int, int]
    """Number of its prompt and of its seed."""
    uniforms: list[float]
    """One random number for each token to come."""
    slot: int = 0
    """Where its keys and values are."""
    token_ids: list[int] = field(default_factory=list)
    logprob: float = 0.0
    entropy: float = 0.0
    finished: bool = False

    def add(self, token: int, logprob: float, entropy: float, ending: Ending) -> None:
        """Append one token."""
        self.token_ids.append(token)
        self.logprob += logprob
        self.entropy += entropy
        self.finished = ending.reached(self.token_ids)

    @property
    def number(self) -> float:
        """The random number of the next token."""
        return self.uniforms[len(self.token_ids)]

    @property
    def grows(self) -> bool:
        """Whether another token may follow."""
        return not self.finished and len(self.token_ids) < len(self.uniforms)


def begin(prompt: int, seeds: Sequence[int], sampling: Sampling) -> list[Row]:
    """Return the rows of a prompt, one for each seed."""
    length = sampling.max_new_tokens
    return [
        Row((prompt, k), uniforms(seed, length).tolist())
        for k, seed in enumerate(seeds)
    ]


def append(rows: Sequence[Row], draw: Draw, ending: Ending) -> list[int]:
    """Append a step's tokens to their rows; return the places of rows that grow on.

    Raises:
        NotFiniteError: If a row's logits were no numbers; its places are prompts'.
    """
    values: list[Tensor] = [draw.tokens, draw.logprobs, draw.entropies]
    columns = [value.tolist() for value in values]
    wrong = [
        row
        for row, logprob, entropy in zip(rows, *columns[1:], strict=True)
        if not math.isfinite(logprob + entropy)
    ]
    if wrong:
        raise NotFiniteError(
            f"the logits of token {len(wrong[0].token_ids) + 1} of an answer are not "
            "finite, so none can be drawn",
            [row.place[0] for row in wrong],
        )
    for row, token, logprob, entropy in zip(rows, *columns, strict=True):
        row.add(token, logprob, entropy, ending)
    return [place for place, row in enumerate(rows) if row.grows]


def ending_of(tokens: Tokens, sampling: Sampling) -> Ending:
    """Return what ends a completion."""
    breaks = tokens.newline_ids if sampling.stop_at_newline else frozenset()
    return Ending(tokens, tokens.end_ids | breaks, sampling.stop)


def completions(
    ending: Ending, rows: Sequence[Row], prompts: Sequence[TokenIds]
) -> list[list[Completion]]:
    """Return the completions of rows that have ended, by prompt and then by seed."""
    opened = [ending.tokens.opens_reasoning(prompt) for prompt in prompts]
    results: list[list[Completion]] = [[] for _ in prompts]
    for row in sorted(rows, key=lambda row: row.place):
        number = row.place[0]
        results[number].append(completed(ending, row, opened=opened[number]))
    return results


def completed(ending: Ending, row: Row, *, opened: bool) -> Completion:
    """Turn a row that has ended into a completion.

    Args:
        ending: What ended it.
        row: Its tokens.
        opened: Whether its prompt ended inside a block of reasoning.
    """
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
