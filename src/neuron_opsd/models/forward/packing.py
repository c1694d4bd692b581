"""Several completions of one prompt in one row, reading the prompt once.

Each completion sees only the prompt and itself, with positions counted from the
prompt's end, so its states are as if it were alone.

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
    """A prompt and the completions read after it."""

    prompt: TokenIds
    completions: tuple[TokenIds, ...]
    places: tuple[int, ...]
    """Index of each completion's pair."""

    @property
    def row(self) -> Pair:
        """The prompt, and all completions joined."""
        return self.prompt, tuple(t for tokens in self.completions for t in tokens)


def packs_of(pairs: Sequence[Pair], max_tokens: int) -> list[Pack]:
    """Pack pairs with equal prompts, in order of first appearance.

    A pack of several completions has at most `max_tokens`. Beyond `WHOLE_MASK` its
    completions have no more tokens than its prompt, since rereading the prompt is
    faster than skipping other completions.
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
    """Split the indices of equal prompts so that each part fits."""
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
    """``(B, T)``."""
    segments: Tensor
    """``(B, T)``: 0 in the prompt, k in completion k, `PADDING` after them."""
    positions: Tensor
    """``(B, T)`` positions in each token's own sequence."""
    rows: Tensor
    """``(N,)`` row of the state predicting each completion token."""
    columns: Tensor
    """``(N,)`` its column."""


def layout_of(packs: Sequence[Pack], device: torch.device) -> Layout:
    """Lay out packs, padded on the right; tokens keep the order of the packs."""
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
            # The prompt's end predicts the first token.
            columns += [len(pack.prompt) - 1, *range(end, end + len(tokens) - 1)]
            end += len(tokens)
    parts = ids, segments, positions, torch.tensor(rows), torch.tensor(columns)
    return Layout(*(part.to(device) for part in parts))


class Apart:
    """A pass over packs: completions of a prompt do not see each other."""

    def __init__(self, layout: Layout) -> None:
        count = layout.segments.shape[1]
        missing = (0, aligned(count) - count)
        self.segments = nn.functional.pad(layout.segments, missing, value=PADDING)
        self.positions = nn.functional.pad(layout.positions, missing)
        self.masks: dict[int | None, Tensor] = {}
        """By window, shared by all layers."""

    def attend(self, heads: Heads) -> Tensor:
        """Attend to the prompt and the token's own completion."""
        window = heads.window
        if heads.key.shape[2] > attention.WHOLE_MASK:
            seen = partial(self.seen, window)
            return attention.attended_in_blocks(heads, seen)
        if window not in self.masks:
            self.masks[window] = self.seen(window, EVERY, EVERY)
        return attention.attended(heads, self.masks[window])

    def seen(self, window: int | None, rows: slice, columns: slice) -> Tensor:
        """Return the mask of positions against others, ``(B, 1, rows, columns)``."""
        segments, others = self.segments[:, rows], self.segments[:, columns]
        at = torch.arange(self.segments.shape[1], device=segments.device)
        own = segments.unsqueeze(2) == others.unsqueeze(1)
        itself = at[rows].unsqueeze(1) - at[columns]
        seen = ((others == 0).unsqueeze(1) | own) & (itself >= 0)
        if window is not None:
            positions, behind = self.positions[:, rows], self.positions[:, columns]
            behind = positions.unsqueeze(2) - behind.unsqueeze(1)
            near = (behind < window) & (behind > -window)
            # Padding must see itself, or its row would be NaN.
            seen &= near | (itself == 0)
        return seen.unsqueeze(1)
