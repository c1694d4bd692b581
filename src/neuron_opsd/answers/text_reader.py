"""Reading short texts, and comparing them."""

from __future__ import annotations

import re
from typing import Final

from neuron_opsd.answers import latex
from neuron_opsd.answers.choice_texts import unwrapped
from neuron_opsd.answers.numbers import same_number
from neuron_opsd.answers.spans import (
    OUTER,
    Reading,
    announcements,
    hashed,
    last_boxed,
    own_part,
    plain,
)
from neuron_opsd.records import Question

MAX_TEXT_LENGTH: Final = 1000
"""Longest line that still counts as a short answer."""
LEAD_IN: Final = re.compile(
    r"^(?:so,? |therefore,? |thus,? )?(?:the )?(?:final |correct )?answer(?: is\b|:)"
)
ARTICLE: Final = re.compile(r"^(?:the|an?) (?=\S)")
END_OF_SENTENCE: Final = re.compile(
    r"(?:(?<=[^\W\d_]{4})|(?<=[0-9)%\"']))[.!?]\s+(?=[A-Z])"
)


def read_text(text: str, question: Question, *, cut: bool) -> Reading:
    r"""Read a short text, without lead-in, article and punctuation, in lower case.

    In this order: the last ``\boxed{...}``, the last announcement, the first line. A
    line without a letter or digit, or longer than `MAX_TEXT_LENGTH`, is no answer; one
    that was cut is read as it stands.
    """
    del question, cut
    text = own_part(text, bool)
    if (boxed := last_boxed(text)) is not None:
        return short(boxed, "boxed")
    for announced in announcements(text)[:1]:
        span = END_OF_SENTENCE.split(announced.after or announced.span)[0]
        return short(span, "announced")
    for span in hashed(text)[:1]:
        return short(span, "after ####")
    line, _, rest = text.strip().partition("\n")
    return short(line, "first line" if rest else "only answer")


def short(line: str, why: str) -> Reading:
    """Return a line as a normalised answer, if it is one."""
    line = plain(unwrapped(line) if "\\text" in line else line)
    if len(line) > MAX_TEXT_LENGTH:
        return Reading(None, f"{why}, but longer than {MAX_TEXT_LENGTH} characters")
    line = LEAD_IN.sub("", line.strip(OUTER)).strip(OUTER)
    line = ARTICLE.sub("", line)
    if not any(char.isalnum() for char in line):
        return Reading(None, f"{why}, but without a letter or digit")
    return Reading(line, why)


def bare_text(text: str, question: Question) -> str | None:
    """Return a gold answer as the text reader spells it.

    One of several lines that neither boxes nor announces its answer has none, because
    no completion could match it.
    """
    if "\n" not in text.strip():
        return short(text, "gold").answer
    if last_boxed(text) is None and not announcements(text):
        return None
    return read_text(text, question, cut=False).answer


def same_text(one: str, other: str) -> bool:
    """Say whether two normalised texts are one: alike, or the same plain number."""
    if one == other:
        return True
    number, another = latex.plain_number(one), latex.plain_number(other)
    return number is not None and another is not None and same_number(number, another)
