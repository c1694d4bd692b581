"""What stages cost, in tokens and time, and a plan of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from neuron_opsd.config import Config

MARGIN = 0.25
"""Share by which times are uncertain, up and down."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """The cost of one stage."""

    name: str
    prefill_tokens: int
    decode_tokens: int
    train_tokens: int
    seconds: float | None
    """`None`, as its range, where it was not measured."""
    low: float | None
    high: float | None

    @property
    def tokens(self) -> int:
        """Tokens of all kinds."""
        return self.prefill_tokens + self.decode_tokens + self.train_tokens


@dataclass(frozen=True, slots=True)
class Plan:
    """The cost of a run."""

    stages: tuple[StagePlan, ...]
    peak_memory_bytes: int
    """0 where the system does not say."""
    disk_bytes: int
    engine_memory_bytes: int = 0
    """Of the peak, what vLLM holds where it writes answers."""
    why_untimed: str = ""
    """Why stages have no time; empty where all have one."""

    @property
    def seconds(self) -> float | None:
        """Time of all stages, `None` where one has none."""
        return total([stage.seconds for stage in self.stages])

    @property
    def low(self) -> float | None:
        """Time if everything goes well."""
        return total([stage.low for stage in self.stages])

    @property
    def high(self) -> float | None:
        """Time if everything goes slowly."""
        return total([stage.high for stage in self.stages])


def total(times: Sequence[float | None]) -> float | None:
    """Return the sum of times, `None` if one is missing."""
    known = [time for time in times if time is not None]
    return sum(known) if len(known) == len(times) else None


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens of each kind and the time that they take; costs add up."""

    prefill: float = 0.0
    decode: float = 0.0
    train: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def stage(self, name: str, config: Config) -> StagePlan:
        """Return it as a stage, with a margin; without a time where vLLM writes."""
        timed = not (self.decode and writes_elsewhere(config))
        return StagePlan(
            name=name,
            prefill_tokens=round(self.prefill),
            decode_tokens=round(self.decode),
            train_tokens=round(self.train),
            seconds=self.seconds if timed else None,
            low=self.seconds * (1 - MARGIN) if timed else None,
            high=self.seconds * (1 + MARGIN) if timed else None,
        )


def writes_elsewhere(config: Config) -> bool:
    """Whether another engine than our own decoder writes free answers."""
    return config.engine.rollouts != "transformers"
