"""The attention that all passes use in place of the network's own.

The network's unchanged code calls `attention`, without cache or mask; the current pass
decides what happens. A model whose attention does more keeps its own
(`probing.decodes_alike`).

Axes: B rows, H query heads, G key heads, T positions, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from neuron_opsd.errors import ModelError
from neuron_opsd.records import TokenIds

NAME: Final = "neuron_opsd"

ALIGNED: Final = 16
"""Sums over positions are padded to a multiple of this: a CPU adds a shorter last piece
differently, so a row's bits would depend on its batch."""

WHOLE_MASK: Final = 4096
"""Longest pass, in positions, with a single mask."""

BLOCK: Final = 512
"""Positions per block, with its own mask, of a longer pass."""

MIN_ROWS: Final = 8
"""With fewer rows, a CPU's matrix products add in another order."""


EVERY: Final = slice(None)


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """Inputs of attention."""

    module: Any
    """Has the `layer_idx`."""
    query: Tensor
    """``(B, H, T, D)``."""
    key: Tensor
    """``(B, G, T, D)``."""
    value: Tensor
    scaling: float
    window: int | None
    """Positions that a position sees, including itself; `None` for all before it."""


class Attending(Protocol):
    """What a pass does when a layer attends."""

    def attend(self, heads: Heads) -> Tensor:
        """Return ``(B, T, H, D)``."""


class Whole:
    """A pass over whole right-padded sequences; no token looks ahead at padding."""

    def attend(self, heads: Heads) -> Tensor:
        """Attend to earlier positions with the library's own attention."""
        window, length = heads.window, heads.key.shape[2]
        if window is None or window >= length:
            return attended(heads, None)
        at = torch.arange(aligned(length), device=heads.key.device)

        def near(rows: slice, columns: slice) -> Tensor:
            behind = at[rows].unsqueeze(1) - at[columns]
            return ((behind >= 0) & (behind < window))[None, None]

        if length <= WHOLE_MASK:
            return attended(heads, near(EVERY, EVERY))
        return attended_in_blocks(heads, near, window)


def attended(heads: Heads, mask: Tensor | None) -> Tensor:
    """Attend with the library's own attention, at an aligned length.

    The mask ``(B or 1, 1, T, T)``, T aligned, is true where a position sees; `None`
    means all earlier positions.
    """
    length = heads.key.shape[2]
    query, key, value = map(for_products, (heads.query, heads.key, heads.value))
    return multiplied(heads, (query, key, value), mask)[:, :length]


def attended_in_blocks(
    heads: Heads, seen: Callable[[slice, slice], Tensor], reach: int | None = None
) -> Tensor:
    """Attend block by block, so that memory grows with T instead of its square.

    With gradients, blocks rerun instead of keeping their masks. `seen` returns the mask
    ``(B or 1, 1, rows, columns)``, true at most `reach` positions back, including
    itself; `None` for any distance.
    """
    length = heads.key.shape[2]
    states = tuple(map(for_products, (heads.query, heads.key, heads.value)))

    def attend(start: int, *states: Tensor) -> Tensor:
        query, key, value = states
        rows = slice(start, min(start + BLOCK, query.shape[2]))
        first = 0 if reach is None else max(0, start - reach + 1)
        columns = slice(first - first % ALIGNED, rows.stop)
        some = query[:, :, rows], key[:, :, columns], value[:, :, columns]
        return multiplied(heads, some, seen(rows, columns))

    def block(start: int) -> Tensor:
        if not torch.is_grad_enabled():
            return attend(start, *states)
        again: Tensor = checkpoint(
            attend, start, *states, use_reentrant=False, preserve_rng_state=False
        )
        return again

    blocks = [block(start) for start in range(0, length, BLOCK)]
    return torch.cat(blocks, dim=1)[:, :length]


def multiplied(
    heads: Heads, states: tuple[Tensor, Tensor, Tensor], mask: Tensor | None
) -> Tensor:
    """Return ``(B, T, H, D)`` from prepared queries, keys and values."""
    output, _ = sdpa_attention_forward(
        heads.module, *states, mask, scaling=heads.scaling
    )
    made: Tensor = output
    return made


def for_products(states: Tensor) -> Tensor:
    """Round and align states ``(B, H, T, D)`` for the library's attention.

    Rounding before padding halves the bytes to move.
    """
    device = states.device.type
    if torch.is_autocast_enabled(device):
        states = states.to(torch.get_autocast_dtype(device))
    length = states.shape[2]
    missing = aligned(length) - length
    return nn.functional.pad(states, (0, 0, 0, missing)) if missing else states


def aligned(length: int) -> int:
    """Round up to a multiple of `ALIGNED`."""
    return length + -length % ALIGNED


def padded(sequences: Sequence[TokenIds]) -> Tensor:
    """Return token ids ``(B, T)``, padded on the right with zeros."""
    longest = max(MIN_ROWS, *map(len, sequences))
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
    return ids


def attention(  # noqa: PLR0913
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    attending: Attending,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend as the current pass says; the signature is transformers'."""
    asked = [name for name in ("softcap", "s_aux") if options.get(name) is not None]
    if asked or attention_mask is not None:
        raise ModelError(
            f"attention with {', '.join(asked) or 'a mask'} is not followed here"
        )
    heads = Heads(module, query, key, value, scaling, sliding_window)
    return attending.attend(heads), None


AttentionInterface.register(NAME, attention)


@contextmanager
def replacing(config: Any, name: str = NAME) -> Iterator[None]:
    """Let networks with this configuration attend through `name` for now."""
    usual = config._attn_implementation  # noqa: SLF001
    config._attn_implementation = name  # noqa: SLF001
    try:
        yield
    finally:
        config._attn_implementation = usual  # noqa: SLF001
