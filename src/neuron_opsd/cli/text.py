"""Text for a terminal: made harmless and short, and tables that fit."""

from __future__ import annotations

import codecs
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, clearing
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])"  # OSC, DCS, SOS, PM, APC ...
    r"[^\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"  # ... up to their end
    r"|\x1b[ -/]*[0-~]?"  # two-byte sequences, and an escape that nothing ends
)

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e")
_ISOLATES = frozenset("\u2066\u2067\u2068\u2069")
_KEPT = frozenset("\n\t")

PLAIN_SIGNS = "neuron-opsd-plain-signs"
"""Error handler of streams whose encoding lacks a character."""

_SIGNS: dict[str, str | int | None] = {
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "--",
    "\N{MIDDLE DOT}": "-",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
}
"""What we write ourselves, in ASCII."""


def plain_signs(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks by signs or escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end].translate(str.maketrans(_SIGNS))
    return lacking.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(PLAIN_SIGNS, plain_signs)


def clean(text: str) -> str:
    r"""Return the text without anything that a terminal would obey.

    Gone are escape sequences, control characters but line breaks and tabs, and marks
    that turn the direction of writing. Lone surrogates become U+FFFD.

    Example:
        >>> clean("a\x1b[31mb\x1b]0;title\x07c\u202ed")
        'abcd'
    """
    return "".join(map(_harmless, _SEQUENCES.sub("", text)))


def _harmless(char: str) -> str:
    if char in _KEPT:
        return char
    category = unicodedata.category(char)
    if category == "Cs":
        return "\ufffd"
    if category in {"Cc", "Zl", "Zp"} or char in _BIDI or char in _ISOLATES:
        return ""
    return char


def escaped_toml(text: str, encoding: str = "utf-8") -> str:
    r"""Return a TOML file that means the same, harmless and in the given encoding.

    Only texts in double quotes may hold such characters, as in the settings.

    Example:
        >>> escaped_toml('a = "x\u202e\N{MINUS SIGN}"', "ascii")
        'a = "x\\u202e\\u2212"'
    """

    def written(char: str) -> str:
        if char in _KEPT or (clean(char) == char and char.encode(encoding, "ignore")):
            return char
        return f"\\u{ord(char):04x}" if ord(char) < 1 << 16 else f"\\U{ord(char):08x}"

    return text if text.isascii() else "".join(map(written, text))


def one_line(text: str, width: int = 60) -> str:
    r"""Return the cleaned text on one line, cut to `width` characters.

    Example:
        >>> one_line("how\n far", width=6)
        'how f…'
    """
    line = " ".join(clean(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def duration(seconds: float) -> str:
    """Return a length of time as `m:ss` or `h:mm:ss`.

    Example:
        >>> duration(65.4), duration(3600)
        ('1:05', '1:00:00')
    """
    total = round(max(0.0, seconds))
    minutes, rest = divmod(total, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}"


def size(num_bytes: float) -> str:
    """Return a number of bytes in the unit that suits it.

    Example:
        >>> size(1536), size(3 * 2**30)
        ('1.5 KiB', '3.0 GiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} TiB"


def pace_text(rate: float, unit: str) -> str:
    """Return units per second, per minute where that is below one.

    Example:
        >>> pace_text(12.34, "questions"), pace_text(0.05, "steps")
        ('12.3 questions/s', '3.0 steps/min')
    """
    if rate >= 1.0:
        return f"{rate:,.1f} {unit}/s"
    return f"{60 * rate:.1f} {unit}/min"


def plain_values(value: Any) -> Any:
    """Convert records and values for JSON; NaN and infinity become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value):
        return {f.name: plain_values(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain_values(inner) for key, inner in value.items()}
    if isinstance(value, str | int | None):
        return value
    if isinstance(value, Iterable):
        return [plain_values(inner) for inner in value]
    return str(value)


Row: TypeAlias = Sequence[str]

PART = re.compile(r"\[[^\]]*\]|\S+\s%|\S+")
"""A word, share or interval; stays on one line."""
WITH_INTERVAL = re.compile(r"^(\S+) (\[[^\]]*\])$")

WIDE_GAP, NARROW_GAP = 2, 1
"""Blanks between table columns."""


def fitting_table(headings: Row, rows: Sequence[Row], screen: int) -> RenderableType:
    """Lay out a table for a screen of `screen` columns.

    If too wide, break headings and put intervals below values, then transpose. What is
    still too wide becomes several tables, each of which begins with the first column.
    """
    if needed(headings, rows, widest_line, WIDE_GAP) <= screen:
        return laid_out(headings, rows, screen, WIDE_GAP)
    stacked = [[WITH_INTERVAL.sub(r"\1\n\2", cell) for cell in row] for row in rows]
    for gap in (WIDE_GAP, NARROW_GAP):
        if needed(headings, stacked, widest_part, gap) <= screen:
            return laid_out(headings, stacked, screen, gap)
    first, *others = zip(headings, *stacked, strict=True)
    if needed(first, others, widest_part, WIDE_GAP) <= screen:
        return laid_out(first, others, screen, WIDE_GAP)
    parts: list[RenderableType] = []
    for part in divided([headings, *stacked], screen):
        parts += [laid_out(part[0], part[1:], screen, WIDE_GAP), ""]
    return Group(*parts[:-1])


def divided(lines: Sequence[Row], screen: int) -> list[list[Row]]:
    """Divide a table's columns into tables that fit, each with the first column."""
    first, *columns = zip(*lines, strict=True)
    parts: list[list[Row]] = [[first]]
    for column in columns:
        tried = list(zip(*parts[-1], column, strict=True))
        fits = needed(tried[0], tried[1:], widest_part, WIDE_GAP) <= screen
        if len(parts[-1]) > 1 and not fits:
            parts.append([first])
        parts[-1].append(column)
    return [list(zip(*part, strict=True)) for part in parts]


def laid_out(headings: Row, rows: Sequence[Row], screen: int, gap: int) -> Table:
    """Lay out a table, first column left-aligned, the others right-aligned.

    Every column fits its widest word; spare width goes to those that can use it, from
    the left.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        # The box draws one blank column itself.
        padding=(0, gap - 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    left = screen - needed(headings, rows, widest_part, gap)
    for position, cells in enumerate(zip(headings, *rows, strict=True)):
        narrow = max(map(widest_part, cells))
        extra = max(0, min(left, max(map(widest_line, cells)) - narrow))
        left -= extra
        table.add_column(
            Text(clean(cells[0])),
            justify="right" if position else "left",
            overflow="fold",
            width=narrow + extra,
        )
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    return table


def needed(
    headings: Row, rows: Sequence[Row], width: Callable[[str], int], gap: int
) -> int:
    """Return a table's width by a measure of its cells."""
    columns = zip(headings, *rows, strict=True)
    return sum(max(map(width, cells)) + gap for cells in columns) - 1


def widest_line(cell: str) -> int:
    """Return a cell's width with unbroken lines."""
    return max((cell_len(line) for line in clean(cell).split("\n")), default=0)


def widest_part(cell: str) -> int:
    """Return the width of a cell's widest word or interval."""
    return max((cell_len(part) for part in PART.findall(clean(cell))), default=1)
