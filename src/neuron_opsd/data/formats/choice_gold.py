"""Decide over the whole file which choices its gold answers are.

`1` may be the first choice or the second, and `A` a blood group or a letter. If the
other rows do not tell, the row is refused.
"""

from __future__ import annotations

import html
import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from neuron_opsd.data.formats.cells import Item, RawAnswer, tidy, whole
from neuron_opsd.data.rows import BadRowError, shorten

KEYED: Final = re.compile(
    r"(?:(?:options?|opt|op|choices?|answer)[\s_:]*)?"
    r"[(\[]?([A-Z]|\d{1,2})[)\].:]{0,2}",
    re.IGNORECASE,
)
"""A letter or number, bare, bracketed, or like a column of choices."""
WITH_TEXT: Final = re.compile(
    r"[(\[\uff08]?([A-Za-z]|\d{1,2})[)\].:\uff09\uff0e\uff1a\u3001]{1,2}\s*(\S.*)",
    re.DOTALL,
)
"""As in ``B. Salt melts``."""
QUOTES: Final = {
    **dict.fromkeys((0x2018, 0x2019, 0x201B, 0xB4), "'"),
    **dict.fromkeys((0x201C, 0x201D, 0x201E), '"'),
}
"""To plain quotes, by code point."""
UNLABELLED: Final = -1
"""The hub's value for withheld answers."""
WORDS: Final = {"true": 1, "yes": 1, "1": 1, "false": 0, "no": 0, "0": 0}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a file's answers show; a flag means that some can only be of that kind."""

    base: int | None = None
    """First index; `None` if unknown."""
    letters: bool = False
    indices: bool = False
    texts: bool = False
    numbers: bool = False
    """Whether an answer in digits can only be a text."""


def evidence_of(items: Iterable[Item]) -> Evidence:
    """Return what a file's answers show."""
    letters = texts = numbers = zero = last = indices = False
    for item in items:
        for answer in item.answers:
            if not item.choices or answer.how not in ("auto", "index"):
                continue
            value = value_of(answer)
            text = equal_choice(value, item.choices) if answer.how == "auto" else None
            number = whole(value)
            letter = lettered(value, item)
            texts |= text is not None and letter is None and number is None
            letters |= letter is not None and text is None and number is None
            if number is not None and text is not None:
                numbers |= not 0 <= number <= len(item.choices)
            if number is not None and text is None:
                indices = True
                zero |= number == 0
                last |= number == len(item.choices)
    base = 0 if zero else 1 if last else None
    return Evidence(base, letters, indices, texts, numbers)


def value_of(answer: RawAnswer) -> Any:
    """Return an answer's value, or a list's only item, as in AGIEval."""
    value = answer.value
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return tidy(value)


def fold(text: str) -> str:
    """Normalise spellings of a text."""
    plain = unicodedata.normalize("NFC", html.unescape(text)).translate(QUOTES)
    return " ".join(plain.split()).casefold()


def equal_choice(value: Any, choices: Sequence[str]) -> int | None:
    """Return the choice with this text, ignoring case if unambiguous."""
    text = str(value)
    if text in choices:
        return choices.index(text)
    same = [n for n, choice in enumerate(choices) if fold(choice) == fold(text)]
    return same[0] if len(same) == 1 else None


def lettered(value: Any, item: Item) -> int | None:
    """Return the choice with this key or letter, alone or with its text."""
    if not isinstance(value, str):
        return None
    if match := KEYED.fullmatch(value):
        return place_of_key(match[1], item)
    place, match = place_of_key(value, item), WITH_TEXT.fullmatch(value)
    if place is not None or match is None:
        return place
    place = place_of_key(match[1], item)
    right = place is not None and fold(match[2]) == fold(item.choices[place])
    return place if right else None


def place_of_key(key: str, item: Item) -> int | None:
    """Return the index of a key, or of a letter if choices are numbered or bare."""
    letters = tuple(string.ascii_uppercase[: len(item.choices)])
    folded = [one.casefold() for one in item.keys or letters]
    if key.isalpha() and all(one.isdigit() for one in folded):
        folded = [letter.casefold() for letter in letters]
    return folded.index(key.casefold()) if key.casefold() in folded else None


PlaceOf: TypeAlias = Callable[[Any, RawAnswer, Item, Evidence], int | None]
"""Returns the index of the choice that a tidied answer means."""


def choice_of(answer: RawAnswer, item: Item, evidence: Evidence) -> int | None:
    """Return which choice an answer is, `None` if the row has none."""
    value = value_of(answer)
    counts = answer.how == "truth" or answer.how.startswith("index")
    if counts and whole(value) == UNLABELLED:
        return None
    if whole(value) is not None:
        refuse_unordered(answer, item)
    place = PLACES.get(answer.how, place_by_file)(value, answer, item, evidence)
    if place is None or not 0 <= place < len(item.choices):
        raise BadRowError(no_choice(answer, item, evidence))
    return place


def refuse_unordered(answer: RawAnswer, item: Item) -> None:
    """Refuse a number if the choices' letters are in another order."""
    letters = [key for key in item.keys if key.isalpha()]
    if letters != sorted(letters):
        raise BadRowError(
            f"{answer.column} {shorten(answer.value)} is a number, but the choices "
            f"have the letters {', '.join(letters)} in this order; give the letter"
        )


def place_by_key(value: Any, _: RawAnswer, item: Item, __: Evidence) -> int | None:
    """Return the index of a key, or of a text that is no key."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    key = str(value) if is_number else value
    place = lettered(key, item)
    return equal_choice(key, item.choices) if place is None else place


def place_by_index(
    value: Any, answer: RawAnswer, item: Item, evidence: Evidence
) -> int | None:
    """Return the index that a number means in the set or file."""
    number = whole(value)
    if number is None:
        return place_by_key(value, answer, item, evidence)
    base = {"index-from-0": 0, "index-from-1": 1}.get(answer.how, evidence.base or 0)
    return number - base


def place_by_row(value: Any, _: RawAnswer, item: Item, __: Evidence) -> int | None:
    """Return the index that a row alone gives: numbers count from 0."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = equal_choice(value, item.choices)
    letter = lettered(value, item) if text is None else text
    return whole(value) if letter is None else letter


def place_by_file(
    value: Any, answer: RawAnswer, item: Item, evidence: Evidence
) -> int | None:
    """Return the index that an answer means, given the other rows."""
    if isinstance(value, bool):  # the only choice that says yes, or no
        said = [WORDS.get(fold(choice)) == value for choice in item.choices]
        return said.index(True) if said.count(True) == 1 else None
    text, letter = equal_choice(value, item.choices), lettered(value, item)
    number = whole(value)
    if number is not None and item.keys and item.keys[0].isdigit():
        return numbered_key(number, text, answer, item, evidence)
    if number is not None:
        return numbered(number, text, answer, evidence)
    if text is None or letter is None or text == letter:
        return letter if text is None else text
    if not evidence.letters and (evidence.texts or not item.keys):
        return text
    if item.keys and evidence.letters and not evidence.texts:
        return letter
    raise BadRowError(
        f"{answer.column} {shorten(answer.value)} is both a choice's text and the "
        f"letter of {shorten(item.choices[letter])}, and other rows do not show which "
        "is meant; set questions.answers=letter or text"
    )


def numbered_key(
    number: int, text: int | None, answer: RawAnswer, item: Item, evidence: Evidence
) -> int | None:
    """Return the index that a number means among numbered columns."""
    key = place_of_key(str(number), item)
    if evidence.base == 0 and item.keys[0] != "0":
        key = number
    sure = isinstance(answer.value, str) or evidence.base is not None
    if (sure or item.keys[0] == "0") and text in (None, key):
        return key
    raise BadRowError(
        f"{answer.column} {shorten(answer.value)} may be the number of a column, an "
        "index from 0 or a choice's text, and other rows do not show which; set "
        "questions.answers=index-from-1, index-from-0 or text"
    )


def numbered(
    number: int, text: int | None, answer: RawAnswer, evidence: Evidence
) -> int | None:
    """Return the index that a number means, as a choice's text or index."""
    is_text = isinstance(answer.value, str)
    if text is not None and not evidence.indices and (is_text or evidence.numbers):
        return text
    index = number - (evidence.base or 0)
    if text is not None and text != index and (is_text or not evidence.indices):
        raise BadRowError(
            f"{answer.column} {shorten(answer.value)} is both a choice's text and an "
            "index; write letters, or questions.answers=text or index-from-0"
        )
    if is_text and evidence.base is None:
        raise BadRowError(
            f"{answer.column} {shorten(answer.value)} may count from 0 or from 1: no "
            "answer of the file is 0 or as high as its number of choices; write "
            "letters or texts, or set questions.answers=index-from-0 or index-from-1"
        )
    return index


PLACES: Final[Mapping[str, PlaceOf]] = {
    "text": lambda value, _, item, __: equal_choice(value, item.choices),
    "letter": place_by_key,
    "index": place_by_index,
    "index-from-0": place_by_index,
    "index-from-1": place_by_index,
    # The second choice for true, the first for false.
    "truth": lambda value, *_: WORDS.get(str(value).casefold()),
    "exact": place_by_row,
}
"""By kind of answer."""


def no_choice(answer: RawAnswer, item: Item, evidence: Evidence) -> str:
    """Say that an answer is not a choice, and what would be."""
    if isinstance(answer.value, list) and len(answer.value) > 1:
        return (
            f"{answer.column} {shorten(answer.value)} names several choices, but only "
            "one can be right; leave out such rows"
        )
    base = evidence.base or 0
    last = len(item.choices) - 1 + base
    keys = item.keys or tuple(string.ascii_uppercase[: len(item.choices)])
    places = f"its number from {base} to {last} or its letter from"
    if keys[0].isdigit():
        places = "its number from"
    return (
        f"{answer.column} {shorten(answer.value)} is not a choice; give a choice's "
        f"text, {places} {keys[0]} to {keys[-1]}"
    )
