"""How much one pass may hold, found out by going down where memory runs out.

What is halved is what one pass holds, never what is computed: the same questions are
answered from the same random numbers, and a step's gradient is that of its whole batch.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, TypeVar

import torch

from neuron_opsd.errors import TryAgainError, is_out_of_memory
from neuron_opsd.records import Pair

MAX_ROWS: Final = 256
"""Rows decoded side by side; more make no product faster."""

FAST_TOKENS: Final = 512
"""A forward pass over as many tokens is about as fast per token as a longer one."""

MAX_PADDING: Final = 1.25
"""A batch's longest pair is at most this many times as long as its shortest."""

GB: Final = 10**9

ENGINE_CACHE: Final = 2**30
"""Bytes that vLLM takes for keys and values on a processor."""

LONG_PAIR: Final = 256
"""A few pairs of this length make a fast batch, so they need no padding."""

PADDING: Final = 128
"""Tokens of padding in a batch of long pairs; another pass costs about as much."""

T = TypeVar("T")
R = TypeVar("R")

ASKED_FOR: Final = re.compile(r"[Tt]ried to allocate ([0-9.]+ ?(?:[KMGT]i?B|bytes))")


def attempt(work: Callable[[], None]) -> str:
    """Do some work; return what was said where memory ran out, or nothing."""
    try:
        work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        found = ASKED_FOR.search(str(error))
        said = f"{found[1]} more were asked for" if found else "how much is not said"
    else:
        return ""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return said


def in_halves(
    items: Sequence[T], work: Callable[[Sequence[T]], list[R]], what: str
) -> list[R]:
    """Work on all items at once, or on halves of them where memory runs out.

    The work gives a result for each; `what` one of them is stands in the message of a
    `TryAgainError` if there is no room for a single one.
    """
    found: list[R] = []
    said = attempt(lambda: found.extend(work(items)))
    if not said:
        return found
    refuse_single(len(items), what, said)
    half = len(items) // 2
    return in_halves(items[:half], work, what) + in_halves(items[half:], work, what)


def refuse_single(count: int, what: str, said: str) -> None:
    """Stop where even one row has no room."""
    if count > 1:
        return
    raise TryAgainError(
        f"memory ran out on {what} alone ({said}); make it shorter (lower "
        "rollouts.max_new_tokens, distill.max_new_tokens, contexts.num_demonstrations "
        "or contexts.max_tokens), set model.compute=bfloat16, take a smaller model, or "
        "free memory and try again; `neuron-opsd plan` says how much a run holds"
    )


class Room:
    """What one pass without gradient, and what decoding, may hold."""

    def __init__(self, tokens: int) -> None:
        """Begin with what the settings say of the tokens of a pass."""
        self.wanted = tokens
        self.tokens = tokens
        self.rows = MAX_ROWS
        """Samples that are written side by side, at most."""
        self.memory = 0
        """Bytes that decoding may take for keys and values; 0 for a share of what is
        free."""
        self.told: Callable[[str], None] | None = None
        """Told in a sentence, as soon as something has become less."""

    def lower(self, used: int, said: str) -> None:
        """Halve the tokens of a pass that found no room; `said` is what it was told."""
        self.tokens = max(1, min(used, self.tokens) // 2)
        self._tell(
            f"memory ran out ({said}); passes hold at most {self.tokens} tokens from "
            "here on, which makes the same more slowly; model.tokens_per_batch "
            f"{self.wanted} is more than there is room for"
        )

    def lower_decoding(self, rows: int, memory: int, said: str) -> None:
        """Halve the samples, and their bytes, that found no room side by side."""
        self.rows = max(1, rows // 2)
        self.memory = max(1, memory // 2)
        self._tell(
            f"memory ran out ({said}); at most {self.rows} answers are written side by "
            f"side from here on, in {self.memory / GB:.3g} GB, which makes the same "
            "more slowly; engine.decoding_memory sets how much they may take"
        )

    def _tell(self, text: str) -> None:
        if self.told is not None:
            self.told(text)

    def each_pass(
        self,
        pairs: Sequence[Pair],
        work: Callable[[list[int]], None],
        most: int | None = None,
    ) -> None:
        """Group pairs into passes and do the work of each, of places of pairs.

        Where memory runs out all passes are made again, so that they are alike: in
        which passes pairs stand may change the last bits of what comes of them. `most`
        is the tokens of a pass, where that is less than there is room for.
        """
        while True:
            tokens = min(self.tokens, most or self.tokens)
            if all(self._has_room(b, pairs, work) for b in batches(pairs, tokens)):
                return

    def _has_room(
        self, batch: list[int], pairs: Sequence[Pair], work: Callable[[list[int]], None]
    ) -> bool:
        said = attempt(partial(work, batch))
        if said:
            longest = max(sum(map(len, pairs[i])) for i in batch)
            refuse_single(len(batch), f"a row of {longest} tokens", said)
            self.lower(len(batch) * longest, said)
        return not said


def batches(pairs: Sequence[Pair], tokens_per_batch: int) -> Iterator[list[int]]:
    """Group pairs of like length so that no batch exceeds its tokens, padding included.

    A batch that is large enough to be fast takes no pair that would pad the others by
    much. Yields places in `pairs`; a pair longer than a batch has one of its own.
    """
    length = [len(prompt) + len(completion) for prompt, completion in pairs]
    batch: list[int] = []
    held = 0
    for i in sorted(range(len(pairs)), key=lambda i: (length[i], i)):
        others = len(batch) * length[i]
        too_many = others + length[i] > tokens_per_batch
        too_long = others > FAST_TOKENS and length[i] > MAX_PADDING * length[batch[0]]
        too_padded = length[i] >= LONG_PAIR and others - held > PADDING
        if batch and (too_many or too_long or too_padded):
            yield batch
            batch, held = [], 0
        held += length[i]
        batch.append(i)
    if batch:
        yield batch
