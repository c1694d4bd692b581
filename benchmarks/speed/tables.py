"""The outcome of a case as Markdown, and where it goes in the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.speed.outcome import (
    Measured,
    Outcome,
    largest_difference,
    roofline_share,
    spread,
)

MEGABYTE = 1_000_000

WORDS = {"seconds": "time", "peak": "peak memory", "stored": "bytes stored"}

HEADINGS = (
    "system",
    "median",
    "quartiles",
    "rate",
    "time to ours",
    "peak memory",
    "of the roofline",
    "stored",
)


def section(outcome: Outcome, facts: Mapping[str, Any], rounds: int) -> str:
    """Return a case with its table, its bars and what it was measured with."""
    case = outcome.case
    lines = [f"### {case.title}", "", setting_line(outcome, facts, rounds), ""]
    lines += growth_rows(outcome) if case.grows else comparison_rows(outcome)
    difference = largest_difference(outcome.measured)
    if difference is not None:
        lines += ["", f"Float32 results differ by at most {difference:.1e}."]
    if bars := bar_rows(outcome):
        lines += ["", *table(("ratio", "at least", "measured", "verdict"), bars)]
    return "\n".join(lines)


def setting_line(outcome: Outcome, facts: Mapping[str, Any], rounds: int) -> str:
    """Say on what the case was measured, and what that can do at best."""
    rates = outcome.rates
    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    return (
        f"{facts['processor']}, {facts['threads']} threads, on {facts['date']}; "
        f"{versions}. {rounds} rounds. In the same rounds the machine "
        f"multiplied {rates['float32'] / 1e9:,.0f} GFLOP/s in float32 and "
        f"{rates['bfloat16'] / 1e9:,.0f} in bfloat16, and read "
        f"{rates['bandwidth'] / 1e9:.1f} GB/s."
    )


def comparison_rows(outcome: Outcome) -> list[str]:
    """Return the table that holds our systems beside the peers'."""
    ours = next((entry for entry in outcome.measured if entry.seconds), None)
    rows = [comparison_row(e, ours, outcome.rates) for e in outcome.measured]
    width = len(HEADINGS) if any(e.stored for e in outcome.measured) else -1
    return table(HEADINGS[:width], [row[:width] for row in rows])


def comparison_row(
    entry: Measured, ours: Measured | None, rates: Mapping[str, float]
) -> list[str]:
    """Return one system's cells."""
    label = entry.system.label
    if not entry.seconds or ours is None:
        blank = [""] * (len(HEADINGS) - 2)
        return [label, f"not measured: {one_line(entry.problem)}", *blank]
    low, high = spread(entry.seconds)
    return [
        label,
        seconds_text(entry.typical),
        f"{seconds_text(low)} to {seconds_text(high)}",
        f"{entry.amount / entry.typical:,.3g} {entry.work.unit}s/s",
        f"{entry.typical / ours.typical:.2f}",
        bytes_text(entry.peak),
        f"{100 * roofline_share(entry, rates):.0f} %",
        bytes_text(entry.stored) if entry.stored else "",
    ]


def growth_rows(outcome: Outcome) -> list[str]:
    """Return the table of ours at once, twice, four and eight times the work."""
    headings = ("work", "median", "quartiles", "time per work, 1x = 1", "peak memory")
    first = next((entry for entry in outcome.measured if entry.seconds), None)
    rows = []
    for entry in outcome.measured:
        if not entry.seconds or first is None:
            problem = f"not measured: {one_line(entry.problem)}"
            rows.append([entry.system.label, problem, "", "", ""])
            continue
        low, high = spread(entry.seconds)
        grown = entry.system.scale / first.system.scale
        rows.append(
            [
                entry.system.label,
                seconds_text(entry.typical),
                f"{seconds_text(low)} to {seconds_text(high)}",
                f"{entry.typical / first.typical / grown:.2f}",
                bytes_text(entry.peak),
            ]
        )
    return table(headings, rows)


def bar_rows(outcome: Outcome) -> list[list[str]]:
    """Return a row for each ratio between systems that took part."""
    labels = {entry.system.label for entry in outcome.measured}
    rows = []
    for bar in outcome.case.bars:
        if not {bar.ours, bar.peer} <= labels:
            continue
        ratio = outcome.ratio(bar)
        verdict = "not measured"
        if ratio is not None:
            verdict = "reached" if ratio >= bar.least else "short"
        rows.append(
            [
                f"{WORDS[bar.figure]} of {bar.peer} / {bar.ours}",
                f"{bar.least:.3g}",
                "" if ratio is None else f"{ratio:.2f}",
                verdict,
            ]
        )
    return rows


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in (headings, *rows)]
    return [lines[0], "|" + "---|" * len(headings), *lines[1:]]


def seconds_text(seconds: float) -> str:
    """Write a time with three digits.

    Example:
        >>> seconds_text(0.01234)
        '12.3 ms'
    """
    return f"{seconds:.3g} s" if seconds >= 1.0 else f"{1000 * seconds:.3g} ms"


def bytes_text(count: float) -> str:
    """Write a number of bytes in megabytes.

    Example:
        >>> bytes_text(2_500_000)
        '2.5 MB'
    """
    amount = count / MEGABYTE
    return f"{amount:,.0f} MB" if amount >= 100 else f"{amount:.2g} MB"


def one_line(text: str) -> str:
    """Return a text that stands in one cell of a table."""
    return " ".join(text.replace("|", "/").split())[:160]


def placed(page: str, name: str, text: str) -> str:
    """Return a page with a text between its marks, at the end if there are none."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    block = f"{begin}\n{text}\n{end}"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if pattern.search(page):
        return pattern.sub(lambda _: block, page)
    return f"{page.rstrip()}\n\n{block}\n"
