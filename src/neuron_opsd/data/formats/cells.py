"""One row: its values and their meaning, however its columns are spelled."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, Literal, TypeAlias

from neuron_opsd.data.rows import BadRowError, Values, shorten
from neuron_opsd.records import Message

# Squashed column names: without case and punctuation.
IDS: Final = ("id", "questionid", "uniqueid", "qid", "recordid")
QUESTIONS: Final = ("question", "query", "problem", "questiontext", "questionstem")
PROMPTS: Final = ("prompt", "messages")
CHOICES: Final = (
    *("choices", "choice", "options", "option", "answerchoices", "answeroptions"),
    *("candidates", "alternatives"),
)
ANSWERS: Final = (
    *("answer", "answerkey", "correctanswer", "correctoption", "correctchoice"),
    *("correct", "gold", "goldanswer", "goldlabel", "target", "label", "groundtruth"),
    *("finalanswer", "expectedanswer", "answerletter", "correctletter"),
    *("answertext", "answernumber", "answervalue", "numericanswer"),
    *("shortanswer", "exactanswer"),
)
INDICES: Final = ("answerindex", "answeridx", "correctindex", "correctidx", "goldindex")
"""Answers as indices of choices."""
LABELS: Final = ("questionlabel", "answerlabel")
GIVEN: Final = "privilegedcontext"
"""TRL's name for what only the teacher sees with a question."""

GROUP: Final = re.compile(
    r"(|options?|opt|choices?|op|answer)([a-z])|"
    r"(options?|opt|choices?|op)(\d{1,2})"
)
"""A column per choice, as ``A``, ``opa``, ``Option 1``."""

NOT_ANSWERS: Final = (
    *("distractor", "candidate", "wrong", "incorrect", "alternative", "possible"),
)
"""Words that mark a column of choices despite an answer's name."""
LIKE_CHOICES: Final = (*NOT_ANSWERS, "choice", "option", "ending")
LIKE_ANSWERS: Final = (
    *("answer", "correct", "gold", "label", "target", "solution", "truth", "output"),
    *("response", "completion", "chosen", "decision"),
)
MEDIA: Final = frozenset({"image", "figure", "audio", "video", "picture", "diagram"})
NEEDED: Final = frozenset(
    {
        *("passage", "context", "article", "support", "paragraph", "premise", "story"),
        *("document", "background", "hypothesis", "table", "ctx", "input", "hint"),
        *("dialogue", "dialog", "conversation", "history", "scenario"),
        *("vignette", "excerpt", "abstract", "evidence", "snippet", "sentence"),
        *("statement", "description", "narrative", "transcript", "instruction"),
        *("contract", "clause", "statute", "policy", "chart", "graph", "exhibit"),
        *("stem", "preamble", "introduction", "material", "schema", "poem", "review"),
        *("patient", "clinical", "situation"),
        *MEDIA,
    }
)
"""Words in names of columns that a question may depend on."""
NEEDED_ALONE: Final = frozenset(
    {
        *("text", "texts", "body", "code", "case", "content", "facts", "report"),
        *("system", "systemprompt", "systemmessage", "pretext", "posttext"),
    }
)
"""Squashed names of such columns, but not as one word of several."""
ABOUT: Final = frozenset(
    {
        *("id", "ids", "type", "source", "title", "length", "count", "number", "index"),
        *("language", "date", "level", "topic", "category", "name", "tokens"),
    }
)
"""Last words of columns that are no part of a question."""

INDEX_NAMES = re.compile(r"Unnamed: \d+|__index_level_\d+__|level_\d+")
"""pandas' columns of row numbers."""
MAX_NAME = 1000


@dataclass(frozen=True, slots=True)
class Cells:
    """The filled cells of one row."""

    values: Mapping[str, Any]
    """By squashed column name, without missing values."""
    written: Mapping[str, str]
    """Squashed name to the name in the file, of all columns."""
    asked: set[str] = field(default_factory=set)
    """Squashed names of the columns read so far."""

    def get(self, key: str) -> Any:
        """Return a value by squashed column name, `None` if missing."""
        self.asked.add(key)
        return self.values.get(key)

    def fresh(self) -> Cells:
        """Return the same cells, all unread."""
        return Cells(self.values, self.written)

    def unread(self) -> list[str]:
        """Return the filled columns that were never read."""
        return [key for key in self.values if key not in self.asked]

    def has(self, *keys: str) -> bool:
        """Say whether all of these columns exist, filled or not."""
        return all(map(self.written.__contains__, keys))

    def without(self, key: str) -> Cells:
        """Return the same cells without a column."""
        if key not in self.written:
            return self
        return Cells(
            {one: value for one, value in self.values.items() if one != key},
            {one: name for one, name in self.written.items() if one != key},
        )

    def name(self, key: str) -> str:
        """Return a column's name as in the file."""
        return self.written.get(key, key)


@lru_cache(maxsize=2000)
def squash(name: str) -> str:
    """Drop case, blanks and punctuation from a column's name."""
    return "".join(char for char in name.casefold() if char.isalnum())


def cells_of(values: Values) -> Cells:
    """Return the cells of a row."""
    filled: dict[str, Any] = {}
    written: dict[str, str] = {}
    for name, value in values.items():
        if len(name) > MAX_NAME:
            raise BadRowError(
                f"has a column whose name has {len(name):,} characters, "
                f"{shorten(name)}; a name may have {MAX_NAME}"
            )
        if INDEX_NAMES.fullmatch(name):
            continue
        key = squash(name)
        if key in filled and not is_missing(value):
            raise BadRowError(
                f"has the columns {written[key]!r} and {name!r}; keep one of them"
            )
        if key not in filled:
            written[key] = name
        if not is_missing(value):
            filled[key] = value
    return Cells(filled, written)


def is_missing(value: Any) -> bool:
    """Say whether a cell has no value or NaN."""
    if isinstance(value, float | Decimal):
        return math.isnan(value)
    return value is None


def is_blank(value: Any) -> bool:
    """Say whether a cell is missing or only white space."""
    return is_missing(value) or (isinstance(value, str) and not value.strip())


def only_of(cells: Cells, keys: tuple[str, ...], role: str) -> str | None:
    """Return the filled one of some columns, or `None`."""
    filled = [key for key in keys if not is_missing(cells.get(key))]
    if len({repr(cells.get(key)) for key in filled}) > 1:
        names = " and ".join(repr(cells.name(key)) for key in filled)
        raise BadRowError(f"has {names}, which may all be the {role}; keep one of them")
    return filled[0] if filled else None


How: TypeAlias = (
    Literal["auto", "exact", "text", "letter", "index", "index-from-0", "index-from-1"]
    | Literal["truth", "aliases", "final-line", "box"]
)
r"""What an answer is. With choices: `auto` finds out from the whole file, `exact` uses
only the row and counts from 0, `letter` is a choice's key if there are keys, `index`
counts from 0 unless the file shows 1, `truth` is true for the second choice and false
for the first. Without: `aliases` are several right texts, `final-line` follows ``####``
and `box` is in the last ``\boxed{}``."""


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """A gold answer as in its column; unread in a pool."""

    column: str
    value: Any
    how: How = "auto"


@dataclass(frozen=True, slots=True)
class Item:
    """What the columns of one row say."""

    messages: tuple[Message, ...]
    choices: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    """The set's keys for the choices, such as ``A`` or ``1``."""
    answers: tuple[RawAnswer, ...] = ()
    """All columns with an answer; they must agree."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Column names, each with what it was read as."""
    notes: tuple[str, ...] = ()
    """What a user should know about reading the row."""
    id: Any = None
    question_label: str = ""
    answer_label: str = ""


def in_drawn_order(question: str, choices: Sequence[str]) -> tuple[str, ...]:
    """Order choices by their texts alone, not by the gold answer.

    For sets that list the right choice apart or first: sorted by a hash of question and
    choice, the same for every row and reader.
    """

    def drawn(choice: str) -> bytes:
        text = f"{question}\0{choice}"
        return sha256(text.encode("utf-8", "surrogatepass")).digest()

    return tuple(sorted(choices, key=drawn))


def tidy(value: Any) -> Any:
    """Make whole floats integers, and strip texts."""
    if isinstance(value, float | Decimal) and math.isfinite(value):
        return int(value) if value == int(value) else value
    return value.strip() if isinstance(value, str) else value


def whole(value: Any) -> int | None:
    """Return an integer, also from digits; else `None`."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    digits = isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}(\.0)?", value)
    return int(str(value).removesuffix(".0")) if digits else None
