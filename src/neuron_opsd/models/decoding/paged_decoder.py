"""A network that reads prompts onto pages and writes one token at a time.

On a GPU a step is thousands of small kernels, slower to launch than to run. A CUDA
graph, recorded per shape, launches them in one call on inputs at fixed addresses.
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
"""Records work and returns a function that repeats it on the current inputs.

Recording need not run the work. A result is valid until the recorder's next work.
"""


def recorder_for(device: torch.device) -> Recorder | None:
    """Return a device's recorder, if it has one."""
    if device.type != "cuda":
        return None
    pool = torch.cuda.graph_pool_handle()  # shared by all recordings

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
    """A schedule's keys and values, and the network that writes them."""

    def __init__(
        self,
        schedule: Schedule,
        network: Network,
        read_out: Callable[[Tensor], Tensor],
        record: Callable[[torch.device], Recorder | None] = recorder_for,
    ) -> None:
        """Start with nothing read.

        The network must attend through `attention`; `read_out` turns a step's states
        ``(B, D)`` into its result.
        """
        device = network.device
        self.schedule = schedule
        self.network = network
        self.memory = PagedMemory(len(schedule.pages), schedule.limits.page, device)
        self.ends: dict[int, Tensor] = {}
        """``(D,)``: each prompt's final state."""
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
        """Read prompts, by index, onto their pages."""
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

        Returns the slots of samples put back for lack of room.
        """
        put_back = self.schedule.grow()
        for before, after in self.schedule.pack():
            self.memory.move(before, after)
        return put_back

    def step(self, slots: Ints, tokens: Sequence[int]) -> Tensor:
        """Write a token to each slot; return what is read out, ``(B, ...)``.

        The result is valid until the next step.
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

    Not a method: the decoder would then reference itself, and its pages stay in memory.
    """
    states = network.run_decoder(
        input_ids=layout.tokens.unsqueeze(1),
        position_ids=layout.positions.unsqueeze(1),
        attending=Step(memory, layout),
    )
    return read_out(states[:, 0])


def enough(rows: Tensor) -> Tensor:
    """Repeat the first row until products are exact.

    Otherwise a completion would depend on how many others are sampled with it.
    """
    missing = MIN_ROWS - len(rows)
    if missing <= 0:
        return rows
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])])


@dataclass(slots=True, eq=False)
class Kept:
    """Inputs for one step shape, and its recording."""

    numbers: Tensor
    again: Work | None = None


class Steps:
    """Runs steps: the first of a shape directly, later ones recorded."""

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
        """Run a step; the result is valid until the next one."""
        given = torch.from_numpy(numbers)
        if self._record is None:
            return self._work(views(given.to(self._device), shape))
        if shape not in self._kept:
            # This also warms up the libraries.
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
        """Record a step; after a failure all steps run directly."""
        if self._record is None:
            return work
        try:
            return self._record(work)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self._record = None
            return work
