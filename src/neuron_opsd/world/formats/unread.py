"""Columns that nobody reads although they seem to be meant: refused, by name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final

from neuron_opsd.world.formats.cells import Cells, is_blank, show, squash
from neuron_opsd.world.formats.column_names import (
    ABOUT,
    ANSWERS,
    CHOICES,
    LIKE_ANSWERS,
    LIKE_CHOICES,
    MEDIA,
    NEEDED,
    NEEDED_ALONE,
    NOT_ANSWERS,
)
from neuron_opsd.world.formats.parts import structure
from neuron_opsd.world.rows import BadRowError, kind_of

WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
"""One word of a column's name such as `case_description` or `ReadingPassage`."""
LONG: Final = 7
"""Letters from which a word is known at the end of another, as in `readingpassage`."""


def refuse_needed(cells: Cells, unread: Sequence[str]) -> None:
    """Refuse a column that belongs to the question and would not be asked.

    Raises:
        BadRowError: Naming it.
    """
    for key in unread:
        if may_be_asked(cells.name(key), cells.values.get(key)):
            raise BadRowError(
                f"{cells.name(key)!r} may belong to the question, but is not read; put "
                "its text into the question, name the set with --format (as boolq), or "
                "pass it by with --format plain"
            )


def may_be_asked(name: str, value: Any) -> bool:
    """Say whether a column's name and kind are those of a part of a question."""
    if isinstance(value, dict) and "bytes" in value:
        return True
    words = needed_words(name)
    if not words or is_blank(value) or not value:
        return False
    return isinstance(value, str | list | dict) or not words.isdisjoint(MEDIA)


@lru_cache(maxsize=1000)
def needed_words(name: str) -> frozenset[str]:
    """Return the words of a column's name that tell a part of a question."""
    key = squash(name)
    words = [word.casefold() for word in WORD.findall(name)]
    singular = {word.removesuffix("s") for word in words} | set(words)
    ends = {word for word in NEEDED if len(word) >= LONG and key.endswith(word)}
    found = (singular & NEEDED) | ends | ({key} & NEEDED_ALONE)
    about = bool(words) and words[-1] in ABOUT
    return frozenset(found & MEDIA if about else found)


def refuse_choices(cells: Cells, unread: Sequence[str], *, labelled: bool) -> None:
    """Refuse a column that seems to hold choices where none were found.

    Raises:
        BadRowError: Naming it.
    """
    several = numbered_alike(unread)
    for key in unread:
        answer = is_like(key, LIKE_ANSWERS, ANSWERS)
        wrong = any(word in key for word in NOT_ANSWERS) or key in several
        if not labelled and answer and not wrong:
            continue
        if is_list(cells.values.get(key)) and key not in ANSWERS:
            what = "is a list of texts"
        elif key in several or (
            is_like(key, LIKE_CHOICES, CHOICES) and key not in ANSWERS
        ):
            what = f"holds {kind_of(cells.values.get(key))}"
        else:
            continue
        raise BadRowError(
            f"{cells.name(key)!r} {what} and may be choices, but is not read; call it "
            "choices, name the set with --format, or pass it by with --format plain"
        )


def numbered_alike(keys: Sequence[str]) -> set[str]:
    """Return the columns that are called answers or choices and numbered in a row."""
    stems = {key: key.rstrip("0123456789") for key in keys if key[-1:].isdigit()}
    times = Counter(stems.values())
    return {
        key
        for key, stem in stems.items()
        if times[stem] > 1 and any(w in stem for w in ("answer", *LIKE_CHOICES))
    }


def refuse_answers(cells: Cells, unread: Sequence[str]) -> None:
    """Refuse a column that seems to hold the answer where none was found.

    Raises:
        BadRowError: Naming it.
    """
    for key in unread:
        if is_like(key, LIKE_ANSWERS, ANSWERS) and not is_blank(cells.values.get(key)):
            raise BadRowError(
                f"{show(cells, key)} may be the answer, but is not read; call the "
                "column answer, name the set with --format, or pass it by with "
                "--format plain"
            )


def is_like(key: str, parts: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Say whether a column's name holds one of some words, or is nearly a known one."""
    near = get_close_matches(key, names, n=1, cutoff=0.8)
    return bool(near) or any(part in key for part in parts)


def is_list(value: Any) -> bool:
    """Say whether a value is a list of two texts or more."""
    found = structure(value)
    return (
        isinstance(found, list)
        and len(found) > 1
        and all(isinstance(item, str) for item in found)
    )
