"""One row with its meaning: what is asked, what to choose from, what answers it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from typing import Any, Literal, TypeAlias

from neuron_opsd.records import Message

How: TypeAlias = Literal[
    "auto",
    "exact",
    "text",
    "letter",
    "index",
    "index-from-0",
    "index-from-1",
    "truth",
    "aliases",
    "final-line",
    "box",
]
"""What an answer is. With choices: `auto` finds out from the whole file, `exact` takes
the row alone and counts from 0, `letter` is a choice's own key where the set names its
choices, `index` counts from 0 unless the file shows that it counts from 1, `truth` is
true or false for the second or the first of two choices. Without: `aliases` are several
texts that are all right, `final-line` stands after ``####`` and `box` in the last
``\\boxed{}``."""


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """A gold answer as it stands in its column; not looked at in a pool."""

    column: str
    value: Any
    how: How = "auto"


@dataclass(frozen=True, slots=True)
class Item:
    """What the columns of one row say."""

    messages: tuple[Message, ...]
    choices: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    """What the set itself calls each choice, such as ``A`` or ``1``, if anything."""
    answers: tuple[RawAnswer, ...] = ()
    """All columns that hold the answer; they must agree."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Columns under another name, each with what it was read as."""
    notes: tuple[str, ...] = ()
    """What a user should know of how the row is read."""
    id: Any = None
    question_label: str = ""
    answer_label: str = ""


def in_drawn_order(question: str, choices: Sequence[str]) -> tuple[str, ...]:
    """Return choices in an order that their texts decide, and no gold answer.

    For sets that list the right choice apart or first: sorted by a hash of question
    and choice, so the order is the same wherever the row stands and whoever reads it.
    """

    def drawn(choice: str) -> bytes:
        text = f"{question}\0{choice}"
        return sha256(text.encode("utf-8", "surrogatepass")).digest()

    return tuple(sorted(choices, key=drawn))


def tidy(value: Any) -> Any:
    """Return a value with whole floats as integers and texts without blanks around."""
    if isinstance(value, float | Decimal) and math.isfinite(value):
        return int(value) if value == int(value) else value
    return value.strip() if isinstance(value, str) else value


def whole(value: Any) -> int | None:
    """Return the number that a value is or spells in digits, `None` for others."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    digits = isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}(\.0)?", value)
    return int(str(value).removesuffix(".0")) if digits else None
