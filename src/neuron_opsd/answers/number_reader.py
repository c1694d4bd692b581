r"""Read the one number that a completion gives as its answer.

A number is read whole or not at all: part of an expression (``3 + 4``, ``2\sqrt{3}``),
list, range, date, time or name is no answer. The text is rewritten to one notation, and
each number is judged by its surroundings.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from neuron_opsd.answers.numbers import NUMBER, read_match, rewrite, same_number
from neuron_opsd.answers.spans import (
    Reading,
    announcements,
    hashed,
    last_boxed,
    own_part,
)

BESIDE: Final = 48
"""Characters examined before and after a number."""
LONGEST_NAME: Final = 4
"""Characters before a number that may make it part of a name."""
MAX_HEAD: Final = 80
"""Longest first line that may give the answer."""
MAX_TRIED: Final = 16
"""Numbers tried, from the end of a text."""
CURRENCY = r"[$€£¥₹]"
ITEM: Final = re.compile(r"\s*(?:[0-9]{1,3}[.)]|[-*•])\s+\S")
WORKING: Final = re.compile(r"[^=\n]*[0-9][^=\n]*[-+*/×÷xX][^=\n]*[0-9][^=\n]*=")
"""A line of working."""
DERIVES: Final = re.compile(r"[0-9][^=\n]*=[^=\n]*[0-9]")
"""A derivation; a sentence before it opens the reasoning."""
LAST_LINES: Final = 300
"""Characters at the end of a text searched for it."""
LEADS: Final = re.compile(r"\W{0,4}(?:so\s)?(?:[A-Za-z]\s?=\s?)?-?[$€£]?[0-9]")
ASIDE: Final = re.compile(
    r"(?<=\S)(?:\s\((?!or\b)[^()]*\)\W*|"
    r",?\s(?:which|because|since|i\.e\.|that is)\s.*)$"
)
"""What a line may add after its number."""
BULLET: Final = re.compile(r"(?:^|\n)[ \t]*[-*•][ \t]+$")
COPULAS = (
    r"(?:\b(?:is|are|be|was|equals|gives|ist|est|es|to|of|by|answer|result)|[=:(]|^)"
)
SIGN: Final = re.compile(
    rf"(?P<far>[ \t]*)(?:(?P<sign>[-+])|\b(?P<word>minus|negative|moins|menos)\b|"
    rf"(?P<han>[负負]))(?P<gap>[ \t]*){CURRENCY}?[ \t]*$",
    re.IGNORECASE,
)
PART_BEFORE: Final = re.compile(
    r"(?:[+*/^_√±×÷≤≥≠<|{]|[0-9)\]}]\s?-|(?<![-=])>|[0-9]\s?:|\\[A-Za-z]+\s?\{?|"
    r"\b(?:over|under|above|below|exceeds|twice|double|triple|half(?: of)?|"
    r"one (?:in|of))|"
    r"[0-9]\s?(?:%|per ?cent)?\s(?:of|in|by|for)|[0-9] ?[a-z]{1,3} x|"
    r"\b(?:more|less|fewer|greater|larger|smaller|higher|lower|bigger) than|"
    r"[0-9]\s?(?:remainder|rem\.?|r)|[0-9]\s?;|[0-9] |\.\.|[千万萬亿億]|[A-Za-z]\(|"
    r"\b(?:plus|minus|times|divided by|multiplied by|sqrt|log|ln|sin|cos|tan)|"
    r"[0-9)]\s?(?:modulo|mod))\s?[$(\[]{0,2}\s?$",
    re.IGNORECASE,
)
HARMLESS_BEFORE: Final = re.compile(
    r"(?:\n>|^\s*\*|\b(?:problem|question|part) [0-9]{1,2}\s?:)\s?$", re.IGNORECASE
)
NAME_BEFORE: Final = re.compile(r"(?:[A-Za-z0-9_]-?|#|[A-Za-z]\.|[0-9]\.|\\)$")
PART_AFTER: Final = re.compile(
    r"\s?(?:[+^_√±×÷/‰>≤≥≠]|<(?!\|)|"
    r"-\s?(?:[0-9(\\$]|[a-z]\b)|\*\s?[0-9A-Za-z(\\]|=|[xyznπ](?![A-Za-z])|"
    r"i(?![A-Za-z])|(?<! )\(\s?-?[0-9](?![^()\n]{0,60}[A-Za-z]{3})|\(\s?-?[0-9.]+\)|"
    r";\s?[0-9]|(?:[Rr]emainder|rem\.?|[Rr])\s?[0-9]|"
    r"\\(?!n)[A-Za-z]|(?:plus|minus|divided|multiplied)\b|"
    r"times\s(?:[-$(0-9]|the\b|as\b)|(?:squared|cubed|factorial|pi|dozen|score)\b|"
    r"(?:[a-z]{1,12}\s)?and (?:a|one|three) (?:half|quarters?|third)\b|"
    r"(?:to|raised to) the\b)| [0-9]| [eE][-+]?[0-9]|\.\.+[0-9]|(?<=[千万萬亿億])[0-9]|"
    r"[:-][0-9]|[,.'_，][0-9]|[kKMB](?![A-Za-z])|"
    r"[abeqruvw](?![A-Za-z])|h[0-9]|\s?(?:%|per ?cent)?\s(?:of|in)\s[$]?[0-9]"
)
UNIT_AFTER: Final = re.compile(r"\s?/\s?(?![xyzn]\b)[A-Za-z]")
RELATED_AFTER: Final = re.compile(
    r"(?:\s?[A-Za-z%$€£]{1,14}\.?){1,2}\s?=", re.IGNORECASE
)
JOIN = r"(?:,|、|;?\s*\b(?:and|or|to|und|oder|et|ou|bis)\b|或|和|至|&)"
UNITS = (
    r"(?:years?|months?|weeks?|days?|hours?|hrs?|h|minutes?|mins?|feet|foot|ft|yards?|"
    r"miles?|lbs?|pounds?|stone|gallons?|dollars?|degrees|kg|km|m)"
)
LISTED_AFTER: Final = re.compile(
    rf"\s?{UNITS},?\s[0-9]|\s?;\s?[A-Za-z]\s?=\s?-?[0-9]|"
    rf"\s?[$)]?(?:\s?[A-Za-z%]{{1,14}}\.?){{0,2}}\s?,?\s?{JOIN}\s?(?:(?:maybe|perhaps|even)"
    rf"\s)?(?:\$?[A-Za-z]\s?=\s?)?[-+(]{{0,2}}\s?{CURRENCY}?[-+]?[.]?[0-9]",
    re.IGNORECASE,
)
LISTED_BEFORE: Final = re.compile(
    rf"[0-9]\s?{UNITS},?\s$|[0-9][^;\n]{{0,20}};\s?[A-Za-z]\s?=\s?$|"
    r"[0-9],?\s\(?(?:maybe|perhaps|or)\s$|"
    rf"[0-9]\s?[$)]?(?:\s?[A-Za-z%]{{1,14}}\.?){{0,2}}\s?,?\s?"
    rf"(?:{JOIN}|\bout of\b)\s?(?:[A-Za-z]\s?=\s?)?\(?{CURRENCY}?$",
    re.IGNORECASE,
)
SOLVED: Final = re.compile(
    r"[0-9][A-Za-z]\s?=\s?-?[0-9.]{1,20}\s?,?\s?(?:and|so)\s[A-Za-z]\s?=\s?$"
)
"""`2x = 6 and x =` solves an equation; it adds no number."""
SEVERAL: Final = re.compile(
    r"[0-9]\s{0,3}(?:,|;|\b(?:or|and|und|oder)\b)\s{0,3}[A-Za-z]\s?=", re.IGNORECASE
)
REJECTED_BEFORE: Final = re.compile(
    r"(?:\b(?:not|rather than|instead of|unlike|nicht|isn't|isn’t)|不是)\s*"
    rf"(?:simply |just |exactly |equal to )?{CURRENCY}?\s*$",
    re.IGNORECASE,
)
NO_NUMBER: Final = re.compile(
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}|[0-9]{1,4}/[0-9]{1,2}/[0-9]{1,4}"
    r"|[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?(?:\s?[ap]\.?m\b\.?)?|\b[0-9]{1,2}\s?[ap]\.?m\b"
    r"|(?<![0-9.])[0-9]{1,5}(?:\.[0-9]{1,5}){3}"
    r"|\bv\.? ?[0-9][0-9.]{0,20}[0-9]|\bv[0-9]+"
    r"|\b(?:versions?|v\.|no\.|nr\.|room|page|chapter|section|step|question|problem|id|"
    r"isbn|equation|eq\.|figure|table|line|part)[ :#]{1,2}[0-9][0-9.]{0,20}(?![0-9,])"
    r"|\b(?:january|february|march|april|may|june|july|august|september|october|november|"
    r"december)\s[0-9]{1,2}(?:st|nd|rd|th)?(?:,\s?[0-9]{4})?\b"
    r"|\b[0-9]{1,2}(?:st|nd|rd|th)?\s(?:of\s)?(?:january|february|march|april|may|june|"
    r"july|august|september|october|november|december)\b(?:,?\s[0-9]{4}\b)?"
    r"|(?:^|\n)[ \t]*[0-9]{1,3}[.)](?=[ \t]+\S[^\n]{0,400}\n)"
    r"|\n[ \t]*[0-9]{1,3}[.)](?=[ \t]+\S)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Found:
    """A number in a text, or what looks like one."""

    start: int
    end: int
    number: str | None
    """`None` if it is part of something else, or too long."""
    rejected: bool = False
    joined: bool = False


def read_number(text: str, decimal_mark: str, *, cut: bool = False) -> Reading:
    r"""Read the number that a completion gives as its answer.

    In order: the number in the last ``\boxed{...}``; the one after the last `####`; the
    first one after the last announcement, past a calculation's equals signs; the only
    one in the first line, unless more is worked out from it; and the last one, unless
    truncated. A single mark before three digits is a `decimal_mark`, `point` or
    `comma`.
    """
    text = own_part(text, lambda line: only_number(line, decimal_mark) is not None)
    boxed = last_boxed(text)
    if boxed:
        return reading_of(
            only_number(boxed, decimal_mark), "boxed", "the box holds no number"
        )
    for span in hashed(text):
        number = only_number(span, decimal_mark)
        if number is not None:
            return Reading(number, "after ####")
    for announced in announcements(text)[:1]:
        if announced.after.strip():
            return last_number(announced.after, decimal_mark)
        number = announced_number(announced.span, decimal_mark)
        return reading_of(number, "announced", "no whole number is announced")
    leading = leading_number(text, decimal_mark, cut=cut)
    if leading is not None:
        return leading
    if cut:
        return Reading(None, "cut before an answer")
    return last_number(text, decimal_mark)


def leading_number(text: str, decimal_mark: str, *, cut: bool) -> Reading | None:
    """Read the only number of the first line, if that answers."""
    head, _, rest = text.strip().partition("\n")
    rest = rest.strip()
    if len(head) < MAX_HEAD and not (rest and reasoning_begins(head, rest)):
        own = ASIDE.sub("", head) if LEADS.match(head) else head
        number = only_number(own, decimal_mark)
        if number is not None and (rest or not cut):
            return Reading(number, "leading" if rest else "only answer")
    return None


def reasoning_begins(head: str, rest: str) -> bool:
    """Say whether a text's first line opens its reasoning."""
    if ITEM.match(head) or WORKING.match(head):
        return True
    return not LEADS.match(head) and bool(DERIVES.search(rest[-LAST_LINES:]))


def reading_of(number: str | None, found: str, missing: str) -> Reading:
    """Return a reading of a number, if there is one."""
    return Reading(number, missing if number is None else found)


def only_number(text: str, decimal_mark: str) -> str | None:
    """Return the only number in a box or line, past its last equals sign."""
    rewritten = rewrite(text)
    if SEVERAL.search(rewritten):
        return None
    side = re.split(r"[=≈]", rewritten)[-1]
    # A mark that only opens a quoted line is no inequality.
    bare = re.sub(r"^\s*>\s", "", side).rstrip("! ") if "\n" in side else side
    if re.search(r"\d\s?!|[±√]|[<>≤≥≠]|\\(?!n\b)[A-Za-z]", bare):
        return None
    if re.search(r"\([^)]*[0-9][^)]*,[^)]*\)|\[[^\]]*,[^\]]*\]", side):
        return None
    found = [one for one in scan(side, decimal_mark, boxed=True) if not one.rejected]
    if not found or any(one.number is None or one.joined for one in found):
        return None
    if re.search(r"[|∞π{}]", beside(side, found)):
        return None
    first = found[0].number
    same = all(same_number(first or "", one.number or "") for one in found)
    return first if same else None


def beside(text: str, found: Iterable[Found]) -> str:
    """Return a text without its numbers."""
    left, last = [], 0
    for one in found:
        left.append(text[last : one.start])
        last = one.end
    return "#".join([*left, text[last:]])


def announced_number(span: str, decimal_mark: str) -> str | None:
    """Return an announced answer's first number, past a calculation."""
    text = rewrite(span)
    first = re.split(r"(?<=[0-9a-z%$)}])[.!?;]\s+(?=[A-Z\\])", text)[0]
    own = list(scan(first, decimal_mark))
    if not own or any(not one.rejected for one in own):
        text = first
    found = [one for one in scan(text, decimal_mark) if not one.rejected]
    for place, one in enumerate(found):
        if one.joined:
            return None
        if one.number is not None:
            return one.number
        # In a calculation the number after the last equals sign counts.
        rest = found[place + 1 :]
        if not any("=" in text[one.end : other.start] for other in rest):
            return None
    return None


def last_number(text: str, decimal_mark: str) -> Reading:
    """Return the last number of a text, unless it is part of something else."""
    rewritten = rewrite(text)
    # Only the end is judged: a long text may hold half a million numbers.
    found = collections.deque(candidates(rewritten), maxlen=MAX_TRIED)
    for match in reversed(found):
        one = judged(match, decimal_mark, boxed=False)
        if one.rejected:
            continue
        if one.joined:
            return Reading(None, "several numbers are given")
        if one.number is None:
            return Reading(None, "the last number is part of an expression")
        only = len(found) == 1
        return Reading(one.number, "only number" if only else "last number")
    return Reading(None, "no number")


def scan(text: str, decimal_mark: str, *, boxed: bool = False) -> Iterator[Found]:
    """Yield the numbers of a rewritten text that are no dates, times or names.

    In a box, a dash at the start of a line is a sign, not a bullet.
    """
    for match in candidates(text):
        yield judged(match, decimal_mark, boxed=boxed)


def candidates(text: str) -> Iterator[re.Match[str]]:
    """Yield apparent numbers, except dates, times and parts of names."""
    barred = ((match.start(), match.end()) for match in NO_NUMBER.finditer(text))
    bar = next(barred, None)
    for match in NUMBER.finditer(text):
        while bar is not None and bar[1] <= match.start():
            bar = next(barred, None)
        if bar is not None and bar[0] <= match.start():
            continue
        before = text[max(0, match.start() - LONGEST_NAME) : match.start()]
        if not NAME_BEFORE.search(before):
            yield match


def judged(match: re.Match[str], decimal_mark: str, *, boxed: bool) -> Found:
    """Classify a match by what surrounds it."""
    text = match.string
    before = text[max(0, match.start() - BESIDE) : match.start()]
    after = text[match.end() : match.end() + BESIDE]
    sign, left = sign_of(before, boxed=boxed)
    part = sign is None or (
        PART_BEFORE.search(left) is not None and not HARMLESS_BEFORE.search(left)
    )
    part |= PART_AFTER.match(after) is not None and not UNIT_AFTER.match(after)
    part |= RELATED_AFTER.match(after) is not None
    power = match["power"] is not None and sign == -1 and left.rstrip().endswith("(")
    number = None
    if not part and not power:
        number = read_match(match, sign or 1, decimal_mark)
    return Found(
        match.start(),
        match.end(),
        number,
        rejected=REJECTED_BEFORE.search(left) is not None,
        joined=LISTED_AFTER.match(after) is not None
        or (LISTED_BEFORE.search(left) is not None and not SOLVED.search(left)),
    )


def sign_of(before: str, *, boxed: bool) -> tuple[int | None, str]:
    """Return a number's sign and the text before it.

    The sign is `None` if a dash could also subtract, join or mark a bullet.
    """
    match = SIGN.search(before)
    if match is None:
        return 1, before
    left = before[: match.start()]
    value = 1 if match["sign"] == "+" else -1
    if match["word"] or match["han"]:
        return (None if re.search(r"[0-9)}]$", left) else value), left
    if not boxed and BULLET.search(before) and len(before) < BESIDE and "\n" in before:
        return 1, left
    if not match["far"]:
        attached = re.search(r"[A-Za-z0-9)}\]%!]$", left) is not None
        return (None if attached else value), left
    if re.search(r"[0-9)}\]%]$", left):
        return None, left
    single = re.search(r"(?<![A-Za-z])[A-Za-z]$", left) is not None
    if single or (match["gap"] and not re.search(rf"{COPULAS}$", left, re.IGNORECASE)):
        return None, left
    return value, left
