"""Format numbers and foreign text for pages, tables, cards and terminals.

A missing or non-finite number becomes a dash.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import TypeAlias, TypeGuard

from neuron_opsd.records.scores import Interval

Write: TypeAlias = Callable[[float], str]
MINUS = "\N{MINUS SIGN}"
NOT_MEASURED = "\N{EM DASH}"
NO_DIFFERENCE = "no difference seen"
GOT_BETTER, GOT_WORSE = "got better", "got worse"
NO_MATTER = "no difference that matters"

ROUNDING = 1e-9
"""Tolerance below the least difference that matters."""

UNSEEN_MARKS = {
    " ": "\N{OPEN BOX}",
    "\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}",
    "\t": "\N{RIGHTWARDS ARROW TO BAR}",
}
"""Visible stand-ins for space, line break and tab."""

# Joiners shape ordinary words of several scripts and emoji; they can hide nothing.
HARMLESS = frozenset("\n\t\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}")
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: str) -> str:
    r"""Spell out invisible control characters, such as ESC and RLO.

    Example:
        >>> visible("a\x1bb\u202ec")
        'a[U+001B]b[U+202E]c'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(visible_character, text.replace("\r\n", "\n")))


def visible_character(character: str) -> str:
    """Return the character, or its code point in brackets."""
    if character in HARMLESS or unicodedata.category(character) not in UNSEEN:
        return character
    return f"[U+{ord(character):04X}]"


def one_line(text: str, limit: int = 0) -> str:
    """Return the visible text on one line, cut with an ellipsis."""
    line = " ".join(visible(text).split())
    if limit and len(line) > limit:
        return line[: limit - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"
    return line


def is_measured(value: float | None) -> bool:
    """Say whether there is a number to write."""
    return value is not None and math.isfinite(value)


def token(text: str, limit: int = 40) -> str:
    """Write a token with visible spaces and line breaks.

    Example:
        >>> token(" the")
        '\N{OPEN BOX}the'
    """
    for unseen, mark in UNSEEN_MARKS.items():
        text = text.replace(unseen, mark)
    return one_line(text, limit) or "(nothing)"


def tail(text: str, limit: int) -> str:
    """Return a text's end on one line, with an ellipsis if cut."""
    line = one_line(text)
    if len(line) > limit:
        line = "\N{HORIZONTAL ELLIPSIS}" + line[1 - limit :].lstrip()
    return line


def metric_text(value: float | None) -> str:
    """Format a measure or count for a terminal; a hyphen if missing."""
    if value is None or value != value:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def number(value: float | None, digits: int = 3) -> str:
    """Format a number, with a true minus sign if negative."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    # Adding 0.0 turns a -0.0 from rounding into 0.0.
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """Format a number, with a plus sign if positive."""
    text = number(value, digits)
    if value is None or not math.isfinite(value) or round(value, digits) <= 0:
        return text
    return "+" + text


two_digits: Write = partial(number, digits=2)
signed_two_digits: Write = partial(signed, digits=2)


def percent(share: float | None, digits: int = 1) -> str:
    """Format a share in [0, 1] as a percentage."""
    if share is None or not math.isfinite(share):
        return NOT_MEASURED
    return number(100.0 * share, digits) + " %"


def points(difference: float | None) -> str:
    """Format a difference of shares in percentage points, without unit."""
    return signed(None if difference is None else 100.0 * difference, 1)


def ends(interval: Interval, write: Write) -> str:
    """Format an interval's ends."""
    return f"{write(interval.low)} to {write(interval.high)}"


def with_ends(interval: Interval, write: Write, unit: str = "") -> str:
    """Format a number with its interval in brackets."""
    return f"{write(interval.value)}{unit} ({ends(interval, write)})"


def verdict(interval: Interval | None, *, higher_is_better: bool, least: float) -> str:
    """Judge a difference; an interval with zero shows nothing."""
    if not finite(interval):
        return "not measured"
    if interval.holds_zero:
        return NO_DIFFERENCE
    if not matters(interval.value, least):
        return NO_MATTER
    return GOT_BETTER if (interval.low > 0) == higher_is_better else GOT_WORSE


def matters(difference: float, least: float) -> bool:
    """Say whether a difference is large enough to matter."""
    return abs(difference) >= least - ROUNDING


def finite(interval: Interval | None) -> TypeGuard[Interval]:
    """Say whether there is an interval of three finite numbers."""
    if interval is None:
        return False
    return all(map(math.isfinite, (interval.value, interval.low, interval.high)))


def duration(seconds: float) -> str:
    """Format a duration for people.

    Example:
        >>> duration(125.4)
        '2 min 05 s'
    """
    if not math.isfinite(seconds):
        return NOT_MEASURED
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def size(count: int) -> str:
    """Abbreviate a large count.

    Example:
        >>> size(134_515_008)
        '135 M'
    """
    for limit, letter in ((10**9, "B"), (10**6, "M")):
        if count >= limit:
            value = count / limit
            return f"{value:.3g} {letter}" if value < 1000 else f"{value:,.0f} {letter}"
    return f"{count:,}"
