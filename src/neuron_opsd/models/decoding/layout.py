"""Arrays that say where everything is in one decoding step.

They form one vector, so one copy moves them to a device. Their sizes, a `StepShape`,
identify the recorded graph.

Axes: B rows of a step (one per sample), N pages of samples, M pages of one sample, P
prompts, K samples of one prompt, Q pages of prompts, L pages of one prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Final, Generic, TypeVar

import numpy as np
from torch import Tensor

from neuron_opsd.models.decoding.pages import Ints, Kind
from neuron_opsd.models.decoding.scheduling import Schedule
from neuron_opsd.models.forward.attention import MIN_ROWS

Array = TypeVar("Array", Tensor, Ints)

QUARTERS: Final = 4
"""Sizes per power of two, after rounding up on a GPU."""


@dataclass(frozen=True, slots=True)
class StepShape:
    """Sizes of a step."""

    rows: int
    """B."""
    own_pages: int
    """N, from the front of memory."""
    own_depth: int
    """M, a power of two."""
    prompts: int
    """P."""
    samples: int
    """K."""
    prompt_pages: int
    """Q, from the back of memory."""
    prompt_depth: int
    """L, a power of two."""

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every array, in order."""
        return {
            array.name: tuple(getattr(self, size) for size in array.metadata["axes"])
            for array in fields(Layout)
        }

    def __len__(self) -> int:
        return sum(map(math.prod, self.sizes().values()))


def along(*axes: str) -> dict[str, tuple[str, ...]]:
    """Return field metadata naming the `StepShape` size of each axis."""
    return {"axes": axes}


@dataclass(frozen=True, slots=True, eq=False)
class Layout(Generic[Array]):
    """The arrays of a step, written by numpy and read on a device."""

    tokens: Array = field(metadata=along("rows"))
    positions: Array = field(metadata=along("rows"))
    """Counting the prompt."""
    pages: Array = field(metadata=along("rows"))
    """Page for keys and values."""
    offsets: Array = field(metadata=along("rows"))
    """Within the page."""
    sample_of: Array = field(metadata=along("rows"))
    """The row's index in flattened `row_at`."""
    own_table: Array = field(metadata=along("rows", "own_depth"))
    """Pages of each row in order, padded with its first."""
    own_counts: Array = field(metadata=along("rows"))
    """Without padding."""
    owners: Array = field(metadata=along("own_pages"))
    """Row of each page; any if it is free."""
    starts: Array = field(metadata=along("own_pages"))
    """Each page's first position."""
    row_at: Array = field(metadata=along("prompts", "samples"))
    """Rows of each prompt, padded with any row."""
    lengths: Array = field(metadata=along("prompts"))
    prompt_table: Array = field(metadata=along("prompts", "prompt_depth"))
    """Pages of each prompt in order, padded with its first; counted within the Q."""
    prompt_counts: Array = field(metadata=along("prompts"))
    """Without padding."""
    prompt_of: Array = field(metadata=along("prompt_pages"))
    """Prompt of each page; any if it is free."""
    prompt_starts: Array = field(metadata=along("prompt_pages"))
    """Each page's first position."""


def views(vector: Array, shape: StepShape) -> Layout[Array]:
    """Return the arrays of a step as views of a vector."""
    start, found = 0, {}
    for name, size in shape.sizes().items():
        count = math.prod(size)
        found[name] = vector[start : start + count].reshape(size)
        start += count
    return Layout(**found)


def rounded(shape: StepShape) -> StepShape:
    """Round sizes up, so that few different ones occur."""
    sizes = {f.name: round_up(getattr(shape, f.name)) for f in fields(shape)}
    return StepShape(**sizes)


def round_up(size: int) -> int:
    """Round up to a power of two or a quarter step between two of them."""
    step = max(1, power_of_two(size) // 2 // QUARTERS)
    return -(-size // step) * step


def power_of_two(size: int) -> int:
    """Return the next power of two, at least 1."""
    return 1 << max(0, size - 1).bit_length()


@dataclass(frozen=True, slots=True, eq=False)
class Layouts:
    """Writes the arrays of each step of a schedule."""

    schedule: Schedule
    least_samples: int = 1
    """Least K, so that products over prompts are exact."""
    few_sizes: bool = False
    """Round sizes up, for a device that records graphs."""

    def of_step(self, slots: Ints, tokens: Sequence[int]) -> tuple[StepShape, Ints]:
        """Return shape and vector of the step that writes tokens to slots.

        `Schedule.grow` must have given each a position.
        """
        places = [self.schedule.places[slot][0] for slot in slots.tolist()]
        prompts = {prompt: p for p, prompt in enumerate(dict.fromkeys(places))}
        place = np.array([prompts[prompt] for prompt in places])
        rank = ranks(place)
        shape = self._shape(slots, list(prompts), int(rank.max()) + 1)
        vector = np.zeros(len(shape), np.int64)
        layout = views(vector, shape)
        count = len(slots)
        layout.tokens[:count] = tokens
        layout.row_at[place, rank] = np.arange(count)
        layout.sample_of[:count] = place * shape.samples + rank
        self._write_prompts(layout, list(prompts))
        self._write_rows(layout, slots, layout.lengths[place])
        for array in fields(layout):
            if array.metadata["axes"][0] == "rows":
                rows = getattr(layout, array.name)
                rows[count:] = rows[0]
        return shape, vector

    def _shape(self, slots: Ints, prompts: Sequence[int], samples: int) -> StepShape:
        schedule = self.schedule
        pages = schedule.pages
        longest = max(len(schedule.held[prompt].pages) for prompt in prompts)
        shape = StepShape(
            rows=max(MIN_ROWS, len(slots)),
            own_pages=pages.extent(Kind.SAMPLE),
            own_depth=power_of_two(int(schedule.counts[slots].max())),
            prompts=len(prompts),
            samples=max(self.least_samples, samples),
            prompt_pages=pages.extent(Kind.PROMPT),
            prompt_depth=power_of_two(longest),
        )
        if self.few_sizes:
            shape = rounded(shape)
        return replace(
            shape,
            own_pages=min(shape.own_pages, len(pages)),
            prompt_pages=min(shape.prompt_pages, len(pages)),
        )

    def _write_rows(self, layout: Layout[Ints], slots: Ints, lengths: Ints) -> None:
        """Write where the rows' pages are; `lengths` are of their prompts."""
        schedule, page = self.schedule, self.schedule.limits.page
        counts, last = schedule.counts[slots], schedule.written[slots] - 1
        count, depth = len(slots), min(layout.own_table.shape[1], counts.max())
        table = schedule.tables[slots, :depth]
        used = np.arange(depth) < counts[:, None]
        row, number = np.nonzero(used)
        layout.owners[table[used]] = row
        layout.starts[table[used]] = lengths[row] + number * page
        layout.own_table[:count] = table[:, :1]
        layout.own_table[:count, :depth] = np.where(used, table, table[:, :1])
        layout.own_counts[:count] = counts
        layout.positions[:count] = lengths + last
        layout.pages[:count] = table[np.arange(count), counts - 1]
        layout.offsets[:count] = last % page

    def _write_prompts(self, layout: Layout[Ints], prompts: Sequence[int]) -> None:
        schedule = self.schedule
        first = len(schedule.pages) - len(layout.prompt_of)
        for p, prompt in enumerate(prompts):
            held = schedule.held[prompt]
            pages, count = held.pages - first, len(held.pages)
            layout.lengths[p] = held.length
            layout.prompt_table[p] = pages[0]
            layout.prompt_table[p, :count] = pages
            layout.prompt_counts[p] = count
            layout.prompt_of[pages] = p
            layout.prompt_starts[pages] = np.arange(count) * schedule.limits.page


def ranks(places: Ints) -> Ints:
    """Return for each element how many equal ones precede it."""
    order = np.argsort(places, kind="stable")
    _, first, counts = np.unique(places[order], return_index=True, return_counts=True)
    found = np.empty_like(order)
    found[order] = np.arange(len(places)) - np.repeat(first, counts)
    return found
