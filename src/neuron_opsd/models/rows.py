"""Completions while they grow, one row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from neuron_opsd.models.protocol import Sampling
from neuron_opsd.models.sampling import Draw
from neuron_opsd.models.tokens import Tokens
from neuron_opsd.records import Completion
from neuron_opsd.seeds import uniforms


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

    def add(self, token: int, logprob: float, entropy: float, *, end: bool) -> None:
        """Append one token."""
        self.token_ids.append(token)
        self.logprob += logprob
        self.entropy += entropy
        self.finished = end

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


def append(rows: Sequence[Row], draw: Draw, ends: frozenset[int]) -> list[int]:
    """Append a step's tokens to their rows; return the places of rows that grow on."""
    values: list[Tensor] = [draw.tokens, draw.logprobs, draw.entropies]
    columns = [value.tolist() for value in values]
    for row, token, logprob, entropy in zip(rows, *columns, strict=True):
        row.add(token, logprob, entropy, end=token in ends)
    return [place for place, row in enumerate(rows) if row.grows]


def ends_of(tokens: Tokens, sampling: Sampling) -> frozenset[int]:
    """Return the tokens at which a completion ends."""
    return tokens.end_ids | (
        tokens.newline_ids if sampling.stop_at_newline else frozenset()
    )


def completions(
    tokens: Tokens, rows: Sequence[Row], num_prompts: int
) -> list[list[Completion]]:
    """Return the completions of rows that have ended, by prompt and then by seed."""
    results: list[list[Completion]] = [[] for _ in range(num_prompts)]
    for row in sorted(rows, key=lambda row: row.place):
        results[row.place[0]].append(completed(tokens, row))
    return results


def completed(tokens: Tokens, row: Row) -> Completion:
    """Turn a row that has ended into a completion."""
    ids = tuple(row.token_ids)
    text_ids = ids[:-1] if row.finished else ids
    # A line-break token may carry text before its break, which belongs to the answer.
    tail = ids[-1:] if row.finished and ids[-1] not in tokens.end_ids else ()
    return Completion(
        token_ids=ids,
        text=tokens.decode(text_ids + tail),
        finished=row.finished,
        logprob=row.logprob,
        entropy=row.entropy / max(len(ids), 1),
    )
