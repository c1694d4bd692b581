"""Read which choice a completion gives by its letter.

Readers return the choice's text, so answers compare by spelling.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import Final

from neuron_opsd.answers import letters
from neuron_opsd.answers.choice_texts import (
    NOT_CLEAR,
    announced_reading,
    equal_choice,
    given_text,
    key,
    labelled,
    leading_text,
    mentioned_text,
    unwrapped,
)
from neuron_opsd.answers.spans import (
    ONE_SPELLING,
    OUTER,
    SENTENCE_END,
    Reading,
    last_boxed,
    own_part,
)

LEADING: Final = re.compile(
    r"[*_\"'(\[`#\s]{0,6}(?:(?i:option|choice)[ :]{1,2})?[*_(\[]{0,3}"
    r"([A-Z]|[a-z](?=[).:]))"
    r"(?:[*_\"')\].:`]{1,5}(?=\s|$)|(?=,?\s|$)|[:：、，]|[.)](?=\S)(?![A-Za-z]\.))"
)
ITEM: Final = re.compile(r"^[ \t*_(\[-]{0,6}([A-Z])[*_]{0,2}[.):][ \t*_]", re.MULTILINE)
VERDICT: Final = re.compile(
    rf"({letters.BOUND_BEFORE}[A-Z])(?:[*_)\]]{{0,4}}[.:?…]{{1,3}}|[*_]{{0,3}}[)\]]|\s?-)"
    r"[*_]{0,3}\s{0,3}(no|yes)(?=\s?(?:[.,;!\n]|$)|\swait\b)",
    re.IGNORECASE,
)
CONTRAST: Final = re.compile(
    r"\b(?:but|wait|no|not|however|actually|although|though|while|instead|correction|so|"
    r"therefore|thus|hence|final(?:ly)?|answer|wrong|incorrect)\b",
    re.IGNORECASE,
)
"""Makes the last of two letters called correct count."""
QUESTION: Final = re.compile(r"[^.!?。！？\n]{0,80}[?？]")


def read_choice_letter(
    text: str, choices: Sequence[str], *, cut: bool = False
) -> Reading:
    r"""Read the choice whose letter a completion gives.

    In order: all of it is a letter or a choice's text; the letter in the last
    ``\boxed{...}``; the last one announced; the last one chosen or called correct; one
    that leads, as in ``B) Paris``, or ends the text; the only letter mentioned; the
    only choice mentioned by text. Rejected letters never count, nor do mere mentions if
    truncated.
    """
    text = text.translate(ONE_SPELLING)
    text = own_part(text, lambda line: bool(whole_letter(line)))
    text = with_verdicts(text, choices)
    if letter := whole_letter(text):
        whole = lettered(letter, choices, "only answer", text)
        return Reading(None, "cut before an answer") if cut else whole
    if not cut and (choice := equal_choice(text, choices)) is not None:
        return Reading(choice, "only answer")
    boxed = last_boxed(text)
    if boxed and (reading := given(unwrapped(boxed), choices)) is not None:
        return labelled(reading, "boxed")
    strong = announced_reading(text, lambda span: given(span, choices))
    if strong is not None:
        return strong
    if reading := stated(text, choices):
        return reading
    if cut:
        return Reading(None, "cut before an answer")
    return mentioned(text, choices)


def with_verdicts(text: str, choices: Sequence[str]) -> str:
    """Spell out `A? No. B: yes` as wrong and correct, unless a choice is yes."""
    if any(key(choice) in {"yes", "no"} for choice in choices):
        return text
    said = {"no": "wrong", "yes": "correct"}
    return VERDICT.sub(lambda one: f"{one[1]} is {said[one[2].lower()]}", text)


def given(span: str, choices: Sequence[str]) -> Reading | None:
    """Return the choice that a short span gives; `None` if it only rejects some."""
    letter = letters.designated(span)
    if letter is not None and letters.is_asked(span, letter.end):
        return None
    if letter is not None and not letters.is_rejected(span, letter.start, letter.end):
        if letters.joined_with(span, letter.end):
            asked = QUESTION.match(span, letter.end)
            return None if asked else Reading(None, NOT_CLEAR)
        return lettered(letter.name, choices, "given", span[letter.end :])
    names = {
        one.name
        for one in letters.standing(span)
        if index_of(one.name) < len(choices)
        and not letters.is_rejected(span, one.start, one.end)
    }
    by_text = given_text(span, choices)
    if len(names) > 1:
        return Reading(None, NOT_CLEAR)
    if not names:
        return by_text
    by_letter = choices[index_of(names.pop())]
    if by_text is not None and by_text.answer not in (None, by_letter):
        return Reading(None, "letter and text disagree")
    return Reading(by_letter, "given")


def lettered(letter: str, choices: Sequence[str], why: str, rest: str) -> Reading:
    """Return a choice by its letter, checked against what follows it."""
    if index_of(letter) >= len(choices):
        if (choice := equal_choice(letter, choices)) is not None:
            return Reading(choice, why)
        return Reading(None, f"no choice has the letter {letter}")
    choice = choices[index_of(letter)]
    line = unwrapped(rest.strip().partition("\n")[0])
    line = re.sub(r"^(?:is|means|which is|namely)\s", "", line.strip(OUTER + "-–—"))
    if len(key(line)) > 1 or line.isdigit():
        other = equal_choice(line, choices)
    else:
        in_range = line.isupper() and line.isascii() and index_of(line) < len(choices)
        other = line if in_range and key(line) != key(choice) else None
    if other not in (None, choice, letter):
        return Reading(None, "letter and text disagree")
    return Reading(choice, why)


def index_of(letter: str) -> int:
    """Return a letter's index, from 0."""
    return string.ascii_uppercase.index(letter)


def whole_letter(text: str) -> str | None:
    """Return the only letter of a text, ignoring brackets, points and `option`."""
    text = text.strip()
    if len(text) > letters.BESIDE:
        return None
    letter = letters.designated(unwrapped(text))
    if letter is None or unwrapped(text)[letter.end :].strip(OUTER + "-\\"):
        return None
    before = unwrapped(text)[: letter.start].strip(OUTER + "\\").casefold()
    alone = not before or before in {"option", "choice", "letter", "answer", "选项"}
    return letter.name if alone else None


def stated(text: str, choices: Sequence[str]) -> Reading | None:
    """Return the choice that a text chooses, or that leads or ends it."""
    affirmed = letters.affirmed(text)
    chosen = [one for one in affirmed if index_of(one.name) < len(choices)]
    if chosen:
        last = chosen[-1]
        if called_alike(text, chosen):
            return Reading(None, NOT_CLEAR)
        return lettered(last.name, choices, "called correct", text[last.end :][:400])
    first = leading_letter(text, choices)
    last_name = closing_letter(text) or closing_item(text, choices)
    if first:
        leading = lettered(first[0], choices, "leading", first[1])
        other = last_name or first[0]
        # "C. B" names one choice where B is the text of the third.
        agree = other == first[0] or equal_choice(other, choices) == leading.answer
        return leading if agree else Reading(None, NOT_CLEAR)
    if last_name:
        return lettered(last_name, choices, "at the end", "")
    choice = leading_text(text, choices)
    return None if choice is None else Reading(choice, "leading")


def called_alike(text: str, chosen: Sequence[letters.Letter]) -> bool:
    """Say whether a text calls two letters correct without a word of contrast."""
    correct = {letter.start for letter in letters.called_correct(text)}
    first, last = chosen[0], chosen[-1]
    between = text[first.end : last.start]
    both = {first.start, last.start} <= correct and first.name != last.name
    return both and CONTRAST.search(between) is None


def leading_letter(text: str, choices: Sequence[str]) -> tuple[str, str] | None:
    """Return the leading letter and what follows, unless a list begins."""
    text = text.lstrip()
    match = LEADING.match(text)
    if match is None or letters.is_rejected(text, match.start(1), match.end(1)):
        return None
    if letters.is_word(text, match.start(1), match.end(1)):
        return None
    if letters.joined_with(text, match.end(1)) or letters.is_asked(text, match.end(1)):
        return None
    alone = whole_letter(text.partition("\n")[0])
    if not alone and lists_others(text, match[1].upper()):
        return None
    bare = match.end() == match.end(1)
    follows = text[match.end() :]
    # "C is" and "B because" lead; "Titanic" or "B vitamins" do not.
    if bare and re.match(r",?[ \t]+(?!because|since|as\b|is\b|-|–)\w", follows):
        return None
    contrasted = mentioned(text, choices).answer is None
    if bare and re.match(r"\s+is\b", follows) and contrasted:
        return None
    return match[1].upper(), follows


def lists_others(text: str, first: str) -> bool:
    """Say whether a text that begins with a letter goes through several.

    After a blank line others are explanation, unless they run from A through all.
    """
    line, paragraph = text.partition("\n")[0], text.partition("\n\n")[0]
    if first == "A" and re.search(r"\s\(?B[).:]\s", line):
        return True
    items = ITEM.finditer(text if first == "A" else paragraph)
    return any(item[1] != first for item in items)


def closing_letter(text: str) -> str | None:
    """Return the letter that is the whole last line or sentence."""
    tail = text.strip()[-120:]
    parts = [part for part in SENTENCE_END.split(tail) if part.strip()]
    if len(parts) < 2:
        return None
    last = re.sub(
        r"^[\s*_]*(?:so|therefore|thus|hence|"
        r"conclusion|verdict|i(?:'d| would)? (?:think|say|guess))[\s,:*_]+",
        "",
        parts[-1],
        flags=re.IGNORECASE,
    )
    return whole_letter(last)


def closing_item(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter given with its choice's text in the last paragraph."""
    head, _, last = text.strip().rpartition("\n\n")
    match = LEADING.match(last)
    if not head or match is None or index_of(match[1].upper()) >= len(choices):
        return None
    name = match[1].upper()
    choice = equal_choice(last[match.end() :], choices)
    return name if choice == choices[index_of(name)] else None


def mentioned(text: str, choices: Sequence[str]) -> Reading:
    """Return the only choice mentioned, by letter or else by text."""
    names: set[str] = set()
    for letter in letters.standing(text):
        if index_of(letter.name) >= len(choices) or letter.name in names:
            continue
        asked = letters.is_asked(text, letter.end)
        if not asked and not letters.is_rejected(text, letter.start, letter.end):
            names.add(letter.name)
        if len(names) > 1:
            return Reading(None, NOT_CLEAR)
    by_text = mentioned_text(text, choices)
    if not names:
        return by_text
    choice = choices[index_of(names.pop())]
    if by_text.answer not in (None, choice):
        return Reading(None, "letter and text disagree")
    return Reading(choice, "only mention")
