"""A network that reads prompts onto pages and writes one token at a time.

On a GPU such a step is thousands of small kernels, and starting them one by one takes
longer than they do. A CUDA graph, recorded once for each size, starts all with one
call, from inputs at fixed places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import torch
from torch import Tensor

from neuron_opsd.errors import is_out_of_memory
from neuron_opsd.models.decoding.growing import Network
from neuron_opsd.models.decoding.layout import Layout, Layouts, StepShape, views
from neuron_opsd.models.decoding.paged_memory import PagedMemory, Reading, Step
from neuron_opsd.models.decoding.pages import Ints
from neuron_opsd.models.decoding.scheduling import Schedule
from neuron_opsd.models.forward.attention import MIN_ROWS, padded
from neuron_opsd.models.forward.layers import heads_of
from neuron_opsd.records import TokenIds

MAX_RECORDINGS: Final = 64

Work: TypeAlias = Callable[[], Tensor]

Recorder: TypeAlias = Callable[[Work], Work]
"""Records some work, and returns what does it again on what then stands in its inputs.

The work itself need not be done by the recording. Its result stands at one place and
holds until the next work of the same recorder."""


def recorder_for(device: torch.device) -> Recorder | None:
    """Return what records on a device, `None` where nothing does."""
    if device.type != "cuda":
        return None
    pool = torch.cuda.graph_pool_handle()  # all recordings share their memory

    def record(work: Work) -> Work:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            found = work()

        def again() -> Tensor:
            graph.replay()
            return found

        return again

    return record


class PagedDecoder:
    """Keys and values of a schedule's prompts and samples, and what writes them."""

    def __init__(
        self,
        schedule: Schedule,
        network: Network,
        read_out: Callable[[Tensor], Tensor],
        record: Callable[[torch.device], Recorder | None] = recorder_for,
    ) -> None:
        """Begin with nothing read.

        `attention` must be the network's way to attend; `read_out` turns the states
        ``(B, D)`` of a step into what it returns; `record` gives what records steps on
        a device.
        """
        device = network.device
        self.schedule = schedule
        self.network = network
        self.memory = PagedMemory(len(schedule.pages), schedule.limits.page, device)
        self.ends: dict[int, Tensor] = {}
        """``(D,)``: the state at the end of each prompt that is held."""
        recorder = record(device)
        heads, groups = heads_of(network.decoder.config)
        self._layouts = Layouts(
            schedule,
            least_samples=-(-MIN_ROWS * groups // heads),
            few_sizes=recorder is not None,
        )
        write = partial(written, self.memory, network, read_out)
        self._steps = Steps(write, device, recorder)

    def read(self, prompts: Mapping[int, TokenIds]) -> None:
        """Read prompts, by number, onto the pages that they were given."""
        device, held = self.memory.device, self.schedule.held
        ids = padded(list(prompts.values())).to(device)
        lengths = torch.tensor(list(map(len, prompts.values())), device=device)
        positions = torch.arange(ids.shape[1], device=device).expand_as(ids)
        reading = Reading(self.memory, [held[number].pages for number in prompts])
        states = self.network.run_decoder(
            input_ids=ids, position_ids=positions, attending=reading
        )
        rows = torch.arange(len(prompts), device=device)
        self.ends = {number: end for number, end in self.ends.items() if number in held}
        self.ends |= zip(prompts, states[rows, lengths - 1], strict=True)

    def make_room(self) -> list[int]:
        """Give every sample a position for its next token.

        Returns slots of samples that were put back because there was no room.
        """
        put_back = self.schedule.grow()
        for before, after in self.schedule.pack():
            self.memory.move(before, after)
        return put_back

    def step(self, slots: Ints, tokens: Sequence[int]) -> Tensor:
        """Write a token in each slot; return what is read out of each ``(B, ...)``.

        It holds until the next step.
        """
        shape, numbers = self._layouts.of_step(slots, tokens)
        return self._steps.run(shape, numbers)[: len(slots)]


def written(
    memory: PagedMemory,
    network: Network,
    read_out: Callable[[Tensor], Tensor],
    layout: Layout[Tensor],
) -> Tensor:
    """Write the tokens of a step; return what is read out of their states.

    No method of the decoder, which would hold itself and so all its pages.
    """
    states = network.run_decoder(
        input_ids=layout.tokens.unsqueeze(1),
        position_ids=layout.positions.unsqueeze(1),
        attending=Step(memory, layout),
    )
    return read_out(states[:, 0])


def enough(rows: Tensor) -> Tensor:
    """Repeat the first row until there are as many as products need to be exact.

    A completion would otherwise depend on how many others are made beside it.
    """
    missing = MIN_ROWS - len(rows)
    if missing <= 0:
        return rows
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])])


@dataclass(slots=True, eq=False)
class Kept:
    """The inputs of steps of one size, and what does such a step."""

    numbers: Tensor
    again: Work | None = None


class Steps:
    """Does steps: the first of a size as it is written, those after it recorded."""

    def __init__(
        self,
        work: Callable[[Layout[Tensor]], Tensor],
        device: torch.device,
        record: Recorder | None = None,
    ) -> None:
        self._work = work
        self._device = device
        self._record = record
        self._kept: dict[StepShape, Kept] = {}

    def run(self, shape: StepShape, numbers: Ints) -> Tensor:
        """Do a step; the result holds until the next one."""
        given = torch.from_numpy(numbers)
        if self._record is None:
            return self._work(views(given.to(self._device), shape))
        if shape not in self._kept:
            # Also warms up what the libraries set up at first use.
            while len(self._kept) >= MAX_RECORDINGS:
                del self._kept[next(iter(self._kept))]
            kept = self._kept[shape] = Kept(given.to(self._device))
            return self._work(views(kept.numbers, shape))
        kept = self._kept[shape]
        kept.numbers.copy_(given)
        if kept.again is None:
            at = views(kept.numbers, shape)
            kept.again = self._recorded(partial(self._work, at))
        return kept.again()

    def _recorded(self, work: Work) -> Work:
        """Record a step; one that cannot be is done as it is written, as all others."""
        if self._record is None:
            return work
        try:
            return self._record(work)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self._record = None
            return work
