"""Turning the many ways to write numbers, powers and signs into one notation."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from neuron_opsd.answers.spans import TAGS

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
    """Turn the many ways to write numbers, fractions, powers and signs into one."""
    if not text.isascii():
        text = re.sub(rf"(?<=[0-9])(?=[{FRACTIONS}])", " ", text)
        text = re.sub(
            rf"[{SUPERSCRIPTS}]+",
            lambda match: "^{" + unicodedata.normalize("NFKC", match.group()) + "}",
            text,
        )
        text = re.sub(
            rf"[{FRACTIONS}]",
            lambda match: unicodedata.normalize("NFKC", match.group()),
            text,
        )
        text = text.translate(MINUSES).replace("\N{FRACTION SLASH}", "/")
        text = "".join(map(plain_digit, text))
    text = TAGS.sub(" ", text)
    for pattern, replacement in REWRITES:
        text = pattern.sub(replacement, text)
    return text


def plain_digit(char: str) -> str:
    """Return a digit of another script, or one of full width, as a plain one."""
    if char < "\u0660":
        return char
    if char in "．％＄＝＋":
        return unicodedata.normalize("NFKC", char)
    value = unicodedata.decimal(char, None)
    return char if value is None else str(value)
