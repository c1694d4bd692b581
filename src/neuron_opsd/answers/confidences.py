"""Reading how sure a model says it is: shares, percent, fractions, words.

What a bare number means is decided once for a file, by `scale_of`: 0.8 is a share and
80 are percent, and a file with both is refused. Words have the numbers of `WORDS`,
which are a convention, so a report shows each with the accuracy that was found.
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
"""The middle of each of five equal bands, as in Lin et al. 2022."""
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
"""Words of estimative probability, near the medians of surveys (Kent 1964; Tian et al.
2023 give a model's words such numbers)."""
WORDS: Final = LEVELS | CHANCES
"""What each word counts as; the longest that a text begins with is taken."""

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
    """A confidence as it was read, before anybody says what a bare number means."""

    value: float
    """A share, or where it is `bare` a number of either scale."""
    bare: bool = False
    word: str = ""
    """That stands for the value, in lower case."""


def read_confidence(value: Any) -> Stated | None:
    """Read one cell; `None` where it says nothing that can be used."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return Stated(float(value), bare=True) if 0.0 <= value <= 100.0 else None
    return read_text(value) if isinstance(value, str) else None


def read_text(text: str) -> Stated | None:
    """Read a text such as ``Confidence: 80%``, ``8/10`` or ``high``.

    Percent are found wherever they stand, if they stand there once.
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
    """Return a part of a whole, if it is a share of it."""
    return Stated(part / whole) if whole > 0.0 and part <= whole else None


def scale_of(found: Iterable[tuple[Stated, str]]) -> Scale:
    """Say what the bare numbers of a file are.

    Args:
        found: Each with where it stands.

    Raises:
        DataError: If some can only be shares and others only percent, or all are whole
            numbers up to 10, which may count to ten.
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
