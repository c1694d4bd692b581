"""Where a model's reasoning ends and its final answer begins.

Reasoning stands between two marks. Many chat templates end the prompt with the first,
so a completion may contain only the second, or neither if truncated. A completion with
open reasoning has no answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple


class Marks(NamedTuple):
    """The marks before and after a block of reasoning."""

    start: str
    end: str


KNOWN: Final = (
    Marks("<think>", "</think>"),
    Marks("<thinking>", "</thinking>"),
    Marks("<thought>", "</thought>"),
    Marks("<reasoning>", "</reasoning>"),
    Marks("<seed:think>", "</seed:think>"),
    Marks("[THINK]", "[/THINK]"),
    Marks("◁think▷", "◁/think▷"),
    Marks("<|begin_of_thought|>", "<|end_of_thought|>"),
    Marks("<|START_THINKING|>", "<|END_THINKING|>"),
    Marks("<|inner_prefix|>", "<|inner_suffix|>"),
    Marks("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    Marks("<|channel|>commentary<|message|>", "<|channel|>final<|message|>"),
    Marks("<|channel>thought", "<channel|>"),
    Marks("<unused94>thought", "<unused95>"),
)
"""Known families: Qwen, DeepSeek and most others, Claude distillations, EXAONE Deep,
SciKnowEval's prompts, Seed-OSS, Magistral, Kimi-VL, OpenThinker, Command A, Apertus,
gpt-oss (two channels), Gemma 4, MedGemma."""


def final_start(
    text: str, *, opened: bool = False, marks: Sequence[Marks] = KNOWN
) -> int | None:
    """Return where the final answer begins in a completion, marks included.

    A block opened in the completion needs the end mark of its pair; one `opened` by the
    prompt takes any.

    Returns:
        The index in `text`: 0 without reasoning, `None` if a block is still open.
    """
    ends = {pair.end for pair in marks}
    ends_of: dict[str, set[str]] = {}
    for pair in marks:
        ends_of.setdefault(pair.start, set()).add(pair.end)
    closing = set(ends) if opened else set()
    start = 0
    for match in pattern_of(tuple(marks)).finditer(text):
        found = match.group()
        if found in (closing or ends):
            closing, start = set(), match.end()
        elif not closing:
            closing = ends_of[found]
    return None if closing else start


def final_part(
    text: str, *, opened: bool = False, marks: Sequence[Marks] = KNOWN
) -> str | None:
    """Return the text after the last reasoning, `None` if one is open."""
    start = final_start(text, opened=opened, marks=marks)
    return None if start is None else text[start:].strip()


def ends_inside(text: str, marks: Sequence[Marks] = KNOWN) -> bool:
    """Whether a prompt ends with the mark that opens reasoning."""
    text = text.rstrip()
    return any(text.endswith(pair.start) for pair in marks)


def without_marks(text: str, marks: Sequence[Marks] = KNOWN) -> str:
    """Put reasoning on separate lines without marks.

    Chat templates cut marked reasoning from earlier turns, but keep plain text.
    """
    starts = {pair.start for pair in marks}
    plain = pattern_of(tuple(marks)).sub(
        lambda match: "" if match.group() in starts else "\n", text
    )
    return plain.strip()


def all_marks(start: str, end: str) -> tuple[Marks, ...]:
    """Return the known pairs, plus one if a start and an end are given."""
    return (*KNOWN, Marks(start, end)) if start and end else KNOWN


def marks_in(text: str) -> tuple[Marks, ...]:
    """Return the known pairs whose marks a chat template both names."""
    return tuple(pair for pair in KNOWN if pair.start in text and pair.end in text)


@lru_cache(maxsize=64)
def pattern_of(marks: tuple[Marks, ...]) -> re.Pattern[str]:
    """Return a pattern for all marks; the longer of two at one place wins."""
    names = sorted({mark for pair in marks for mark in pair}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)))
