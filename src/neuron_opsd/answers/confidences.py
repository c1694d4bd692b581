"""Read stated confidences: shares, percentages, fractions, words.

`scale_of` decides once per file what bare numbers mean: 0.8 is a share, 80 a
percentage, and both in one file are refused. The numbers of `WORDS` are a convention,
so reports show the observed accuracy of each word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from neuron_opsd.errors import DataError

Scale: TypeAlias = Literal["share", "percent"]

LEVELS: Final = {
    "very low": 0.1,
    "lowest": 0.1,
    "low": 0.3,
    "medium": 0.5,
    "moderate": 0.5,
    "high": 0.7,
    "very high": 0.9,
    "highest": 0.9,
}
"""Midpoints of five equal bands, as in Lin et al. 2022."""
CHANCES: Final = {
    "impossible": 0.0,
    "almost no chance": 0.02,
    "highly unlikely": 0.05,
    "very unlikely": 0.1,
    "little chance": 0.1,
    "unlikely": 0.2,
    "improbable": 0.2,
    "probably not": 0.25,
    "not sure": 0.3,
    "unsure": 0.3,
    "uncertain": 0.3,
    "about even": 0.5,
    "toss-up": 0.5,
    "somewhat confident": 0.6,
    "better than even": 0.6,
    "fairly confident": 0.7,
    "likely": 0.7,
    "probably": 0.7,
    "probable": 0.7,
    "confident": 0.8,
    "sure": 0.8,
    "very good chance": 0.8,
    "very likely": 0.9,
    "highly likely": 0.9,
    "very confident": 0.9,
    "highly confident": 0.9,
    "almost certain": 0.95,
    "certain": 1.0,
}
"""Words of estimative probability, near survey medians (Kent 1964; Tian et al. 2023
give a model's words such numbers)."""
WORDS: Final = LEVELS | CHANCES
"""Value of each word; the longest match counts."""

LEAD: Final = re.compile(
    r"^\W*(?:(?:my|the|stated|overall)\s+)?(?:confidence|probability|certainty)"
    r"(?:\s+(?:level|score))?(?:\s+is)?\s*[:=]?\s*",
    re.IGNORECASE,
)
NUMBER: Final = r"(\d{1,6}(?:\.\d{1,12})?|\.\d{1,12})"
PERCENT: Final = re.compile(rf"{NUMBER}\s*(?:%|percent\b|per cent\b)", re.IGNORECASE)
FRACTION: Final = re.compile(rf"{NUMBER}\s*(?:/|out of)\s*{NUMBER}", re.IGNORECASE)
BARE: Final = re.compile(rf"{NUMBER}\b")
WORD: Final = re.compile(
    "|".join(sorted(map(re.escape, WORDS), key=len, reverse=True)), re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Stated:
    """A confidence as read, before scaling."""

    value: float
    """A share; if `bare`, on either scale."""
    bare: bool = False
    word: str = ""
    """The stated word, in lower case."""


def read_confidence(value: Any) -> Stated | None:
    """Read one cell; `None` if it states nothing usable."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return Stated(float(value), bare=True) if 0.0 <= value <= 100.0 else None
    return read_text(value) if isinstance(value, str) else None


def read_text(text: str) -> Stated | None:
    """Read a text such as ``Confidence: 80%``, ``8/10`` or ``high``.

    A single percentage is found anywhere.
    """
    text = LEAD.sub("", text).strip()
    if len(percents := PERCENT.findall(text)) == 1:
        return share(float(percents[0]), 100.0)
    if percents:
        return None
    if found := FRACTION.match(text):
        return share(float(found[1]), float(found[2]))
    if found := BARE.match(text):
        return read_confidence(float(found[1]))
    if found := WORD.match(text):
        word = found[0].lower()
        after = text[found.end() :][:1]
        return None if after.isalnum() else Stated(WORDS[word], word=word)
    return None


def share(part: float, whole: float) -> Stated | None:
    """Return part / whole if that is at most 1."""
    return Stated(part / whole) if whole > 0.0 and part <= whole else None


def scale_of(found: Iterable[tuple[Stated, str]]) -> Scale:
    """Return the scale of a file's bare numbers.

    Args:
        found: Confidences, each with its place in the file.

    Raises:
        DataError: If some can only be shares and others percentages, or all are whole
            numbers up to 10, possibly out of ten.
    """
    between, above, most, all_whole = "", "", 0.0, True
    for stated, place in found:
        if not stated.bare:
            continue
        most = max(most, stated.value)
        all_whole &= stated.value.is_integer()
        if 0.0 < stated.value < 1.0:
            between = between or f"{place} has {stated.value:g}"
        elif stated.value > 1.0:
            above = above or f"{place} has {stated.value:g}"
    if between and above:
        raise DataError(
            f"confidences are on two scales: {between} and {above}; write all as "
            "shares of 1, or those in percent with %"
        )
    if above and all_whole and most <= 10.0:
        raise DataError(
            f"confidences are whole numbers up to {most:g} ({above}), which may be of "
            "10 or in percent; write 8/10, or 8%"
        )
    return "percent" if above else "share"


def as_share(stated: Stated, scale: Scale) -> float:
    """Return a confidence as a share in [0, 1]."""
    return stated.value / 100.0 if stated.bare and scale == "percent" else stated.value
