"""Read which choice a completion gives by its text."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from neuron_opsd.answers import letters
from neuron_opsd.answers.spans import (
    OUTER,
    SENTENCE_END,
    TAKEN_BACK,
    Reading,
    announcements,
    hashed,
    last_boxed,
    own_part,
    plain,
)

COMMANDS: Final = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathbf|mathrm|mathit|mathsf|boldsymbol)\s?\{"
    r"|\\[(),;: !\[\]]|[{}$]"
)
NONE: Final = re.compile(
    r"\W{0,4}(?:none\b|neither\b|not (?:listed|given|among|here|in the|any)|no option|"
    r"unclear|unknown|impossible to|cannot be|not possible|以上都不|没有)",
    re.IGNORECASE,
)
ARTICLE: Final = re.compile(r"^(?:the|an?) (?=\S)")
REASON: Final = re.compile(r",?\s(?:because|since|as|due to)\s", re.IGNORECASE)
SO: Final = re.compile(r",?\s(?:so|therefore|thus|hence|leaving)\b", re.IGNORECASE)
CONCLUDES: Final = re.compile(
    r"\W{0,4}(?:so|therefore|thus|hence|it|this|that|finally|i|we|"
    r"in (?:conclusion|summary)|the (?:\w{1,20} )?(?:answer|option|choice)|but|no|"
    r"actually|however|yes|instead)\b",
    re.IGNORECASE,
)
"""Starts a sentence that adds to one about another choice."""
VERDICT: Final = re.compile(r"(yes|no|true|false|maybe)(?=,\s)", re.IGNORECASE)
NO: Final = re.compile(r"\b(?:no|without)\s$")
"""Rejects a choice's text after it, but not a letter: `No, B`."""
FIRST_UNSPACED: Final = "\u0e00"
"""From Thai on, most scripts put no spaces between words."""
NOT_CLEAR: Final = "two choices are given"


@dataclass(frozen=True, slots=True)
class Mention:
    """A choice mentioned in a text."""

    choice: str
    start: int
    end: int
    rejected: bool


def read_choice_text(
    text: str, choices: Sequence[str], *, cut: bool = False
) -> Reading:
    r"""Read the choice that a completion gives by its text.

    In order: all of it is the choice; the choice in the last ``\boxed{...}``; the one
    in the last announcement; a first line or sentence that is a choice; the only one
    mentioned; the only one in the last sentence. The longest of nested choices counts.
    Rejected ones never count, nor do mere mentions if truncated.
    """
    text = own_part(text, lambda line: equal_choice(line, choices) is not None)
    if not cut and (choice := equal_choice(text, choices)) is not None:
        return Reading(choice, "only answer")
    boxed = last_boxed(text)
    if boxed and (choice := only_choice(unwrapped(boxed), choices)) is not None:
        return Reading(choice, "boxed")
    strong = announced_reading(text, lambda span: given_text(span, choices))
    if strong is not None:
        return strong
    if (choice := leading_text(text, choices)) is not None:
        return Reading(choice, "leading")
    if cut:
        return Reading(None, "cut before an answer")
    return mentioned_text(text, choices)


def announced_reading(
    text: str, given_by: Callable[[str], Reading | None]
) -> Reading | None:
    """Return what the last informative announcement gives."""
    for announced in announcements(text):
        if announced.after.strip():
            later = given_by(announced.after)
            missing = Reading(None, "the announced answer is taken back")
            return later if later is not None and later.answer is not None else missing
        neither = announced.span.lower().startswith("neither")
        none = NONE.match(announced.span) is not None
        reading = None if none and not neither else given_by(announced.span)
        if reading is not None:
            return labelled(reading, "announced")
        if none or neither:
            return Reading(None, "none of the choices is announced")
    for span in hashed(text)[:1]:
        reading = given_by(span) if len(span) < letters.BESIDE else None
        if reading is not None and reading.answer is not None:
            return labelled(reading, "after ####")
    return None


def labelled(reading: Reading, why: str) -> Reading:
    """Relabel a reading with where it was found, if it has an answer."""
    return reading if reading.answer is None else Reading(reading.answer, why)


def unwrapped(text: str) -> str:
    r"""Strip ``\text{...}``, math signs and braces around words."""
    return COMMANDS.sub(" ", text).strip()


def mentioned_text(text: str, choices: Sequence[str]) -> Reading:
    """Return the only choice in a text, or else in its last sentence."""
    if (choice := only_choice(text, choices)) is not None:
        return Reading(choice, "only mention")
    *others, last = SENTENCE_END.split(text.strip())
    listed = bool(others) and equal_choice(others[-1], choices) is not None
    *reasons, last = SO.split(REASON.split(last)[0])
    earlier = {one.choice for one in mentions(" ".join(others), choices)}
    listed |= not reasons and len(earlier) == 1 and not CONCLUDES.match(last)
    if not listed and (choice := only_choice(last, choices)) is not None:
        return Reading(choice, "only mention of the last sentence")
    found = mentions(text, choices)
    return Reading(None, NOT_CLEAR if found else "no choice is mentioned")


def leading_text(text: str, choices: Sequence[str]) -> str | None:
    """Return the choice that is the first line or sentence, up to its reason."""
    head, *rest = SENTENCE_END.split(text.strip()[:1000])
    if verdict := VERDICT.match(head):
        return equal_choice(verdict[1], choices)
    if rest and (head.endswith("?") or TAKEN_BACK.match(rest[0])):
        return None
    choice = equal_choice(REASON.split(head)[0], choices)
    following = equal_choice(rest[0], choices) if rest else None
    return choice if following in (None, choice) else None


def given_text(span: str, choices: Sequence[str]) -> Reading | None:
    """Return the first choice in a span, or `None`."""
    whole = equal_choice(span, choices)
    if whole is not None:
        return Reading(whole, "given")
    found = [one for one in mentions(span, choices) if not one.rejected]
    if not found:
        return None
    first = found[0]
    for other in found[1:2]:
        between = plain(span)[first.end : other.start]
        joined = re.fullmatch(
            r"\W{0,3}(?:,|/|&|or|and|oder|und|或|和|、)?\W{0,3}", between
        )
        if joined and other.choice != first.choice:
            return Reading(None, NOT_CLEAR)
    return Reading(first.choice, "given")


def equal_choice(text: str, choices: Sequence[str]) -> str | None:
    """Return the choice equal to a text, ignoring case and punctuation around."""
    text = text.strip()
    if text in choices:
        return text
    wanted = key(text)
    equal = [choice for choice in choices if key(choice) == wanted]
    if not equal:
        wanted = ARTICLE.sub("", wanted)
        equal = [one for one in choices if ARTICLE.sub("", key(one)) == wanted]
    return equal[0] if len(equal) == 1 else None


def key(text: str) -> str:
    """Normalise the spelling of a choice."""
    text = plain(text)
    return text.strip(OUTER) or text


def only_choice(text: str, choices: Sequence[str]) -> str | None:
    """Return the one choice in a span, however often."""
    found = {one.choice for one in mentions(text, choices) if not one.rejected}
    return found.pop() if len(found) == 1 else None


def mentions(text: str, choices: Sequence[str]) -> list[Mention]:
    """Return the choices that occur as whole words, in order."""
    pattern, choice_of = mention_pattern(tuple(choices))
    text = plain(text)
    return [
        Mention(
            choice_of[match.group()],
            match.start(),
            match.end(),
            letters.is_rejected(text, match.start(), match.end())
            or NO.search(text[: match.start()][-10:]) is not None,
        )
        for match in pattern.finditer(text)
    ]


@functools.lru_cache(maxsize=1024)
def mention_pattern(choices: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """Return a pattern for the choices, and the choice of each match.

    Choices that differ only in case are left out.
    """
    whole = [key(choice) for choice in choices]
    bare = [ARTICLE.sub("", one) for one in whole]
    keys = [a if bare.count(a) == 1 else b for a, b in zip(bare, whole, strict=True)]
    pairs = zip(keys, choices, strict=True)
    choice_of = {one: choice for one, choice in pairs if one and keys.count(one) == 1}
    # Where alternatives match at the same place, a regular expression takes the first.
    longest_first = sorted(choice_of, key=len, reverse=True)
    words = "|".join(bounded(one) for one in longest_first)
    return re.compile(words or r"(?!)"), choice_of


def bounded(word: str) -> str:
    """Return a pattern for a word that is not part of another or of a number."""
    before = after = ""
    if word[0].isdigit():
        before = (
            r"(?<![\w.,/^:+*-])(?<!- )(?<![0-9] )(?<!frac )(?<!sqrt )"
            r"(?<!minus )(?<!negative )"
        )
    elif has_boundary(word[0]):
        before = r"(?<![^\W_])"
    if word[-1].isdigit():
        after = (
            r"(?![\w^%]|[.,:/'-]\d| ?%| ?[*/+^] ?\d| \d| (?:hundred|thousand|"
            r"(?:m|b|tr)illion)| ?\\(?:frac|times|sqrt|cdot))"
        )
    elif has_boundary(word[-1]):
        after = r"(?![^\W_])"
    return f"{before}{re.escape(word)}{after}"


def has_boundary(char: str) -> bool:
    """Say whether spaces set off a word that ends in this character."""
    return char.isalnum() and char < FIRST_UNSPACED
