"""LaTeX: finding it, comparing it by sight, and the process that may be killed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.errors import ConfigError
from neuron_opsd.latex import (
    Verifier,
    equal_by_sight,
    last_boxed,
    last_math,
    shared_verifier,
    tidy,
)


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    """Give one process for all tests that only ask it."""
    with Verifier() as opened:
        yield opened


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{5}", "5"),
        (r"\boxed{1} or \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{\{1\}}", r"\{1\}"),
        (r"\boxed {5}", "5"),
        (r"\boxed{1} then \boxed{2", "1"),
        (r"}}\boxed{5}", "5"),
        (r"\boxed{5", None),
        ("5", None),
    ],
)
def test_the_last_box_is_found(text: str, content: str | None) -> None:
    assert last_boxed(text) == content


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("$a$ and $b$", "b"),
        ("$$a$$", "a"),
        (r"\(a\), \[ b \]", "b"),
        (r"costs \$5, $b$", "b"),
        ("$a$ and $b", "a"),
        ("$ $", None),
        ("a", None),
    ],
)
def test_the_last_math_is_found(text: str, content: str | None) -> None:
    assert last_math(text) == content


def test_tidying_keeps_words_apart() -> None:
    assert tidy(r"\left( \sin x,\; 5\text{ cm} \right).") == r"( \sin x, 5 cm )"
    assert tidy(r"\leftarrow") == r"\leftarrow"


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        (r"\dfrac{a}{b}", r"\frac{a} {b}", True),
        (r"\frac{1}{2}", "0.5", True),
        (r"\frac{1}{2}", "0.51", False),
        (r"50\%", "0.5", True),
        ("1" * 5000, "2" * 5000 + "x", False),
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


def test_a_process_that_hangs_is_killed_and_started_again() -> None:
    with Verifier(seconds=1.0) as own:
        start = time.monotonic()
        assert not own.equal("9^{9^{9^{9}}}", "1+x")
        assert own.num_killed == 1
        assert not own.equal("1+x", "9^{9^{9^{9}}}")
        assert own.num_killed == 1, "the verdict was remembered"
        assert time.monotonic() - start < 60.0
        own.seconds = 30.0
        assert own.equal("x+1", "1+x")


@pytest.mark.parametrize("text", ["9^(9^(9^9))", "10^{9}!", "{" * 900, "(" * 900])
def test_hostile_expressions_end(text: str) -> None:
    with Verifier(seconds=0.5) as own:
        assert not own.equal(text, "x")


def test_a_megabyte_never_reaches_the_process() -> None:
    own = Verifier()
    assert not own.equal(r"\frac{1}{2}+" * 90_000, "x")
    assert own.equal("{" * 1_000_000, "{" * 1_000_000)
    assert own.num_killed == 0


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
