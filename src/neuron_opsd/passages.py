"""Where in a completion the final answer stands."""

from __future__ import annotations

import re
from typing import Final

OPEN_REASONING: Final = "<think>"
CLOSE_REASONING: Final = "</think>"

MARKER: Final = re.compile(
    r"\banswer\b[*_\s]{0,9}(?:is\b|[:=])[*_\s:=]{0,9}|^[ \t]*####[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
QUOTES: Final = "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}“”«»"
OUTER: Final = f" .,;:!?\"'`*_()[]{{}}{QUOTES}…"
"""What may stand around an answer without being part of it."""

# Control characters and lone surrogates have no place in an answer, nor in a file.
GAPS: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def final_part(text: str) -> str | None:
    """Cut off a reasoning trace; `None` where it was opened but never closed."""
    final = text.rpartition(CLOSE_REASONING)[2]
    return None if OPEN_REASONING in final else final


def answer_passage(text: str) -> str | None:
    """Return the line after the last `the answer is`, `Answer:` or `####`."""
    last = None
    for match in MARKER.finditer(text):
        last = match
    if last is None:
        return None
    # The rest of one line: splitting a long tail would copy it whole.
    return text[last.end() :].partition("\n")[0].strip() or None


def collapse(text: str) -> str:
    """Turn every run of white space and control characters into one space."""
    return GAPS.sub(" ", text).strip()
