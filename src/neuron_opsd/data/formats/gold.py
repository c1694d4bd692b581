"""Read a row's gold answer; nothing here is called for a pool."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from neuron_opsd.answers.spans import last_boxed
from neuron_opsd.data.formats.cells import Item, RawAnswer, is_blank, squash, tidy
from neuron_opsd.data.formats.choice_gold import Evidence, choice_of
from neuron_opsd.data.formats.fields import NOTHING, checked_text, structure
from neuron_opsd.data.rows import BadRowError, shorten

FINAL_MARK: Final = "####"


def gold_texts(item: Item, evidence: Evidence) -> tuple[str, ...]:
    """Return the texts that answer a row, the main one first.

    With choices that is one choice's text; without an answer, nothing. Columns must
    agree.
    """
    found: list[tuple[RawAnswer, tuple[str, ...]]] = []
    for answer in item.answers:
        if item.choices:
            place = choice_of(answer, item, evidence)
            if place is not None:
                found.append((answer, (item.choices[place],)))
        else:
            found.append((answer, free_texts(answer)))
    if len({texts for _, texts in found}) > 1:
        (one, first), (other, second) = found[0], found[-1]
        raise BadRowError(
            f"{one.column} {shorten(one.value)} and {other.column} "
            f"{shorten(other.value)} are not the same answer ({shorten(first[0])} and "
            f"{shorten(second[0])}); leave out the wrong one"
        )
    return found[0][1] if found else ()


def free_texts(answer: RawAnswer) -> tuple[str, ...]:
    """Return the texts of an answer that is no choice, the main one first."""
    value = answer.value
    if answer.how == "auto" and isinstance(value, str):
        listed = structure(value)
        is_texts = isinstance(listed, list) and all(isinstance(t, str) for t in listed)
        value = listed if is_texts and listed else value
    if isinstance(value, Mapping):  # as TriviaQA has it
        if is_blank(value.get("value")):
            raise BadRowError(f"{answer.column} is an object without a value")
        value = [value["value"], *(value.get("aliases") or [])]
    if isinstance(value, list):
        texts = [one_text(part, answer) for part in value]
        if not texts:
            raise BadRowError(f"{answer.column} is an empty list")
        return tuple(dict.fromkeys(texts))
    return (one_text(value, answer),)


def one_text(value: Any, answer: RawAnswer) -> str:
    """Return one free answer as text; whole numbers lose their point."""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        value = tidy(value)
        if not isinstance(value, int) and not math.isfinite(value):
            raise BadRowError(f"{answer.column} {value} is not a finite number")
        if squash(answer.column) in CLASSES:
            raise BadRowError(
                f"{answer.column} {value} is the number of a class without a name, and "
                "there are no choices; write its name, and the names of all classes as "
                "choices"
            )
        value = str(value)
    if isinstance(value, bool):
        raise BadRowError(
            f"{answer.column} must be text, not true or false; give the choices no and "
            "yes, or name the set with --format (boolq)"
        )
    text = checked_text(value, answer.column).strip()
    if text in (*NOTHING, *UNKNOWN):
        raise BadRowError(
            f"{answer.column} is {text!r}, which stands for a missing value; leave "
            "the field empty"
        )
    if answer.how not in FORMS:
        return text
    found, form = FORMS[answer.how]
    final = found(text)
    if not final:
        raise BadRowError(
            f"{answer.column} {shorten(text)} has no {form}, which other rows have"
        )
    return final.strip()


def after_mark(text: str) -> str | None:
    """Return what follows the last ``####``."""
    lines = [line.strip() for line in text.split("\n")]
    finals = [line for line in lines if line.startswith(FINAL_MARK)]
    return finals[-1].removeprefix(FINAL_MARK).strip() if finals else None


UNKNOWN: Final = ("notfound",)
"""NuminaMath's mark for no answer."""
CLASSES: Final = ("label", "target")
FORMS: Final = {
    "final-line": (after_mark, "line with ####"),
    "box": (last_boxed, r"\boxed{}"),
}
