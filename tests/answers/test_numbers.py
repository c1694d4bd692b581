"""Numbers: spellings worked by hand, then what holds for every number."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_opsd.answers.number_reader import announced_number, read_number
from neuron_opsd.answers.numbers import MAX_DIGITS, read_decimal, same_number


def last_number(text: str) -> str | None:
    """Return the number that a text gives."""
    return read_number(text, "point").answer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("42", "42"),
        ("+42", "42"),
        ("007", "7"),
        ("2.50", "2.5"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        ("-0", "0"),
        ("1,234,567.5", "1234567.5"),
        ("1{,}234", "1234"),
        (r"1\,234", "1234"),
        ("12\u202f345", "12345"),
        ("1,2345", "1.2345"),
        ("1/2", "0.5"),
        ("1 / 3", "1/3"),
        ("-2/6", "-1/3"),
        ("1/-4", "-0.25"),
        (r"\frac{1}{3}", "1/3"),
        (r"-\dfrac12", "-0.5"),
        ("20%", "20%"),
        (r"20\%", "20%"),
        ("12.5 %", "12.5%"),
        ("3.5e-3", "0.0035"),
        ("1E3", "1000"),
        ("3 trillions", "3000000000000"),
        ("2 \N{MULTIPLICATION SIGN} 10^5", "200000"),
        (r"2 \times 10^{-1}", "0.2"),
        ("\N{MINUS SIGN}5", "-5"),
        ("$1,000", "1000"),
        ("-$5", "-5"),
        ("5-3", None),
        ("(x)-3", None),
        ("10 - 3 = -7", "-7"),
        ("5km", "5"),
        ("It has 3 or 4.", None),
        ("\u7b54\u6848\u662f42", "42"),
        ("Q1 of 1/0", None),
        ("7, then 1/0", None),
        ("v2.1", None),
        ("none", None),
        ("", None),
        ("\0", None),
        ("1e999999999", None),
    ],
)
def test_the_last_number_is_read(text: str, number: str | None) -> None:
    assert last_number(text) == number


def test_the_first_number_is_announced() -> None:
    assert announced_number("5 apples out of 10", "point") == "5"
    assert announced_number("1/0 or 5", "point") is None
    assert announced_number("many", "point") is None


@pytest.mark.parametrize(
    ("digits", "mark", "text"),
    [
        ("1,234", "point", "1234"),
        ("1,234", "comma", "1.234"),
        ("1.234", "point", "1.234"),
        ("1.234", "comma", "1234"),
        ("0,123", "point", "0.123"),
        ("1234,567", "point", "1234.567"),
        ("12,34,567", "point", "1234567"),
        ("1.234.567,8", "point", "1234567.8"),
        ("1,2,3", "point", None),
        ("1.2.3", "comma", None),
        ("1,234.567,8", "point", None),
        ("1'000", "point", "1000"),
    ],
)
def test_separators_are_told_by_their_groups(
    digits: str, mark: str, text: str | None
) -> None:
    assert read_decimal(digits, mark) == (None if text is None else Fraction(text))


def test_a_number_of_absurd_length_is_passed_over() -> None:
    assert last_number("9" * (MAX_DIGITS + 1)) is None
    assert last_number("8 " + "9" * 1_000_000) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        pytest.param(
            "Kim makes 16 eggs a day.\nShe sells them for $2 each.\n"
            "Thus, she makes $2 \\times 16 = 32$ dollars.",
            "32",
            id="premise",
        ),
        pytest.param(
            "Mark weighs 150 pounds.\nTheir mean is \\(\\frac{540}{3} = 180\\) pounds.",
            "180",
            id="premise-and-fraction",
        ),
        pytest.param("She has 7 left.\nShe ate 5 of them.", "7", id="answer-first"),
        pytest.param("7 left\n12 - 5 = 7, and 8 - 1 = 7", "7", id="begins-with-it"),
        pytest.param("7 eggs\nIn 2 days it is 2 * 7 = 14.", "7", id="remark-after"),
    ],
)
def test_a_sentence_from_which_more_is_worked_out_is_no_answer(
    text: str, number: str
) -> None:
    assert last_number(text) == number


def test_half_a_million_numbers_are_quickly_read() -> None:
    assert last_number("1," * 500_000) is None
    assert last_number("9" * 500_000 + "\nand more") is None
    assert last_number("1 and more. " * 50_000) == "1"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("0.5", "0.5", True, id="itself"),
        pytest.param("1/3", "0.3333333333", True, id="rounded-after-ten-digits"),
        pytest.param("1/3", "0.333", False, id="rounded-too-soon"),
        pytest.param("1000000000000", "1000000000001", False, id="whole-is-exact"),
        pytest.param("20%", "0.2", True, id="percent-as-a-factor"),
        pytest.param("20%", "20", True, id="percent-as-a-unit"),
        pytest.param("20", "0.2", False, id="no-percent"),
        pytest.param("0", "0.0000000001", False, id="nothing-is-near-zero"),
    ],
)
def test_same_number(one: str, other: str, same: bool) -> None:
    assert same_number(one, other) is same
    assert same_number(other, one) is same


@given(st.fractions(max_denominator=10**6))
def test_every_fraction_survives_reading(value: Fraction) -> None:
    number = last_number(f"so it is {value.numerator}/{value.denominator}.")
    assert number is not None
    assert Fraction(number) == value
    assert last_number(number) == number


@given(st.integers())
def test_thousands_separators_change_nothing(value: int) -> None:
    assert last_number(f"{value:,}") == last_number(str(value)) == str(value)


@given(st.text())
def test_any_text_can_be_searched(text: str) -> None:
    number = last_number(text)
    assert number is None or same_number(number, number)
