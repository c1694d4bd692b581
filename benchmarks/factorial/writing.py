"""Write effects and tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.factorial.effects import Estimate
from neuron_opsd.records.scores import Interval


def in_points(value: float, low: float, high: float) -> str:
    """Write a difference in points with its interval."""
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def points(result: Estimate | None) -> str:
    """Write an effect in points with its interval."""
    return "" if result is None else in_points(result.value, result.low, result.high)


def interval_text(interval: Interval | None) -> str:
    """Write a difference of calibration errors."""
    if interval is None:
        return ""
    return f"{interval.value:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def percent(share: float) -> str:
    """Write a share in per cent."""
    return f"{100 * share:.1f}"


def print_table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """Print one Markdown table, if it has a row."""
    body = list(rows)
    if not body:
        return
    columns = list(headings)
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in body:
        print("| " + " | ".join(row) + " |")
    print()
