"""Steps of decoding, recorded once for each size and then started as a whole.

On a GPU a step is thousands of small kernels, and starting them one by one from Python
takes longer than they do. A CUDA graph starts all with one call, from inputs that stand
at fixed places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeAlias

import torch
from torch import Tensor

from neuron_opsd.errors import is_out_of_memory
from neuron_opsd.models.decoding.layout import Layout, StepShape, views
from neuron_opsd.models.decoding.pages import Ints

MAX_RECORDINGS: Final = 64
"""Sizes whose steps are kept; the one recorded first goes when another comes."""

Work: TypeAlias = Callable[[], Tensor]


class Recorder(Protocol):
    """Records what some work does on a device."""

    def __call__(self, work: Work, /) -> Work:
        """Return what does the work again, on what then stands in its inputs.

        The work itself need not be done by the recording. Its result stands at one
        place and holds until the next work of the same recorder.
        """


class CudaGraphs:
    """Records on the current CUDA device; all recordings share their memory."""

    def __init__(self) -> None:
        """Take a pool of memory for results."""
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        """Record some work, which must have been done before."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            found = work()

        def again() -> Tensor:
            graph.replay()
            return found

        return again


def recorder_for(device: torch.device) -> Recorder | None:
    """Return what records on a device, `None` where nothing does."""
    return CudaGraphs() if device.type == "cuda" else None


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
        """Do this work on the arrays of each step, recorded if there is a recorder."""
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
            self._forget_oldest()
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

    def _forget_oldest(self) -> None:
        while len(self._kept) >= MAX_RECORDINGS:
            del self._kept[next(iter(self._kept))]
