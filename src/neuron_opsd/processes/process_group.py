"""Ranks over torch.distributed: gloo for texts and on processors, NCCL on GPUs.

Texts have their own gloo group, since NCCL moves only GPU data. No other module knows
torch.distributed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor

from neuron_opsd.errors import ConfigError, is_out_of_memory
from neuron_opsd.processes.ranks import LostRankError

NO_LIMIT: Final = timedelta(days=365)
"""Limit for what rank 0 does alone."""

NUM_IN_FLIGHT: Final = 64

LOCAL_RANK: Final = "LOCAL_RANK"
"""Variable with a process's number on its machine."""


@contextmanager
def joined(device: str, timeout: float) -> Iterator[ProcessGroup]:
    """Join the processes started with this one, by torchrun or the like.

    Each takes its own GPU; one silent for `timeout` seconds in a step is lost.

    Raises:
        ConfigError: If this machine has fewer GPUs than processes.
        LostRankError: If not all come.
    """
    on_gpu = device.startswith("cuda")
    if on_gpu:
        take_own_gpu()
    patience = timedelta(seconds=timeout)
    with hearing(patience):
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        dist.init_process_group(backend, timeout=patience)
    yield ProcessGroup(patience)
    dist.destroy_process_group()


def take_own_gpu() -> None:
    """Select this process's own GPU."""
    place, count = int(os.environ.get(LOCAL_RANK, "0")), torch.cuda.device_count()
    if place >= count:
        raise ConfigError(
            f"this is process {place + 1} on a machine with {count} GPUs; start at "
            f"most {count} there (torchrun --nproc-per-node {count}), or set "
            "model.device to cpu"
        )
    torch.cuda.set_device(place)


class ProcessGroup:
    """The ranks of torch's default process group, already set up."""

    def __init__(self, timeout: timedelta) -> None:
        """Meet the others; ones silent for `timeout` in a step are lost."""
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self._hearing = partial(hearing, timeout)
        with self._hearing():
            self._texts = dist.new_group(backend="gloo", timeout=timeout)
            self._waiting = dist.new_group(backend="gloo", timeout=NO_LIMIT)

    def tell(self, word: str) -> list[str]:
        """Send a text to all ranks; return all texts by rank."""
        own = as_bytes(word)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with self._hearing():
            dist.all_gather(sizes, torch.tensor([len(own)]), group=self._texts)
            longest = max(int(size) for size in sizes)
            rows = [torch.zeros(longest, dtype=torch.uint8) for _ in sizes]
            padded = torch.zeros(longest, dtype=torch.uint8)
            padded[: len(own)] = own
            dist.all_gather(rows, padded, group=self._texts)
        return [as_text(row[: int(n)]) for row, n in zip(rows, sizes, strict=True)]

    def hear_first(self, word: str = "-") -> str:
        """Return rank 0's word, however long it takes."""
        own = as_bytes(word)
        size = torch.tensor([len(own)])
        with self._hearing():
            dist.broadcast(size, 0, group=self._waiting)
            row = own if self.rank == 0 else torch.zeros(int(size), dtype=torch.uint8)
            dist.broadcast(row, 0, group=self._waiting)
        return as_text(row)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Sum same-shaped tensors over all ranks, in place."""
        self._each(dist.all_reduce, tensors)

    def copy_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite same-shaped tensors on every rank with rank 0's."""
        self._each(lambda tensor, **how: dist.broadcast(tensor, 0, **how), tensors)

    def _each(self, send: Callable[..., Any], tensors: Sequence[Tensor]) -> None:
        with self._hearing():
            for start in range(0, len(tensors), NUM_IN_FLIGHT):
                part = tensors[start : start + NUM_IN_FLIGHT]
                begun = []
                for one in part:
                    group = self._texts if one.is_cpu else dist.group.WORLD
                    begun.append(send(one, group=group, async_op=True))
                for work in begun:
                    work.wait()


@contextmanager
def hearing(timeout: timedelta) -> Iterator[None]:
    """Turn communication errors into a `LostRankError`."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        what = "has ended or cannot be reached; its own message says why"
        if "timed out" in str(error).lower():
            what = (
                f"has not answered for {timeout.total_seconds():.0f} s "
                "(cluster.step_timeout)"
            )
        raise LostRankError(
            f"another of the processes that train together {what}; the last checkpoint "
            "is intact, and the same command resumes from it"
        ) from error


def as_bytes(text: str) -> Tensor:
    """Encode a non-empty text as UTF-8 bytes ``(bytes,)``."""
    found = bytearray(text.encode("utf-8", "surrogatepass"))
    return torch.frombuffer(found, dtype=torch.uint8)


def as_text(row: Tensor) -> str:
    """Decode UTF-8 bytes ``(bytes,)``."""
    return row.numpy().tobytes().decode("utf-8", "surrogatepass")
