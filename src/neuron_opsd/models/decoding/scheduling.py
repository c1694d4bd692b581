"""Which samples grow, which wait, and on which pages each is.

`benchmarks/decoding_rows.py` runs this bookkeeping alone, with random lengths.

A sample is admitted if all are expected to fit until they end. If room runs out anyway,
the youngest restart later, which costs time but changes nothing, since tokens depend
only on (prompt, seed).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from neuron_opsd.models.decoding.pages import Ints, Kind, Limits, Pages

SPARE: Final = 0.5
"""Reserve for chance: this times the expected peak, divided by the root of the number
of samples."""

PRIOR: Final = 4
"""The length estimate starts with this many completions of half the maximum."""

WORTH: Final = 16
"""New samples are admitted once they are one per this many growing ones."""

SPREAD: Final = 2
"""Pages are moved together once they spread over this many times their number."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A prompt whose keys and values are in memory."""

    length: int
    pages: Ints
    growing: set[int]
    """Slots of its samples."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Samples of one prompt that start now."""

    prompt: int
    samples: tuple[int, ...]
    slots: tuple[int, ...]
    is_new: bool
    """The prompt must be read."""


def expected_peak(rows: int, tokens: int, mean: float) -> float:
    """Return the expected peak of tokens that growing samples hold at once.

    If a token ends a sample with probability ``1 / mean``, B samples of A tokens in
    total hold ``(A + B h) exp(-h / mean)`` after h more steps; this is its maximum.
    """
    if tokens >= rows * mean:
        return float(tokens)
    return rows * mean * math.exp(tokens / (rows * mean) - 1.0)


class Schedule:
    """Decides which samples grow, and tracks their pages."""

    def __init__(
        self,
        prompts: Sequence[int],
        samples: Sequence[Sequence[int]],
        pages: Pages,
        limits: Limits,
    ) -> None:
        """Start with everything waiting, the longest prompt first.

        `prompts` are lengths in tokens, `samples` the sample numbers of each; all
        `pages` are free, at least `Limits.least_pages`.
        """
        self.prompts = prompts
        self.pages = pages
        self.limits = limits
        order = sorted(range(len(prompts)), key=lambda i: (prompts[i], i))
        self.waiting = [(i, tuple(samples[i])) for i in order if samples[i]]
        """The next one last."""
        self.held: dict[int, Held] = {}
        size = limits.rows
        most_own = max(1, limits.pages_of(limits.longest))
        self.tables: Ints = np.zeros((size, most_own), np.int64)
        """``(S, M)``: pages of each slot, in order of positions."""
        self.counts: Ints = np.zeros(size, np.int64)
        """``(S,)``: number of those pages."""
        self.written: Ints = np.zeros(size, np.int64)
        """``(S,)``: filled positions."""
        self.places: dict[int, tuple[int, int]] = {}
        """Prompt and sample of each used slot, oldest first."""
        self._free = list(range(size))[::-1]
        self._ended, self._seen = 0, 0
        self.num_redone = 0
        """Tokens written again because their samples were put back."""

    @property
    def done(self) -> bool:
        """Whether nothing grows and nothing waits."""
        return not self.places and not self.waiting

    @property
    def slots(self) -> Ints:
        """Slots of growing samples, oldest first."""
        return np.fromiter(self.places, np.int64, len(self.places))

    def expected_length(self) -> int:
        """Return the expected length of a completion.

        Tokens written per completion ended: the usual estimate of a mean lifetime from
        censored observations.
        """
        seen = self._seen + int(self.written[self.slots].sum())
        before = PRIOR * self.limits.longest / 2
        mean = (before + seen) / (PRIOR + self._ended)
        return min(self.limits.longest, round(mean))

    def admit(self) -> list[Admitted]:
        """Admit waiting samples that are expected to fit until they end.

        Only in groups, since reading prompts together is faster.
        """
        chosen = self._choose()
        count = sum(len(samples) for _, samples in chosen)
        left = sum(len(samples) for _, samples in self.waiting) - count
        if self.places and left and count * WORTH < len(self.places):
            return []
        return [self._begin(prompt, samples) for prompt, samples in chosen]

    def _choose(self) -> list[tuple[int, tuple[int, ...]]]:
        """Return the next prompts, each with as many samples as fit."""
        rows, free = len(self.places), self.pages.num_free
        of_prompts = sum(len(held.pages) for held in self.held.values())
        chosen: list[tuple[int, tuple[int, ...]]] = []
        for prompt, samples in reversed(self.waiting):
            taken = 0 if prompt in self.held else self._pages_of_prompt(prompt)
            room = (len(self.pages) - of_prompts - taken) * self.limits.page
            fit = self._that_fit(rows, room) if taken <= free else 0
            if fit < 1 and rows:
                break
            some = samples[: max(1, fit)]
            chosen.append((prompt, some))
            rows += len(some)
            free, of_prompts = free - taken, of_prompts + taken
            if len(some) < len(samples):
                break
        return chosen

    def _that_fit(self, rows: int, room: int) -> int:
        """Return how many samples may join `rows` others in `room` positions."""
        tokens, mean = int(self.written[self.slots].sum()), self.expected_length()
        more = self.limits.rows - rows
        while more > 0:
            all_rows = rows + more
            held = expected_peak(all_rows, tokens, mean)
            # Last pages are half full on average.
            held += all_rows * self.limits.page / 2
            if held * (1.0 + SPARE / math.sqrt(all_rows)) <= room:
                break
            more -= 1
        return max(0, more)

    def _pages_of_prompt(self, prompt: int) -> int:
        return self.limits.pages_of(self.prompts[prompt])

    def _begin(self, prompt: int, samples: tuple[int, ...]) -> Admitted:
        number, all_samples = self.waiting.pop()
        if left := all_samples[len(samples) :]:
            self.waiting.append((number, left))
        is_new = prompt not in self.held
        if is_new:
            pages = self.pages.take(self._pages_of_prompt(prompt), Kind.PROMPT)
            self.held[prompt] = Held(self.prompts[prompt], pages, set())
        slots = tuple(self._free.pop() for _ in samples)
        for slot, sample in zip(slots, samples, strict=True):
            self.places[slot] = prompt, sample
            self.counts[slot] = self.written[slot] = 0
        self.held[prompt].growing.update(slots)
        return Admitted(prompt, samples, slots, is_new)

    def grow(self) -> list[int]:
        """Give each sample room for one more token; return the slots put back."""
        put_back: list[int] = []
        while True:
            slots = self.slots
            short = slots[self.written[slots] == self.counts[slots] * self.limits.page]
            if len(short) <= self.pages.num_free:
                break
            put_back.append(self._put_back_youngest())
        pages = self.pages.take(len(short), Kind.SAMPLE)
        self.tables[short, self.counts[short]] = pages
        self.counts[short] += 1
        self.written[slots] += 1
        return put_back

    def _put_back_youngest(self) -> int:
        """Put back the sample that loses least; of equals, the last admitted."""
        slots = self.slots
        youngest = int(slots[::-1][self.written[slots[::-1]].argmin()])
        prompt, sample = self.places[youngest]
        self.num_redone += int(self.written[youngest]) + 1
        self._leave(youngest)
        if self.waiting and self.waiting[-1][0] == prompt:
            _, others = self.waiting.pop()
            self.waiting.append((prompt, (sample, *others)))
        else:
            self.waiting.append((prompt, (sample,)))
        return youngest

    def end(self, slot: int) -> None:
        """Free a finished sample's slot."""
        self._ended += 1
        self._leave(slot)

    def _leave(self, slot: int) -> None:
        prompt, _ = self.places.pop(slot)
        # The last token is sampled but never written.
        self._seen += int(self.written[slot]) + 1
        self.pages.give(self.tables[slot, : self.counts[slot]])
        self._free.append(slot)
        held = self.held[prompt]
        held.growing.remove(slot)
        if not held.growing:
            self.pages.give(held.pages)
            del self.held[prompt]

    def pack(self) -> list[tuple[Ints, Ints]]:
        """Move scattered pages together; return their old and new places."""
        moves = []
        for kind in (Kind.SAMPLE, Kind.PROMPT):
            count = int((self.pages.kinds == kind).sum())
            if self.pages.extent(kind) > SPREAD * count:
                moves.append(self.pages.packed(kind))
        for before, after in moves:
            new = np.arange(len(self.pages))
            new[before] = after
            self.tables = new[self.tables]
            for held in self.held.values():
                held.pages[:] = new[held.pages]
        return moves
