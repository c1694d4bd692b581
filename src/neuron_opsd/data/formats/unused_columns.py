"""Refuse columns, by name, that look meant but would not be read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, Final

from neuron_opsd.data.formats.cells import (
    ABOUT,
    ANSWERS,
    CHOICES,
    GROUP,
    INDICES,
    LIKE_ANSWERS,
    LIKE_CHOICES,
    MEDIA,
    NEEDED,
    NEEDED_ALONE,
    NOT_ANSWERS,
    PROMPTS,
    QUESTIONS,
    Cells,
    is_blank,
    squash,
)
from neuron_opsd.data.formats.columns import grouped
from neuron_opsd.data.formats.fields import structure
from neuron_opsd.data.rows import BadRowError, kind_of, shorten
from neuron_opsd.records import Message

WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
"""One word of a name such as `case_description` or `ReadingPassage`."""
PICTURE: Final = re.compile(
    r"<\|?image(?:[_ ]?(?:\d{1,9}|pad))?\|?>"
    r"|!\[[^\]]{0,500}\]\((?:[^)\s]{1,500}\)|data:)",
    re.IGNORECASE,
)
"""A picture's placeholder in data sets and Markdown. Bounded lengths keep the search
fast."""
LONG: Final = 7
"""Shortest word found at another's end, as in `readingpassage`."""


def refuse_needed(cells: Cells, unread: Sequence[str]) -> None:
    """Refuse a column that belongs to the question but would not be asked."""
    for key in unread:
        if may_be_asked(cells.name(key), cells.values.get(key)):
            raise BadRowError(
                f"{cells.name(key)!r} may belong to the question, but is not read; put "
                "its text into the question, name the set with --format (as boolq), or "
                "ignore it with --format plain"
            )


def refuse_picture(messages: Sequence[Message]) -> None:
    """Refuse a question with a picture's placeholder."""
    for message in messages:
        if found := PICTURE.search(message.content):
            raise BadRowError(
                f"its question holds {found[0]!r}, the place of a picture that the "
                "model would not see; leave out such rows"
            )


def may_be_asked(name: str, value: Any) -> bool:
    """Say whether a column looks like part of a question."""
    if isinstance(value, dict) and "bytes" in value:
        return True
    words = needed_words(name)
    if not words or is_blank(value) or not value:
        return False
    return isinstance(value, str | list | dict) or not words.isdisjoint(MEDIA)


@lru_cache(maxsize=1000)
def needed_words(name: str) -> frozenset[str]:
    """Return the words of a name that suggest part of a question."""
    key = squash(name)
    words = [word.casefold() for word in WORD.findall(name)]
    singular = {word.removesuffix("s") for word in words} | set(words)
    ends = {word for word in NEEDED if len(word) >= LONG and key.endswith(word)}
    found = (singular & NEEDED) | ends | ({key} & NEEDED_ALONE)
    about = bool(words) and words[-1] in ABOUT
    return frozenset(found & MEDIA if about else found)


def refuse_choices(cells: Cells, unread: Sequence[str], *, labelled: bool) -> None:
    """Refuse a column that seems to hold choices if none were found."""
    several = in_a_row(unread)
    if not KEYS_OF_ANSWERS.isdisjoint(cells.written):
        several.add("answers")
    for key in unread:
        value = cells.values.get(key)
        sure = key in several or any(word in key for word in NOT_ANSWERS)
        answer = is_like(key, LIKE_ANSWERS, ANSWERS)
        if is_blank(value) or (answer and not (labelled or sure)):
            continue
        listed = is_list(value)
        like = listed or is_like(key, LIKE_CHOICES, CHOICES)
        if not sure and (key in ANSWERS or not like):
            continue
        what = "is a list of texts" if listed else f"holds {kind_of(value)}"
        call = "choices, or answer," if answer else "choices,"
        raise BadRowError(
            f"{cells.name(key)!r} {what} and may be choices, but is not read; call it "
            f"{call} name the set with --format, or ignore it with --format plain"
        )


KEYS_OF_ANSWERS: Final = {*ANSWERS, *INDICES} - {"answer"}
"""Columns next to which `answers` are choices, not gold answers."""


def in_a_row(keys: Sequence[str]) -> set[str]:
    """Return columns named like choices that differ in their last character.

    Numbers need a word before them, as in `answer1`; A, B and C together do not.
    """
    groups: dict[str, set[str]] = {}
    for key in keys:
        stem = key.rstrip("0123456789")
        groups.setdefault(stem if stem != key else f"{key[:-1]} ", set()).add(key)
    return {
        key
        for stem, group in groups.items()
        if (stem.endswith(" ") and {f"{stem[:-1]}{last}" for last in "abc"} <= group)
        or (len(group) > 1 and (stem in BRIEF or any(w in stem for w in ROW_WORDS)))
        for key in group
    }


BRIEF: Final = ("a", "c", "o", "ans", "sol")
ROW_WORDS: Final = ("answer", *LIKE_CHOICES)


def refuse_answers(cells: Cells, unread: Sequence[str]) -> None:
    """Refuse a column that seems to hold the answer if none was found."""
    for key in unread:
        value = cells.values.get(key)
        if is_like(key, LIKE_ANSWERS, ANSWERS) and not is_blank(value):
            raise BadRowError(
                f"{cells.name(key)} {shorten(value)} may be the answer, but is not "
                "read; call the column answer, name the set with --format, or ignore "
                "it with --format plain"
            )


def is_like(key: str, parts: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Say whether a name contains a word, or nearly is a known one."""
    near = get_close_matches(key, names, n=1, cutoff=0.8)
    return bool(near) or any(part in key for part in parts)


def is_list(value: Any) -> bool:
    """Say whether a value is a list of two or more texts."""
    found = structure(value)
    several = isinstance(found, list) and len(found) > 1
    return several and all(isinstance(item, str) for item in found)


def refuse_asked(cells: Cells, unread: Sequence[str], title: str) -> None:
    """Refuse a second question or choices besides the set's own."""
    stems = {stem_of(key) for key in cells.asked if key in cells.written} - {""}
    group = grouped(cells) if stems.isdisjoint(map(stem_of, cells.written)) else []
    for key in unread:
        if is_blank(cells.values.get(key)):
            continue
        if key in (*QUESTIONS, *PROMPTS):
            what = "may be the question"
        elif key in CHOICES:
            what = "may hold the choices"
        elif key in group or stem_of(key) in stems:
            what = "may be one choice more"
        else:
            continue
        raise BadRowError(
            f"{cells.name(key)!r} {what}, but is not a column of {title}, which this "
            "row looks like; remove it, or call the columns question, choices and "
            "answer and use --format plain"
        )


def stem_of(key: str) -> str:
    """Return the common part of choices' names: `option` of `option3`."""
    match = GROUP.fullmatch(key)
    if match is not None:
        return match[1] or match[3] or ""
    return re.sub(r"\d+$", "", key) if key[-1:].isdigit() else ""
