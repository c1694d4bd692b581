"""Several completions of one prompt read in one row, the prompt once.

After the prompt come the completions one behind the other. Each sees the prompt and
itself, from the position where the prompt ends, so its states are those that it would
have alone.

Axes: B rows, T positions, N completion tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from neuron_opsd.models.forward import attention
from neuron_opsd.models.forward.attention import EVERY, Heads, aligned, padded
from neuron_opsd.records import Pair, TokenIds

PADDING = -1


@dataclass(frozen=True, slots=True)
class Pack:
    """A prompt and the completions that are read after it."""

    prompt: TokenIds
    completions: tuple[TokenIds, ...]
    places: tuple[int, ...]
    """Of the completions' pairs among those that were packed."""

    @property
    def row(self) -> Pair:
        """The prompt, and all completions as one."""
        return self.prompt, tuple(t for tokens in self.completions for t in tokens)


def packs_of(pairs: Sequence[Pair], max_tokens: int) -> list[Pack]:
    """Pack pairs of equal prompts, in the order in which prompts first appear.

    A pack of more than one completion has at most `max_tokens`. One that is longer than
    `WHOLE_MASK` has no more tokens of completions than of its prompt: reading the
    prompt again takes less time than looking past the other completions.
    """
    places: dict[TokenIds, list[int]] = {}
    for place, (prompt, _) in enumerate(pairs):
        places.setdefault(prompt, []).append(place)
    return [
        Pack(prompt, tuple(pairs[i][1] for i in part), tuple(part))
        for prompt, group in places.items()
        for part in parts(group, pairs, max_tokens)
    ]


def parts(
    group: Sequence[int], pairs: Sequence[Pair], max_tokens: int
) -> Iterator[list[int]]:
    """Cut the places of equal prompts so that the completions of each part fit."""
    prompt = len(pairs[group[0]][0])
    room = min(max_tokens, max(attention.WHOLE_MASK, 2 * prompt)) - prompt
    part: list[int] = []
    used = 0
    for place in group:
        size = len(pairs[place][1])
        if part and used + size > room:
            yield part
            part, used = [], 0
        part.append(place)
        used += size
    yield part


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where everything is in rows of packs."""

    ids: Tensor
    """``(B, T)`` token ids."""
    segments: Tensor
    """``(B, T)``: 0 for a prompt, k for its completion k, `PADDING` after them."""
    positions: Tensor
    """``(B, T)`` places in the sequence that each token belongs to."""
    rows: Tensor
    """``(N,)`` row of the state that predicts each completion token."""
    columns: Tensor
    """``(N,)`` its position."""


def layout_of(packs: Sequence[Pack], device: torch.device) -> Layout:
    """Lay out packs, padded on the right; tokens are in the order of the packs."""
    ids = padded([prompt + rest for prompt, rest in (pack.row for pack in packs)])
    segments = torch.full_like(ids, PADDING)
    positions = torch.zeros_like(ids)
    rows: list[int] = []
    columns: list[int] = []
    for row, pack in enumerate(packs):
        end = len(pack.prompt)
        segments[row, :end] = 0
        positions[row, :end] = torch.arange(end)
        for number, tokens in enumerate(pack.completions, start=1):
            span = slice(end, end + len(tokens))
            segments[row, span] = number
            positions[row, span] = len(pack.prompt) + torch.arange(len(tokens))
            rows += [row] * len(tokens)
            # The first token is predicted where the prompt ends.
            columns += [len(pack.prompt) - 1, *range(end, end + len(tokens) - 1)]
            end += len(tokens)
    parts = ids, segments, positions, torch.tensor(rows), torch.tensor(columns)
    return Layout(*(part.to(device) for part in parts))


class Apart:
    """A pass over packs: completions of one prompt do not see each other."""

    def __init__(self, layout: Layout) -> None:
        count = layout.segments.shape[1]
        missing = (0, aligned(count) - count)
        self.segments = nn.functional.pad(layout.segments, missing, value=PADDING)
        self.positions = nn.functional.pad(layout.positions, missing)
        self.masks: dict[int | None, Tensor] = {}
        """Of whole passes, by window, since all layers share them."""

    def attend(self, heads: Heads) -> Tensor:
        """Attend to the prompt and to the own completion."""
        window = heads.window
        if heads.key.shape[2] > attention.WHOLE_MASK:
            seen = partial(self.seen, window)
            return attention.attended_in_blocks(heads, seen)
        if window not in self.masks:
            self.masks[window] = self.seen(window, EVERY, EVERY)
        return attention.attended(heads, self.masks[window])

    def seen(self, window: int | None, rows: slice, columns: slice) -> Tensor:
        """Return what some positions see of others, ``(B, 1, rows, columns)``."""
        segments, others = self.segments[:, rows], self.segments[:, columns]
        at = torch.arange(self.segments.shape[1], device=segments.device)
        own = segments.unsqueeze(2) == others.unsqueeze(1)
        itself = at[rows].unsqueeze(1) - at[columns]
        seen = ((others == 0).unsqueeze(1) | own) & (itself >= 0)
        if window is not None:
            positions, behind = self.positions[:, rows], self.positions[:, columns]
            behind = positions.unsqueeze(2) - behind.unsqueeze(1)
            near = (behind < window) & (behind > -window)
            # Padding sees something too, or its row would be NaN.
            seen &= near | (itself == 0)
        return seen.unsqueeze(1)
