"""Numbers as people and models write them, read exactly.

A *numeral* is the canonical text of a number: ``1234``, ``-0.5``, ``1/3`` where no
finite decimal exists, and ``20%`` where a percent sign was written.
"""

from __future__ import annotations

import collections
import re
from decimal import Context, Decimal, Inexact
from fractions import Fraction
from typing import Final

MAX_DIGITS: Final = 300
"""Longest numeral, and largest power of ten, that is read; longer ones are skipped."""

MAX_UNREADABLE: Final = 16
"""How many matches at the end of a text are tried until one can be read."""

RELATIVE_TOLERANCE: Final = Fraction(1, 10**9)
"""How far two numbers may differ that are not both whole."""

UNSIGNED = r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
# A minus right after a number, a letter or a bracket subtracts.
SIGN = r"(?:(?<![A-Za-z0-9_.)])(?P<sign>[-+]))?"
NUMBER: Final = re.compile(
    rf"{SIGN}(?<![A-Za-z0-9.])(?P<top>{UNSIGNED})(?:[eE](?P<power>[-+]?[0-9]+))?"
    rf"(?: ?/ ?(?P<bottom>-?{UNSIGNED}))?(?P<percent> ?%)?"
)

TIMES = "(?:\N{MULTIPLICATION SIGN}" r"|\\times|\\cdot|\*)"
REWRITES: Final = (
    (re.compile("[\N{MINUS SIGN}\N{EN DASH}\N{FULLWIDTH HYPHEN-MINUS}]"), "-"),
    (re.compile(r"\\[dt]?frac ?\{([^{}]{1,40})\} ?\{([^{}]{1,40})\}"), r"\1/\2"),
    (re.compile(r"\\[dt]?frac ?([0-9]) ?([0-9])"), r"\1/\2"),
    (re.compile(rf" ?{TIMES} ?10 ?\^ ?\{{? ?([-+]?[0-9]+) ?\}}?"), r"e\1"),
    (re.compile(r"(?<=[0-9])(?:\{,\}|\\,|\\!,|,\\!)(?=[0-9]{3})"), ","),
    (re.compile("(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3})"), ","),
    (re.compile(r"\\(?=[%$])"), ""),
    # A sign that belongs to the number although a currency sign stands between.
    (re.compile(r"-[$€£¥](?=[0-9.])"), "-"),
)


def last_numeral(text: str) -> str | None:
    """Return the last number of a text in canonical form, `None` where it has none.

    Reads thousands separators, decimal points, fractions of two numbers, powers of
    ten, percent signs and the Unicode minus; a minus between two numbers subtracts
    and is no sign. Of matches that are no number after all (``1/0``, or longer than
    `MAX_DIGITS`), a few at the end are passed over.
    """
    # Only the end is converted: a long text may hold half a million numbers.
    matches = collections.deque(NUMBER.finditer(rewrite(text)), maxlen=MAX_UNREADABLE)
    found = (canonical(match) for match in reversed(matches))
    return next((numeral for numeral in found if numeral is not None), None)


def first_numeral(text: str) -> str | None:
    """Return the first number of a text in canonical form."""
    found = (canonical(match) for match in NUMBER.finditer(rewrite(text)))
    return next((numeral for numeral in found if numeral is not None), None)


def whole_numeral(text: str) -> str | None:
    """Return the number that a text is, `None` where it says anything besides."""
    match = NUMBER.fullmatch(rewrite(text).strip().strip("$").strip())
    return None if match is None else canonical(match)


def rewrite(text: str) -> str:
    """Turn the many ways to write fractions, powers and signs into one."""
    for pattern, replacement in REWRITES:
        text = pattern.sub(replacement, text)
    return text


def canonical(match: re.Match[str]) -> str | None:
    """Return the canonical text of one match, `None` where it cannot be read."""
    top = read_decimal(match["top"], match["power"])
    bottom = read_decimal(match["bottom"] or "1", None)
    if top is None or not bottom:
        return None
    value = (-top if match["sign"] == "-" else top) / bottom
    return write_fraction(value) + ("%" if match["percent"] else "")


def read_decimal(digits: str, power: str | None) -> Fraction | None:
    """Return the exact value, `None` where it is too long to be an answer."""
    digits = digits.replace(",", "")
    if len(digits) > MAX_DIGITS or len(power or "") > len(str(MAX_DIGITS)) + 1:
        return None
    exponent = int(power or 0)
    if abs(exponent) > MAX_DIGITS:
        return None
    return Fraction(Decimal(digits)) * Fraction(10) ** exponent


def write_fraction(value: Fraction) -> str:
    """Write a value as a decimal where that is exact, else as a fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    context = Context(prec=4 * MAX_DIGITS, Emin=-9999, Emax=9999, traps=[])
    decimal = context.divide(Decimal(value.numerator), Decimal(value.denominator))
    if context.flags[Inexact]:
        return f"{value.numerator}/{value.denominator}"
    return format(decimal, "f")


def same_number(one: str, other: str) -> bool:
    """Say whether two numerals are equal.

    Whole numbers are compared exactly, others with a relative tolerance of 1e-9. A
    percent sign may be a unit or a factor: ``20%`` equals both ``20`` and ``0.2``.

    Raises:
        ValueError: If either is not a canonical numeral.
    """
    return any(near(a, b) for a in readings(one) for b in readings(other))


def readings(numeral: str) -> tuple[Fraction, ...]:
    """Return the values that a numeral may stand for."""
    value = Fraction(numeral.removesuffix("%"))
    return (value, value / 100) if numeral.endswith("%") else (value,)


def near(one: Fraction, other: Fraction) -> bool:
    """Say whether two values are equal, up to rounding where one is not whole."""
    if one.denominator == other.denominator == 1:
        return one == other
    return abs(one - other) <= RELATIVE_TOLERANCE * max(abs(one), abs(other))
