"""Read LaTeX answers, and compare those that do not need math-verify.

That is equal spellings, plain digits and plain contradictions. Expressions too slow to
compute, such as ``9^{9^{9^{9}}}``, are recognised by form; the rest is for math-verify,
see `verifier`.
"""

from __future__ import annotations

import math
import re
from itertools import accumulate
from typing import Final

from neuron_opsd.answers.number_reader import announced_number
from neuron_opsd.answers.numbers import read_decimal, same_number, write_fraction
from neuron_opsd.answers.spans import (
    Reading,
    all_math,
    announcements,
    collapse,
    hashed,
    last_boxed,
    own_part,
)

MAX_LENGTH: Final = 1000
"""Longest expression for math-verify, in characters."""
MAX_NESTING: Final = 60
"""Deepest nesting of brackets for it."""
MAX_DIGITS: Final = 20_000
"""Most digits of a power or factorial for it."""

THOUSANDS: Final = re.compile(
    r"(?<![0-9.,])([0-9]{1,3})((?:(?:\{,\}|,\\!|\\[,! ;:]|[\s~\u2009\u202f])[0-9]{3})+)"
    r"(?![0-9])"
)
PLAIN: Final = re.compile(r"[-+]? ?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]+)?")
UNIT: Final = re.compile(
    r"\\(?:text|textrm|mathrm|mbox)\s?\{\s*(?!(?:and|or|if)\b)([A-Za-z]{1,3}|[ap]\.m\.)\s*\}"
)
BASE: Final = re.compile(r"(?<=[0-9A-F])_\s?\{?\s?([0-9]+)")
SCALE: Final = re.compile(r"\b(?:hundred|thousand|million|billion|trillion)\b")
NUMERAL: Final = re.compile(r"[0-9]+")
POWERS: Final = re.compile(r"[0-9]+(?:\s*\^[\s{(]*[-+]?[\s{(]*[0-9]+)+")
FACTORIALS: Final = re.compile(r"([0-9]+)[\s})]*!")
BINOMIALS: Final = re.compile(r"binom\s*\{\s*([0-9]+)\s*\}\s*\{\s*([0-9]+)\s*\}")
MINUSES: Final = str.maketrans(dict.fromkeys("\N{MINUS SIGN}\N{EN DASH}‑‐－", "-"))

REJECTED: Final = re.compile(
    r"\b(?:not|isn't|isn’t|rather than|instead of)\s(?:equal to\s)?$", re.IGNORECASE
)
JOINED: Final = re.compile(r"\s*(?:,|and|or|, ?(?:and|or))\s*")
EMPTY_BOX: Final = re.compile(r"\\boxed\s?\{\s?\}")
WORDS: Final = re.compile(r"\\(?:text|mathrm|textbf|mbox)\s?\{[^{}]*\}|\\[A-Za-z]+")


def tidy(text: str) -> str:
    r"""Strip dollar signs and thousands separators.

    ``1\ 000``, ``1\,000`` and ``1{,}000`` lose theirs, because math-verify reads the
    first two as products.
    """
    text = " ".join(text.split()).translate(MINUSES)
    text = text.rstrip(".,;").strip()
    for start, end in (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$")):
        if text.startswith(start) and text.endswith(end) and len(text) > len(start):
            text = text.removeprefix(start).removesuffix(end)
    text = text.rstrip(".,;").strip()
    return THOUSANDS.sub(lambda match: re.sub(r"[^0-9]", "", match.group()), text)


def equal_by_sight(one: str, other: str) -> bool | None:
    """Compare identical texts and plain digits; `None` if math-verify must decide."""
    one, other = tidy(one), tidy(other)
    if one == other:
        return True
    number, another = plain_number(one), plain_number(other)
    if number is not None and another is not None:
        return same_number(number, another)
    return False if contradict(one, other) else None


def refusal(text: str) -> str:
    """Say why an expression's form rules out computing it; else empty.

    It would take minutes, or hit a time limit whose outcome depends on the machine.
    """
    if len(text) > MAX_LENGTH:
        return f"longer than {MAX_LENGTH:,} characters"
    if nesting(text) > MAX_NESTING:
        return f"nested deeper than {MAX_NESTING}"
    if any(map(is_huge, POWERS.findall(text))) or is_many_factors(text):
        return f"a number of more than {MAX_DIGITS:,} digits"
    return ""


def nesting(text: str) -> int:
    """Return the maximum depth of brackets."""
    steps = (1 if char in "{([" else -1 for char in text if char in "{([})]")
    return max(accumulate(steps), default=0)


def is_huge(power: str) -> bool:
    """Say whether a power or tower of numbers exceeds `MAX_DIGITS` digits."""
    *bases, exponent = (int(number) for number in NUMERAL.findall(power))
    for base in reversed(bases):
        if base < 2:
            exponent = base
        elif exponent * math.log10(base) > MAX_DIGITS:
            return True
        else:
            exponent = base**exponent
    return False


def is_many_factors(text: str) -> bool:
    """Say whether a factorial or binomial has about that many digits."""
    products = [(int(n), int(n)) for n in FACTORIALS.findall(text)]
    pairs = ((int(n), int(k)) for n, k in BINOMIALS.findall(text))
    products += [(n, min(k, abs(n - k))) for n, k in pairs]
    return any(count * math.log10(max(n, 2)) > MAX_DIGITS for n, count in products)


def contradict(one: str, other: str) -> bool:
    """Say whether two expressions differ in what math-verify ignores.

    That is short units and bases, if both have one; words such as `million`; braces of
    a set against brackets of a tuple.
    """
    for pattern in (UNIT, BASE):
        said, also = set(pattern.findall(one)), set(pattern.findall(other))
        if said and also and said != also:
            return True
    if SCALE.findall(one) != SCALE.findall(other):
        return True
    first, second = (text.replace("\\left", "").strip() for text in (one, other))
    return {first[:1], second[:1]} == {"(", "\\"} and "\\{" in {first[:2], second[:2]}


def plain_number(text: str) -> str | None:
    """Return plain digits in canonical form, `None` for anything else."""
    if not PLAIN.fullmatch(text) or not re.search("[0-9]", text):
        return None
    digits = text.lstrip("+- ")
    value = read_decimal(digits)
    sign = -1 if text.startswith("-") else 1
    return None if value is None else write_fraction(sign * value)


def read_latex(text: str, *, cut: bool = False) -> Reading:
    r"""Read the expression that a completion gives as its answer.

    In order: the last ``\boxed{...}``, the last announcement, a text that is only an
    expression, what follows `####`, the last math unless truncated. Math joined by
    `or`, `and` or a comma is one answer.
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
    """Return an announced answer's math, else its expression or number."""
    groups = joined_math(span)
    if groups:
        return tidy(groups[0])
    return expression(span) or announced_number(span, "point")


def joined_math(text: str) -> list[str]:
    """Return the last math, joined if it is a list."""
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
    """Return a text that is only an expression, `None` if it contains words."""
    found = tidy(EMPTY_BOX.sub("", collapse(text)).strip("*"))
    if not found or len(found) > MAX_LENGTH or "\n" in text.strip():
        return None
    has_words = re.search(r"[A-Za-z]{2,}", WORDS.sub("", found))
    return None if has_words or not re.search(r"\w", found) else found
