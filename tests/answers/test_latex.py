"""LaTeX: finding it, comparing it by sight, and the process that may be killed."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.answers.latex import equal_by_sight, tidy
from neuron_opsd.answers.verifier import Verifier, shared_verifier
from neuron_opsd.errors import ConfigError


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    """Give one process for all tests that only ask it."""
    with Verifier() as opened:
        yield opened


@pytest.mark.parametrize(
    ("text", "tidied"),
    [
        (r"$ x $", "x"),
        (r"\(x\).", "x"),
        (r"1\ 000", "1000"),
        (r"1\,000\,000\text{ m}", r"1000000\text{ m}"),
        ("1{,}000", "1000"),
        ("\u22125", "-5"),
        (
            r"\left( \sin x,\; 5\text{ cm} \right).",
            r"\left( \sin x,\; 5\text{ cm} \right)",
        ),
        (r"\dfrac12", r"\dfrac12"),
    ],
)
def test_expressions_stay_as_they_are_but_for_thousands(text: str, tidied: str) -> None:
    assert tidy(text) == tidied


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        (r"\dfrac{a}{b}", r"\dfrac{a}{b}", True),
        (r"\dfrac{a}{b}", r"\frac{a}{b}", None),
        (r"\frac{1}{2}", "0.5", None),
        (r"50\%", "0.5", None),
        ("1,000", "1000.0", True),
        (r"1\ 000", "0", False),
        ("-5", "5", False),
        ("1" * 5000, "2" * 5000 + "x", None),
        ("x+1", "1+x", None),
    ],
)
def test_most_pairs_are_settled_by_sight(
    one: str, other: str, verdict: bool | None
) -> None:
    assert equal_by_sight(one, other) is verdict


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (r"\sqrt{8}", r"2\sqrt{2}", True),
        ("x+1", "1+x", True),
        (r"\{1,2\}", r"\{2,1\}", True),
        (r"(x+1)^2", "x^2+2x+1", True),
        ("x+2", "x", False),
        (r"12 \text{ cm}^2", "12", True),
        (r"12 \text{ cm}^2", "144", False),
        (r"1\frac{1}{2}", "1.5", True),
        (r"1\frac{1}{2}", r"\frac{11}{2}", False),
        (r"7\ \mathrm{m/s}", "7", True),
        ("[1,2)", "[1,2]", False),
        (r"\text{even}", "even", True),
        (r"\frac{", "}{", False),
        ("x\0", "\ud800", False),
        (r"\text{import os}", "__import__('os')", False),
    ],
)
def test_math_verify_settles_the_rest(
    verifier: Verifier, one: str, other: str, same: bool
) -> None:
    assert verifier.equal(one, other) is same
    assert verifier.equal(other, one) is same


def test_closing_twice_does_no_harm(verifier: Verifier) -> None:
    verifier.close()
    verifier.close()
    assert verifier.equal("y+1", "1+y"), "it starts again"


def test_a_process_that_does_not_start_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with Verifier() as own, pytest.raises(ConfigError, match="math-verify"):
        own.equal("x+1", "1+x")


def test_the_reader_shares_one_process() -> None:
    assert shared_verifier() is shared_verifier()


@given(st.text())
def test_an_expression_equals_itself_whatever_the_spacing(text: str) -> None:
    assert equal_by_sight(text, f"  {text} ")
