"""The arithmetic verifier: what it finds in text, what it recomputes, and what it leaves alone."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmos.verify.arithmetic import ArithmeticVerifier
from fmos.verify.model import Claim, Context, Finding
from fmos.verify.numbers import numbers_in, read_number, shown


def check(text: str, **content: object) -> Finding:
    """What the verifier says of a text."""
    claim = Claim(type="arithmetic", text=text, content=content)
    return ArithmeticVerifier().check(claim, Context())


@pytest.mark.parametrize(
    "text",
    [
        "12 % of 250 is 30",
        "30 is 12% of 250",
        "3 * (4+5) = 27",
        "In 2024 it was 5 + 3 = 8 in all.",
        "1,234 + 1 = 1,235 and 1'000 × 3 = 3000",
        "12,34,567 + 1 = 12,34,568",
        "100 + 10 % = 110",
        "30/250 = 12 %",
        "7 % 3 = 1",
        "The sum of 1, 2, 3 and 4 is 10.",
        "the average of 2, 4, 6 is 4",
        "10 / 3 = 3.33",
        "10/3 ≈ 3.4",
        "$12 * 3 = $36",
        "0.1 + 0.2 = 0.30000000000000004",
        "5 - 8 = -3",
        "1 + 1 = 2 = 3 - 1",
        "1.2 million * 2 = 2.4 million",
        "3,5 * 2 = 7",
        "5x3 = 15, and 5 plus 3 equals 8",
        "- 5 + 3 = 8",
        "2^10 = 1024",
        "-5 + 3 = -2",
    ],
)
def test_right_equations_are_supported(text: str) -> None:
    """An equation that holds as far as its digits are printed is supported."""
    assert check(text).verdict == "supported", check(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12 % of 250 is 31", "30"),
        ("3 * (4+5) = 28", "27"),
        ("1, 2 and 3 add up to 7", "6"),
        ("10 / 3 = 3.34", "3.333333333333"),
        ("10/3 ≈ 3.5", "3.333333333333"),
        ("(12 + 3) / 5 = 3, and 2 * 2 = 5", "4"),
        ("100 + 10 % = 120", "110"),
        ("5 - 8 = 3", "-3"),
        ("1 + 1 = 2 = 3 - 2", "1"),
        ("5x3 = 16", "15"),
        ("the product of 2, 3 and 4 is 25", "24"),
    ],
)
def test_wrong_equations_are_refuted_with_the_value(text: str, value: str) -> None:
    """A wrong one is refuted, and the finding says what it really is."""
    found = check(text)
    assert found.verdict == "refuted"
    assert value in found.explanation


@pytest.mark.parametrize(
    "text",
    [
        "pages 10-12 is 3",
        "2020-01-05 is 3",
        "1/2/2024 is 7",
        "version 3.11.2 is 5",
        "x1 + 2 = 3",
        "0x10 = 16",
        "a[1,2] = 3",
        "5 is 5",
        "1/0 = 5",
        "= 3",
        "no numbers here",
        "2 ^ 9999999 = 5",
        "9**9**9 = 1",
        "2 ** 0.5 = 1.41",
    ],
)
def test_what_is_no_equation_is_undecided(text: str) -> None:
    """Ranges, dates, versions, code and what is too large to compute are left alone."""
    assert check(text).verdict == "undecided", check(text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 2000 + "1" + ")" * 1990 + " = 1",
        "1+" * 100_000 + "1 = 2",
        "1+1=" * 1_000,
        "sum of " * 500 + "1, 2 is 3",
        "1 " * 1_900 + "and 1 add up to 5",
        ("1, " * 1_200 + "and 2 total 3\n") * 20,
        "9" * 100_000 + " + 1 = 2",
        "1e999 * 1e999 = 1e999",
        "2**64**64 = 1",
        "% % % % of of of = = =\n" * 5_000,
    ],
)
def test_hostile_text_takes_little_time(text: str) -> None:
    """Deep, long and huge input ends soon, whatever is said of it."""
    start = time.process_time()
    check(text)
    assert time.process_time() - start < 3


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.sampled_from("+-*"))
def test_computed_equations_agree_with_python(a: int, b: int, operator: str) -> None:
    """What Python computes is supported, and one more is refuted."""
    value = {"+": a + b, "-": a - b, "*": a * b}[operator]
    left = f"{a:,} {operator} ({b})"
    assert check(f"{left} = {value:,}").verdict == "supported"
    assert check(f"{left} = {value + 1}").verdict == "refuted"


@given(st.fractions(0, 10**9, max_denominator=1000), st.integers(0, 6))
def test_rounding_to_printed_digits_is_accepted(value: Fraction, digits: int) -> None:
    """A quotient printed with any number of digits counts as right."""
    printed = f"{float(value):.{digits}f}"
    text = f"{value.numerator} / {value.denominator} = {printed}"
    exact = abs(Fraction(printed) - value) <= Fraction(1, 2 * 10**digits)
    assert (check(text).verdict == "supported") is exact


@given(st.integers(0, 10**12), st.integers(0, 3))
def test_numbers_are_read_as_printed(whole: int, decimals: int) -> None:
    """With and without separators, a number has the value that was printed."""
    text = f"{whole:,}" + (f".{'5' * decimals}" if decimals else "")
    value = Fraction(text.replace(",", ""))
    number = read_number(text, 0)
    assert number is not None
    assert (number.value, number.end) == (value, len(text))
    assert [each.value for each in numbers_in(f"it is {text} now")] == [value]


def test_a_total_of_listed_numbers_is_recomputed() -> None:
    """Structured claims give the numbers and what they are said to add up to."""
    assert check("", numbers=["10", "20.5", "-3"], result="27.5").verdict == "supported"
    wrong = check("", numbers=["10", "20"], result="31")
    assert (wrong.verdict, wrong.explanation) == (
        "refuted", "the sum of the 2 numbers is 30, not 31",
    )  # fmt: skip
    assert check("", numbers=["ten"], result="10").verdict == "undecided"
    assert check("", expression="2 * 3", result="6").verdict == "supported"


def test_values_are_shown_short() -> None:
    """Whole numbers as they are, fractions with twelve digits, and huge ones cut."""
    assert shown(Fraction(3)) == "3"
    assert shown(Fraction(-1, 3)) == "-0.333333333333"
    assert shown(Fraction(5, 2)) == "2.5"
    assert "digits" in shown(Fraction(10**100))
