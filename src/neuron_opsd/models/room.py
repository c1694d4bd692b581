"""How much one pass may hold, found by halving when memory runs out.

Only passes become smaller: the same questions get the same random numbers, and a step's
gradient is that of its whole batch.
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
"""Most rows decoded at once; more make no product faster."""

FAST_TOKENS: Final = 512
"""A forward pass over this many tokens is about as fast per token as longer ones."""

MAX_PADDING: Final = 1.25
"""Largest ratio of a batch's longest pair to its shortest."""

GB: Final = 10**9

ENGINE_CACHE: Final = 2**30
"""vLLM's bytes for keys and values on a CPU."""

LONG_PAIR: Final = 256
"""A few pairs this long make a fast batch, so they need no padding."""

PADDING: Final = 128
"""Most padding tokens in a batch of long pairs; another pass costs about as much."""

T = TypeVar("T")
R = TypeVar("R")

ASKED_FOR: Final = re.compile(r"[Tt]ried to allocate ([0-9.]+ ?(?:[KMGT]i?B|bytes))")


def attempt(work: Callable[[], None]) -> str:
    """Run `work`; return what was said if memory ran out, else ""."""
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
    """Work on all items at once, or on halves if memory runs out.

    `work` returns one result per item. `what` names an item in the `TryAgainError`
    raised if one does not fit alone.
    """
    found: list[R] = []
    said = attempt(lambda: found.extend(work(items)))
    if not said:
        return found
    refuse_single(len(items), what, said)
    half = len(items) // 2
    return in_halves(items[:half], work, what) + in_halves(items[half:], work, what)


def refuse_single(count: int, what: str, said: str) -> None:
    """Raise if not even one row fits."""
    if count > 1:
        return
    raise TryAgainError(
        f"memory ran out on {what} alone ({said}); make it shorter (lower "
        "rollouts.max_new_tokens, distill.max_new_tokens, contexts.num_demonstrations "
        "or contexts.max_tokens), set model.compute=bfloat16, take a smaller model, or "
        "free memory and try again; `neuron-opsd plan` says how much a run needs"
    )


class Room:
    """What a pass without gradient and decoding may hold."""

    def __init__(self, tokens: int) -> None:
        self.wanted = tokens
        self.tokens = tokens
        self.rows = MAX_ROWS
        """Most samples written at once."""
        self.memory = 0
        """Bytes for keys and values in decoding; 0 for a share of free memory."""
        self.told: Callable[[str], None] | None = None
        """Called with a sentence when a limit is lowered."""

    def lower(self, used: int, said: str) -> None:
        """Halve the tokens of a pass that did not fit; `said` is from `attempt`."""
        self.tokens = max(1, min(used, self.tokens) // 2)
        self._tell(
            f"memory ran out ({said}); from here on passes hold at most {self.tokens} "
            "tokens, with the same results but more slowly; model.tokens_per_batch "
            f"{self.wanted} is too much for this machine"
        )

    def lower_decoding(self, rows: int, memory: int, said: str) -> None:
        """Halve the samples written at once, and their bytes."""
        self.rows = max(1, rows // 2)
        self.memory = max(1, memory // 2)
        self._tell(
            f"memory ran out ({said}); from here on at most {self.rows} answers are "
            f"written side by side, in {self.memory / GB:.3g} GB, with the same "
            "results but more slowly; engine.decoding_memory sets their share"
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
        """Group pairs into passes, and call `work` with the indices of each.

        If memory runs out all passes run again, so that they are alike: grouping may
        change the last bits of results. `most` limits a pass's tokens further.
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
    """Group pairs by length into batches within the limit, padding included.

    A batch that is already fast takes no pair that adds much padding. Yields indices; a
    pair longer than the limit gets its own batch.
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
