"""Reading which of a question's choices a completion gives.

Both readers return the text of the choice as the question has it, so answers compare
by spelling, with each other and with gold answers.
"""

from __future__ import annotations

import functools
import re
import string
from collections.abc import Sequence
from typing import Final

from neuron_opsd.latex import last_boxed
from neuron_opsd.passages import OUTER, answer_passage, collapse, final_part
from neuron_opsd.records import Question

LETTER = r"[*_\s\"'$({\[]{0,9}(?:\\text\s?\{)?([A-Z])(?![\w'])"
ALONE: Final = re.compile(r"[*_\"'(\[]{0,4}([A-Za-z])[*_\"')\].:]{0,4}")
MARKED: Final = re.compile(
    rf"\b(?i:answer)\b[*_\s]{{0,9}}(?:(?i:is)\b|[:=])[*_\s:=]{{0,9}}"
    rf"(?:(?i:option|choice)\s)?{LETTER}|\b(?i:option|choice)\s{LETTER}"
)
LEADING: Final = re.compile(r"[*_\"'(\[]{0,4}([A-Z])[*_\"')\].:]{1,4}(?:\s|$)")
# "A dog" and "I think" are words, not letters of choices.
STANDING: Final = re.compile(
    r"(?<![\w'])(?:([B-HJ-Z])(?![\w'])|([AI])(?![\w'])(?!\s+(?!or\b|and\b)[a-z]))"
)
SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+|\n+")
FIRST_UNSPACED: Final = "\u0e00"
"""From Thai on, scripts are mostly written without spaces between words."""


def read_choice_text(text: str, question: Question) -> str | None:
    r"""Return the choice that a completion gives, `None` where that is not clear.

    In this order: the completion is the choice; the choice in the last
    ``\boxed{...}``; the first one after the last ``answer is``; the only one
    mentioned; the only one of the last sentence. Of choices that contain one
    another the longest counts.
    """
    final = final_part(text)
    if final is None:
        return None
    return (
        equal_choice(final, question.choices)
        or only_choice(last_boxed(final), question.choices)
        or first_choice(answer_passage(final), question.choices)
        or only_choice(final, question.choices)
        or only_choice(last_sentence(final), question.choices)
    )


def read_choice_letter(text: str, question: Question) -> str | None:
    r"""Return the choice whose letter a completion gives, `None` where none is clear.

    In this order: the completion is a letter; the letter in the last
    ``\boxed{...}``; the last one after ``answer is``, ``option`` or ``choice``; one
    that leads, as in ``B) Paris``; the completion is the text of a choice; the only
    letter mentioned; the choice whose text is given.
    """
    final = final_part(text)
    if final is None:
        return None
    choices = question.choices
    return (
        lettered(whole_letter(final), choices)
        or lettered(whole_letter(last_boxed(final) or ""), choices)
        or lettered(marked_letter(final), choices)
        or lettered(leading_letter(final), choices)
        or equal_choice(final, choices)
        or lettered(only_letter(final), choices)
        or read_choice_text(final, question)
    )


def lettered(letter: str | None, choices: Sequence[str]) -> str | None:
    """Return the choice with a letter, `None` where there are not so many."""
    if letter is None:
        return None
    index = string.ascii_uppercase.index(letter.upper())
    return choices[index] if index < len(choices) else None


def whole_letter(text: str) -> str | None:
    """Return the letter that a short text is, brackets and points aside."""
    text = text.strip().removeprefix("\\text{").removesuffix("}")
    match = ALONE.fullmatch(text)
    return None if match is None else match[1]


def marked_letter(text: str) -> str | None:
    """Return the last letter that is announced as the answer."""
    last = None
    for match in MARKED.finditer(text):
        last = match[1] or match[2]
    return last


def leading_letter(text: str) -> str | None:
    """Return the letter that a text begins with, as in a list."""
    match = LEADING.match(text.lstrip())
    return None if match is None else match[1]


def only_letter(text: str) -> str | None:
    """Return the letter that stands alone somewhere, if it is the only one."""
    letters = {match[1] or match[2] for match in STANDING.finditer(text)}
    return letters.pop() if len(letters) == 1 else None


def equal_choice(text: str, choices: Sequence[str]) -> str | None:
    """Return the choice that a text is, apart from case and outer punctuation."""
    text = text.strip()
    if text in choices:
        return text
    wanted = key(text)
    equal = [choice for choice in choices if key(choice) == wanted]
    return equal[0] if len(equal) == 1 else None


def key(text: str) -> str:
    """Return what two spellings of one choice have in common."""
    text = collapse(text).casefold()
    return text.strip(OUTER) or text


def first_choice(text: str | None, choices: Sequence[str]) -> str | None:
    """Return the choice that a passage mentions first."""
    found = mentions(text or "", choices)
    return found[0] if found else None


def only_choice(text: str | None, choices: Sequence[str]) -> str | None:
    """Return the one choice that a passage mentions, however often."""
    found = set(mentions(text or "", choices))
    return found.pop() if len(found) == 1 else None


def last_sentence(text: str) -> str:
    """Return the last sentence, or line, of a text."""
    return SENTENCE_END.split(text.strip())[-1]


def mentions(text: str, choices: Sequence[str]) -> list[str]:
    """Return the choices that stand in a text as whole words, in order."""
    pattern, choice_of = mention_pattern(tuple(choices))
    text = collapse(text).casefold()
    return [choice_of[match.group()] for match in pattern.finditer(text)]


@functools.lru_cache(maxsize=1024)
def mention_pattern(choices: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """Return what finds the choices in collapsed lower case, and what it found.

    Choices that differ in nothing but case cannot be told apart and are not found.
    """
    keys = [key(choice) for choice in choices]
    choice_of = {
        one: choice
        for one, choice in zip(keys, choices, strict=True)
        if one and keys.count(one) == 1
    }
    # Of alternatives that match at one place, a regular expression takes the first.
    longest_first = sorted(choice_of, key=len, reverse=True)
    words = "|".join(bounded(one) for one in longest_first)
    return re.compile(words or r"(?!)"), choice_of


def bounded(word: str) -> str:
    """Return a pattern for a word that is no part of a longer one."""
    before = r"(?<![^\W_])" if has_boundary(word[0]) else ""
    after = r"(?![^\W_])" if has_boundary(word[-1]) else ""
    return f"{before}{re.escape(word)}{after}"


def has_boundary(char: str) -> bool:
    """Say whether a word that begins or ends like this is set off by spaces."""
    return char.isalnum() and char < FIRST_UNSPACED
