"""Find the choices of a row, in one column or in several."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias

from neuron_opsd.data.formats.cells import (
    ANSWERS,
    CHOICES,
    GROUP,
    INDICES,
    Cells,
    How,
    RawAnswer,
    is_blank,
    only_of,
    squash,
)
from neuron_opsd.data.formats.fields import parse_choices, structure
from neuron_opsd.data.rows import BadRowError, repeated

Texts: TypeAlias = tuple[str, ...]

PAIRS = (("label", "text"), ("key", "value"), ("key", "text"), ("id", "text"))
"""Key and text in an object of one choice."""


def read_choices(cells: Cells) -> tuple[Texts, Texts, Texts]:
    """Return the choices, their keys and their columns."""
    listed = only_of(cells, CHOICES, "choices")
    group = grouped(cells)
    if listed is not None and group:
        raise BadRowError(
            f"has both {cells.name(listed)!r} and {cells.name(group[0])!r}, which may "
            "all be choices; keep one kind"
        )
    if listed is not None:
        choices, keys = listed_choices(cells, listed)
        return choices, keys, (listed,)
    if not group:
        return (), (), ()
    texts = [cells.get(key) for key in group]
    texts = [None if is_blank(text) else text for text in texts]
    choices = parse_choices(texts, span(cells, group))
    keys = tuple(group_key(key) for key in group[: len(choices)])
    return choices, keys, tuple(group)


def listed_choices(cells: Cells, key: str) -> tuple[Texts, Texts]:
    """Return the choices of one column, and any keys."""
    name, value = cells.name(key), structure(cells.get(key))
    if isinstance(value, dict):
        return keyed_choices(value, name)
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        return keyed_choices(merged(value, name), name)
    return parse_choices(value, name), ()


def merged(choices: Sequence[dict[Any, Any]], name: str) -> dict[Any, Any]:
    """Merge ``[{"A": "yes"}, ...]`` or ``[{label, text}, ...]``."""
    for key, text in PAIRS:
        if all({key, text} == choice.keys() for choice in choices):
            return {
                "text": [choice[text] for choice in choices],
                "label": [choice[key] for choice in choices],
            }
    if all(len(choice) == 1 for choice in choices):
        return {key: text for choice in choices for key, text in choice.items()}
    raise BadRowError(
        f"{name} must be a list of texts, or of objects with label and text, not with "
        f"{', '.join(map(str, choices[0]))}"
    )


def keyed_choices(value: dict[Any, Any], name: str) -> tuple[Texts, Texts]:
    """Return choices given with keys: ``{"A": "yes"}``, ``{text, label}``."""
    if set(value) == {"text", "label"}:
        texts, keys = value["text"], value["label"]
        if not isinstance(keys, list) or not isinstance(texts, list):
            raise BadRowError(f"{name} must hold lists of text and label")
        if len(keys) != len(texts):
            raise BadRowError(f"{name} has {len(texts)} texts, but {len(keys)} labels")
    else:
        filled = {key: text for key, text in value.items() if text is not None}
        keys, texts = list(filled), list(filled.values())
    wrong = [key for key in keys if not isinstance(key, str) or len(key.strip()) > 2]
    if wrong:
        raise BadRowError(
            f"{name} must be a list of texts, or an object from letters to texts, but "
            f"has {wrong[0]!r}"
        )
    keys = [key.strip() for key in keys]
    folded = [key.casefold() for key in keys]
    if (twice := repeated(folded)) is not None:
        key = keys[folded.index(twice)]
        raise BadRowError(f"{name} has two choices with the key {key!r}")
    return parse_choices(texts, name), tuple(keys)


def grouped(cells: Cells) -> list[str]:
    """Return the columns of one choice each, in order."""
    groups: dict[str, list[str]] = {}
    for key in cells.written:
        match = GROUP.fullmatch(key)
        if match is not None:
            stem = match[1] if match[2] else f"{match[3]}0"
            groups.setdefault(stem, []).append(key)
    whole = [
        sorted(keys, key=group_place)
        for stem, keys in groups.items()
        # Single letters such as x and y may be anything; A and B are choices.
        if len(keys) > 1 and (stem or "a" in keys)
    ]
    if len(whole) > 1:
        names = " and ".join(cells.name(keys[0]) for keys in whole)
        raise BadRowError(f"has two sets of columns with choices, from {names}")
    if not whole:
        return []
    (keys,) = whole
    places = [group_place(key) for key in keys]
    if places[0] > 1 or places != list(range(places[0], places[0] + len(keys))):
        names = ", ".join(cells.name(key) for key in keys)
        raise BadRowError(
            f"has the columns {names}, which may be choices, but one is missing"
        )
    return keys


def span(cells: Cells, keys: Sequence[str]) -> str:
    """Name the first and last of some columns."""
    return f"{cells.name(keys[0])!r} to {cells.name(keys[-1])!r}"


def group_key(key: str) -> str:
    """Return the letter or number that ends a column's name."""
    digits = re.search(r"\d+$", key)
    return digits[0] if digits else key[-1].upper()


def group_place(key: str) -> int:
    """Return a column's rank in its group: ``A`` and ``1`` are first."""
    last = group_key(key)
    return int(last) if last.isdigit() else ord(last) - ord("A") + 1


PARTS: Final = (*ANSWERS, *INDICES, "letter", "key", "text", "index", "idx")
"""Possible keys of an answer such as ``{"answerKey": "B"}``."""
PLACES: Final = (*INDICES, "index", "idx")


def read_answers(
    cells: Cells, passed: Collection[str], *, chosen: bool
) -> tuple[RawAnswer, ...]:
    """Return every filled column that may hold the answer."""
    names = [*ANSWERS, *INDICES] if chosen else ANSWERS
    return tuple(
        answer
        for key in names
        if key not in passed and not is_blank(cells.get(key))
        for answer in spread(cells, key)
    )


def spread(cells: Cells, key: str) -> tuple[RawAnswer, ...]:
    """Return a column's answers; each part of an object is one."""
    name, value = cells.name(key), cells.get(key)
    parts = structure(value)
    if isinstance(parts, Mapping) and all(squash(part) in PARTS for part in parts):
        return tuple(
            RawAnswer(f"{name}.{part}", found, how_of(squash(part), found))
            for part, found in parts.items()
            if not is_blank(found)
        )
    return (RawAnswer(name, value, how_of(key, value)),)


def how_of(key: str, value: object) -> How:
    """Return whether a column holds indices, or anything."""
    is_letter = isinstance(value, str) and value.strip().isalpha()
    return "index" if key in PLACES and not is_letter else "auto"
