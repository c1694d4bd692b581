"""A network that reads prompts onto pages and writes one token at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from neuron_opsd.models.decoding.budget import heads_of
from neuron_opsd.models.decoding.layout import Layout, Layouts, exact, rounded
from neuron_opsd.models.decoding.paged_memory import PagedMemory, Reading, Step
from neuron_opsd.models.decoding.pages import Ints
from neuron_opsd.models.decoding.recording import Recorder, Steps, recorder_for
from neuron_opsd.models.decoding.scheduling import Schedule
from neuron_opsd.models.forward.attention import MIN_ROWS, padded
from neuron_opsd.records import TokenIds


class Network(Protocol):
    """What is asked of a network; `attention` must be its way to attend."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def decoder(self) -> Any:
        """The module below the head."""

    def run_decoder(self, **inputs: Any) -> Tensor:
        """Return the final states ``(B, T, D)`` of ``input_ids`` ``(B, T)``."""


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

        Args:
            schedule: Whose samples grow.
            network: Gives the states.
            read_out: Turns the states ``(B, D)`` of a step into what it returns.
            record: Gives what records steps on the network's device, if anything does.
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
            sized=exact if recorder is None else rounded,
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

        Returns:
            Slots of samples that were put back because there was no room.
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

    No method of the decoder, which would hold itself and so all its pages until they
    are collected as garbage.
    """
    states = network.run_decoder(
        input_ids=layout.tokens.unsqueeze(1),
        position_ids=layout.positions.unsqueeze(1),
        attending=Step(memory, layout),
    )
    return read_out(states[:, 0])


def enough(rows: Tensor) -> Tensor:
    """Repeat the first row until there are as many as products need to be exact.

    With fewer rows a product on a processor adds in another order, and a completion
    would depend on how many others are made beside it.
    """
    missing = MIN_ROWS - len(rows)
    if missing <= 0:
        return rows
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])])
