"""Numbers as people and models write them, read exactly and whole, or not at all.

Canonical texts are ``1234``, ``-0.5``, ``1/3`` if no finite decimal exists, and ``20%``
if a percent sign was written.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Context, Decimal, Inexact
from fractions import Fraction
from typing import Final

from neuron_opsd.answers.spans import TAGS

MAX_DIGITS: Final = 300
"""Longest number read, in digits, and largest power of ten."""
RELATIVE_TOLERANCE: Final = Fraction(1, 10**9)
"""Between two numbers that are not both whole."""
PLAIN = r"[0-9]+(?:[.,'_][0-9]+)*|\.[0-9]+"
SPACED = r"[0-9]{1,3}(?: [0-9]{3})+(?![0-9])(?:[.,][0-9]+)?"
EXPONENT = r"(?:\{ ?[-+]?[0-9]+ ?\}|[-+]?[0-9]+)"
SCALES: Final = {
    "hundred": 100,
    "thousand": 1000,
    **dict.fromkeys(("million", "millions", "millionen", "millones"), 10**6),
    **dict.fromkeys(("billion", "billions", "milliarden"), 10**9),
    **dict.fromkeys(("trillion", "trillions"), 10**12),
    "千": 1000,
    "万": 10**4,
    "萬": 10**4,
    "亿": 10**8,
    "億": 10**8,
}
"""Words after a number that multiply it."""

NUMBER: Final = re.compile(
    rf"(?P<top>{SPACED}|{PLAIN})"
    r"(?:(?P<mixed> [0-9]+ ?/ ?[0-9]+)"
    rf"|\ ?\^ ?(?P<power>{EXPONENT})"
    r"|[eE](?P<e>[-+]?[0-9]+)(?![A-Za-z0-9.])"
    rf"|\ ?[*\u00d7] ?10 ?\^ ?(?P<ten>{EXPONENT})"
    rf"|\ ?/ ?(?P<bottom>-?(?:{PLAIN})))?"
    r"(?P<scale>(?: {1,3}(?:hundred|thousand|(?:m|b|tr)illions?|millionen|millones|"
    r"milliarden)\b| ?[千万萬亿億])+)?"
    r"(?P<percent> ?%| per ?cent\b(?!age))?",
    re.IGNORECASE,
)

SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻"
FRACTIONS = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
UNWRAPPED = (
    r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mathsf|mbox|"
    r"boldsymbol|bm|operatorname|boxed|fbox|underline|emph)\s?\{([^{}]{0,200})\}"
)
MINUSES = dict.fromkeys(map(ord, "‐‑‒–−﹣－"), "-")
REWRITES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"<<[^<>\n]{0,80}>>"), ""),
    (re.compile(r">=|\\geq?(?![A-Za-z])"), "≥"),
    (re.compile(r"<=|\\leq?(?![A-Za-z])"), "≤"),
    (re.compile(r"(?<=[\sA-Za-z])!=|\\neq?(?![A-Za-z])"), "≠"),
    (re.compile(UNWRAPPED), r" \1 "),
    (re.compile(UNWRAPPED), r" \1 "),
    (re.compile(r"(?<=[0-9])(?:\{,\}|,\\!)(?=[0-9]{3})"), ","),
    (re.compile(r"\\(?:left|right|big|Big|displaystyle|quad|qquad)(?![A-Za-z])"), " "),
    (re.compile(r"\\[!,;: ()\[\]]|~|[\u00a0\u2009\u202f\u2007]"), " "),
    (
        re.compile(r"\\[dtc]?frac ?\{ ?([^{}]{1,40}) ?\} ?\{ ?([^{}]{1,40}) ?\}"),
        r" \1/\2",
    ),
    (re.compile(r"\\[dtc]?frac ?([0-9]) ?([0-9])"), r" \1/\2"),
    (
        re.compile(r"(?<=[A-Za-z])[ ]?(?:\^|\*\*) ?(?:\{ ?[-+]?[0-9] ?\}|[-+]?[0-9])"),
        "",
    ),
    (re.compile(r"\^ ?\{? ?\\circ ?\}?|\\degree|°"), " "),
    (re.compile(r"\\(?:approx|Rightarrow|implies|therefore|rightarrow|to)\b"), "="),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])|(?<=[0-9)]) ?[xX·⋅✕] ?(?=[0-9(])"), "×"),
    (re.compile(r"\\(?=[%$€£])"), ""),
    (re.compile(r"(?<=[0-9]) ?\*\* ?(?=[-0-9({])"), "^"),
    (re.compile(r"\*\*|__|`"), ""),
    (re.compile(r"(?<![\w)])_([0-9.,-]{1,30})_(?!\w)"), r"\1"),
    (re.compile(r"(?<![\w)])\*([^*\n]{1,60})\*(?!\w)"), r"\1"),
    (re.compile(r"\b(?:US|AU|CA|HK)(?=\$)|\bRs\.? ?(?=[0-9])|\b[A-Z]{3}\$"), "$"),
    (re.compile(r"(?<=[0-9])[’‘](?=[0-9]{3})"), "'"),
    (re.compile(r"(?<=[0-9]) +(?=[0-9])"), " "),
)


def rewrite(text: str) -> str:
    """Rewrite numbers, fractions, powers and signs to one notation."""
    if not text.isascii():
        text = re.sub(rf"(?<=[0-9])(?=[{FRACTIONS}])", " ", text)
        text = re.sub(rf"[{SUPERSCRIPTS}]+", r"^{\g<0>}", text)
        signs = re.compile(rf"[{SUPERSCRIPTS}{FRACTIONS}]")
        text = signs.sub(lambda one: unicodedata.normalize("NFKC", one[0]), text)
        text = text.translate(MINUSES).replace("\N{FRACTION SLASH}", "/")
        text = "".join(map(plain_digit, text))
    text = TAGS.sub(" ", text)
    for pattern, replacement in REWRITES:
        text = pattern.sub(replacement, text)
    return text


def plain_digit(char: str) -> str:
    """Return a digit of another script or full width as a plain one."""
    if char < "\u0660":
        return char
    if char in "．％＄＝＋":
        return unicodedata.normalize("NFKC", char)
    value = unicodedata.decimal(char, None)
    return char if value is None else str(value)


def read_match(match: re.Match[str], sign: int, decimal_mark: str) -> str | None:
    """Return the canonical text of a match, `None` if it cannot be read."""
    top = read_decimal(match["top"], decimal_mark)
    if top is None:
        return None
    value = value_of(match, top, decimal_mark)
    if value is None:
        return None
    for word in re.findall(r"[a-z]+|[^a-z\s]", (match["scale"] or "").lower()):
        value *= SCALES[word]
    if value.numerator.bit_length() > 4 * MAX_DIGITS:
        return None
    return write_fraction(sign * value) + ("%" if match["percent"] else "")


def value_of(match: re.Match[str], top: Fraction, decimal_mark: str) -> Fraction | None:
    """Return a match's value with power, mixed part or denominator."""
    if match["mixed"]:
        over, under = (int(part) for part in match["mixed"].split("/"))
        whole = top.denominator == 1 and 0 < over < under
        return top + Fraction(over, under) if whole else None
    if match["bottom"]:
        bottom = read_decimal(match["bottom"].removeprefix("-"), decimal_mark)
        if not bottom or " " in match["top"]:
            return None
        return -top / bottom if match["bottom"].startswith("-") else top / bottom
    if match["power"]:
        return raised(top, match["power"])
    tens = raised(Fraction(10), match["e"] or match["ten"] or "0")
    return None if tens is None else top * tens


def raised(base: Fraction, exponent: str) -> Fraction | None:
    """Return a power, `None` if undefined or too long."""
    digits = exponent.strip("{} ")
    if len(digits) > len(str(MAX_DIGITS)) + 1 or abs(int(digits)) > MAX_DIGITS:
        return None
    power = int(digits)
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if size * abs(power) > 4 * MAX_DIGITS or (base == 0 and power <= 0):
        return None
    return base**power


def read_decimal(digits: str, decimal_mark: str = "point") -> Fraction | None:
    """Return the exact value of digits with separators, `None` if ambiguous.

    `decimal_mark` decides about three digits after a single point or comma.
    """
    if len(digits) > MAX_DIGITS:
        return None
    text = plain_decimal(digits, decimal_mark)
    return None if text is None else Fraction(Decimal(text))


def plain_decimal(digits: str, decimal_mark: str) -> str | None:
    """Return digits with a decimal point and no other separator."""
    marks = [char for char in digits if not char.isdigit()]
    if not marks:
        return digits
    last = marks[-1]
    whole, _, rest = digits.rpartition(last)
    if last not in ".,":
        return grouped(digits, last) if set(marks) == {last} else None
    if marks.count(last) > 1:
        return grouped(digits, last) if set(marks) == {last} else None
    if len(marks) == 1:
        could_group = len(rest) == 3 and re.fullmatch("[1-9][0-9]{0,2}", whole)
        is_decimal = (last == ".") == (decimal_mark == "point")
        return whole + rest if could_group and not is_decimal else f"{whole}.{rest}"
    before = set(marks[:-1])
    units = grouped(whole, before.pop()) if len(before) == 1 else None
    return None if units is None else f"{units}.{rest}"


def grouped(digits: str, mark: str) -> str | None:
    """Strip thousands separators, `None` if these are none."""
    first, *groups = digits.split(mark)
    if not 1 <= len(first) <= 3 or first.startswith("0"):
        return None
    by_three = all(len(group) == 3 for group in groups)
    # In India lakhs and crores: 12,34,567.
    by_two = (
        mark == ","
        and len(first) <= 2
        and len(groups[-1]) == 3
        and all(len(group) == 2 for group in groups[:-1])
    )
    return first + "".join(groups) if by_three or by_two else None


def write_fraction(value: Fraction) -> str:
    """Write a value as a decimal if exact, else as a fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    context = Context(prec=4 * MAX_DIGITS, Emin=-9999, Emax=9999, traps=[])
    decimal = context.divide(Decimal(value.numerator), Decimal(value.denominator))
    if context.flags[Inexact]:
        return f"{value.numerator}/{value.denominator}"
    return format(decimal, "f")


def same_number(one: str, other: str) -> bool:
    """Say whether two canonical numbers are equal.

    Exact for whole numbers, else with a relative tolerance of 1e-9. A percent sign may
    be a unit or a factor: ``20%`` equals both ``20`` and ``0.2``.
    """
    if one.endswith("%") and other.endswith("%"):
        return near(readings(one)[0], readings(other)[0])
    return any(near(a, b) for a in readings(one) for b in readings(other))


def readings(number: str) -> tuple[Fraction, ...]:
    """Return the values that a canonical text may mean."""
    value = Fraction(number.removesuffix("%"))
    return (value, value / 100) if number.endswith("%") else (value,)


def near(one: Fraction, other: Fraction) -> bool:
    """Say whether two values are equal, up to rounding unless both are whole."""
    if one.denominator == other.denominator == 1:
        return one == other
    return abs(one - other) <= RELATIVE_TOLERANCE * max(abs(one), abs(other))
