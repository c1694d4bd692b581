r"""Reading the expression that a completion gives as its answer, as it was written."""

from __future__ import annotations

import re
from typing import Final

from neuron_opsd.answers.latex import MAX_LENGTH, tidy
from neuron_opsd.answers.number_reader import announced_number
from neuron_opsd.answers.spans import (
    Reading,
    all_math,
    announcements,
    collapse,
    hashed,
    last_boxed,
    own_part,
)

REJECTED: Final = re.compile(
    r"\b(?:not|isn't|isn’t|rather than|instead of)\s(?:equal to\s)?$", re.IGNORECASE
)
JOINED: Final = re.compile(r"\s*(?:,|and|or|, ?(?:and|or))\s*")
EMPTY_BOX: Final = re.compile(r"\\boxed\s?\{\s?\}")
WORDS: Final = re.compile(r"\\(?:text|mathrm|textbf|mbox)\s?\{[^{}]*\}|\\[A-Za-z]+")


def read_latex(text: str, *, cut: bool = False) -> Reading:
    r"""Read the expression that a completion gives as its answer.

    In this order: the last ``\boxed{...}``, what is announced last, a text that is
    nothing but an expression, what follows `####`, the last math. Math that is joined
    by `or`, `and` or a comma is one answer. Of a completion that was cut, the last math
    is none.
    """
    text = own_part(text, lambda line: expression(line) is not None)
    if boxed := last_boxed(text):
        return Reading(tidy(boxed), "boxed")
    for announced in announcements(text)[:1]:
        found = announced_expression(announced.after or announced.span)
        return Reading(found, "announced" if found else "no expression is announced")
    for span in hashed(text)[:1]:
        if found := expression(span):
            return Reading(found, "after ####")
    if not cut and (found := expression(text)):
        return Reading(found, "only answer")
    groups = joined_math(text)
    if cut or not groups:
        return Reading(None, "cut before an answer" if cut else "no expression")
    return Reading(tidy(groups[-1]), "last math")


def announced_expression(span: str) -> str | None:
    """Return the math of an announced answer, else its expression or its number."""
    groups = joined_math(span)
    if groups:
        return tidy(groups[0])
    return expression(span) or announced_number(span, "point")


def joined_math(text: str) -> list[str]:
    """Return the math of a text, that which is given together as one list."""
    groups: list[str] = []
    last_end = -1
    for start, end, content in all_math(text):
        if REJECTED.search(text[max(0, start - 20) : start]):
            continue
        if groups and JOINED.fullmatch(text[last_end:start]):
            groups[-1] += f", {content}"
        else:
            groups.append(content)
        last_end = end
    return groups


def expression(text: str) -> str | None:
    """Return a text that is nothing but an expression, `None` where it holds words."""
    found = tidy(EMPTY_BOX.sub("", collapse(text)).strip("*"))
    if not found or len(found) > MAX_LENGTH or "\n" in text.strip():
        return None
    has_words = re.search(r"[A-Za-z]{2,}", WORDS.sub("", found))
    return None if has_words or not re.search(r"\w", found) else found
