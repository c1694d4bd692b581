"""What a model says of how sure it is, and what its numbers mean."""

from __future__ import annotations

from typing import Any

import pytest

from neuron_opsd.answers.confidences import (
    WORDS,
    Stated,
    as_share,
    read_confidence,
    scale_of,
)
from neuron_opsd.errors import DataError


@pytest.mark.parametrize(
    ("cell", "share"),
    [
        ("80%", 0.8),
        ("80 %", 0.8),
        ("Confidence: 62.5%", 0.625),
        ("My confidence is 70 percent.", 0.7),
        ("8/10", 0.8),
        ("9 out of 10", 0.9),
        ("high", 0.7),
        ("High.", 0.7),
        ("very high", 0.9),
        ("Confidence level: very low", 0.1),
        ("Almost certain", 0.95),
        ("unlikely", 0.2),
        ("very unlikely", 0.1),
        ("I am about 90% sure", 0.9),
    ],
)
def test_texts_are_read(cell: str, share: float) -> None:
    found = read_confidence(cell)
    assert found is not None
    assert not found.bare
    assert found.value == pytest.approx(share)


@pytest.mark.parametrize(
    "cell",
    [
        None,
        True,
        -0.1,
        101,
        float("nan"),
        "",
        "dunno",
        "120%",
        "11/10",
        "3/0",
        "highway",
        "not high",
        [0.5],
        "between 60% and 80%",
    ],
)
def test_what_says_nothing_is_not_read(cell: Any) -> None:
    assert read_confidence(cell) is None


def test_bare_numbers_are_shares_or_percent_by_the_file() -> None:
    assert read_confidence("0.8") == Stated(0.8, bare=True)
    shares = [(Stated(0.8, bare=True), "line 1"), (Stated(1.0, bare=True), "line 2")]
    assert scale_of(shares) == "share"
    percent = [(Stated(1.0, bare=True), "line 1"), (Stated(85.0, bare=True), "line 2")]
    assert scale_of(percent) == "percent"
    assert as_share(Stated(85.0, bare=True), "percent") == 0.85
    assert as_share(Stated(0.85), "percent") == 0.85
    assert scale_of([]) == "share"


def test_a_file_on_two_scales_is_refused_with_both_places() -> None:
    mixed = [(Stated(0.8, bare=True), "line 3"), (Stated(85.0, bare=True), "line 9")]
    with pytest.raises(DataError, match=r"line 3 has 0\.8 and line 9 has 85"):
        scale_of(mixed)
    with pytest.raises(DataError, match="8/10"):
        scale_of([(Stated(float(n), bare=True), f"line {n}") for n in range(1, 11)])
    scale_of([(Stated(0.8), "line 3"), (Stated(85.0, bare=True), "line 9")])


def test_every_word_is_a_share_and_reads_as_itself() -> None:
    for word, share in WORDS.items():
        assert 0.0 <= share <= 1.0
        assert read_confidence(word) == Stated(share, word=word)
