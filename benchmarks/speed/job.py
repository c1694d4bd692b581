"""What a system is given, and how it is asked for repetitions."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

Facts: TypeAlias = dict[str, Any]
"""What a system tells of one repetition; `amount` is how much of the job it did."""

CLEAR = Path("/proc/self/clear_refs")
"""Linux forgets the highest memory use of a process when 5 is written here."""


@dataclass(frozen=True, slots=True)
class Work:
    """The job of a case, equal for all its systems, down to the token ids."""

    unit: str
    """What `amount` counts, for example ``token``."""
    flops: float = 0.0
    """Operations of matrix products that the job needs at least."""
    reads: float = 0.0
    """Numbers, weights above all, that it needs to read from memory at least."""
    prompts: list[list[int]] = field(default_factory=list)
    num_samples: int = 1
    new_tokens: int = 0
    """Length of every completion that is drawn or looked at."""
    completions: list[list[list[int]]] = field(default_factory=list)
    """Of each prompt: its choices, or the one completion to look at."""
    teacher_prompts: list[list[int]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """The prompts as text."""
    contexts: list[str] = field(default_factory=list)
    """What stands before each prompt in its teacher's prompt, as text."""


@dataclass(frozen=True, slots=True)
class Job:
    """A system's work with where and how it is to be done."""

    work: Work
    model: str
    """Folder of a transformers model."""
    device: str
    threads: int
    options: Mapping[str, Any]
    """Of the system: `precision` and the like."""
    gguf: str
    neufs: str

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Job:
        """Return the job that `dataclasses.asdict` was given."""
        return cls(**{**table, "work": Work(**table["work"])})


class Turns:
    """The repetitions that the driver asks for: one line in, one answer out."""

    def __init__(
        self,
        asked: Iterator[str],
        answer: Callable[[Facts], None],
        device: str = "cpu",
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.asked = asked
        self.answer = answer
        self.device = device
        self.clock = clock
        self.start = 0.0

    def repeat(self, once: Callable[[], Facts]) -> None:
        """Say that all is loaded, then do the work as often as it is asked for."""
        self.ready()
        while self.wait():
            self.done(once())

    def ready(self, facts: Facts | None = None) -> None:
        """Say that all is loaded; memory counts from here."""
        forget_peak()
        self.answer(facts or {})

    def wait(self) -> bool:
        """Wait to be asked and start the clock; False when there is no more to do."""
        if next(self.asked, None) is None:
            return False
        settle(self.device)
        self.start = self.clock()
        return True

    def done(self, facts: Facts) -> None:
        """Stop the clock and answer."""
        settle(self.device)
        seconds = self.clock() - self.start
        self.answer({"seconds": seconds, "peak": peak_bytes(self.device), **facts})


def settle(device: str) -> None:
    """Wait until a GPU has done what it was given."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()


def forget_peak() -> None:
    """Let the peak begin anew, so that loading does not count, where that is known."""
    with suppress(OSError):
        CLEAR.write_text("5", encoding="ascii")


def peak_bytes(device: str) -> int:
    """Return the most memory that was in use, the GPU's where there is one."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
