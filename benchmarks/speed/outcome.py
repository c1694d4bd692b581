"""What came out of a case, and the figures that are told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median, quantiles
from typing import Any

from benchmarks.speed.cases import BYTES, Bar, Case, System
from benchmarks.speed.job import Facts, Work


@dataclass(slots=True)
class Measured:
    """What came out for one system."""

    system: System
    work: Work
    seconds: list[float] = field(default_factory=list)
    amount: float = 0.0
    """How much of the job was done each time, in its unit."""
    peak: int = 0
    """Most bytes in use after loading."""
    stored: int = 0
    """Bytes that one repetition leaves on the disk."""
    values: list[float] = field(default_factory=list)
    """What was computed, where that can be compared."""
    problem: str = ""
    """Why there are no figures."""

    def add(self, facts: Facts, *, counts: bool) -> None:
        """Take in one turn; a warm-up counts for its memory alone."""
        self.peak = max(self.peak, facts["peak"])
        if counts:
            self.seconds.append(facts["seconds"])
            self.amount = facts["amount"]
            self.stored = facts.get("stored", 0)
            self.values = facts.get("values", [])

    @property
    def typical(self) -> float:
        """The median of the seconds."""
        return median(self.seconds)

    def figure(self, name: str) -> float:
        """Return one of the figures that a bar can be about."""
        figures = {"seconds": self.typical, "peak": self.peak, "stored": self.stored}
        return float(figures[name])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out of a case."""

    case: Case
    measured: list[Measured]
    rates: Mapping[str, float]
    """The machine's operations and bytes per second, medians over the same rounds."""

    def find(self, label: str) -> Measured | None:
        """Return what came out for a system, if anything did."""
        for entry in self.measured:
            if entry.system.label == label and entry.seconds:
                return entry
        return None

    def ratio(self, bar: Bar) -> float | None:
        """Return a peer's figure over ours, if there are both."""
        ours, peer = self.find(bar.ours), self.find(bar.peer)
        if ours is None or peer is None:
            return None
        return peer.figure(bar.figure) / ours.figure(bar.figure)

    def as_table(self) -> dict[str, Any]:
        """Return all figures as plain values."""
        return {
            "title": self.case.title,
            "rates": dict(self.rates),
            "systems": {
                entry.system.label: figures(entry, self.rates)
                for entry in self.measured
            },
            "bars": [{**asdict(b), "ratio": self.ratio(b)} for b in self.case.bars],
        }


def figures(entry: Measured, rates: Mapping[str, float]) -> dict[str, Any]:
    """Return what is kept of a system."""
    if not entry.seconds:
        return {"problem": entry.problem}
    low, high = spread(entry.seconds)
    return {
        "seconds": entry.seconds,
        "median": entry.typical,
        "quartiles": [low, high],
        "amount": entry.amount,
        "unit": entry.work.unit,
        "peak_bytes": entry.peak,
        "stored_bytes": entry.stored,
        "roofline_share": roofline_share(entry, rates),
    }


def spread(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the quartiles, of one number itself.

    Example:
        >>> spread([1.0, 2.0, 3.0, 4.0, 5.0])
        (2.0, 4.0)
    """
    if len(seconds) < 2:
        return seconds[0], seconds[0]
    low, _, high = quantiles(seconds, n=4, method="inclusive")
    return low, high


def roofline_share(entry: Measured, rates: Mapping[str, float]) -> float:
    """Return the least time that the job can take here over the time it took.

    Weights of four bits are held against the rate of bfloat16 products.
    """
    precision = entry.system.precision
    rate = rates["float32" if precision == "float32" else "bfloat16"]
    least = max(
        entry.work.flops / rate,
        entry.work.reads * BYTES[precision] / rates["bandwidth"],
    )
    return least / entry.typical


def largest_difference(measured: Sequence[Measured]) -> float | None:
    """Return by how much what systems computed differs at most, if it can be compared.

    Only systems with float32 weights and products are compared, which differ by
    rounding alone.
    """
    exact = [e.values for e in measured if e.values and e.system.precision == "float32"]
    if len(exact) < 2:
        return None
    first, *others = exact
    return max(
        abs(a - b) for other in others for a, b in zip(first, other, strict=True)
    )
