"""The units verifier: conversions, dimensions, and words that only look like units."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("pint", reason="extra `verifiers`")

from fmos.verify.model import Claim, Context, Finding
from fmos.verify.units import UnitsVerifier


def check(text: str) -> Finding:
    """What the verifier says of a text."""
    return UnitsVerifier().check(Claim(type="units", text=text), Context())


@pytest.mark.parametrize(
    "text",
    [
        "5 km is 5000 m",
        "3 kg + 2 kg = 5 kg",
        "20 °C is 68 °F",
        "1 mile is 1.6 km",
        "100 miles is about 160 km",
        "60 km/h = 16.7 m/s",
        "2 h + 30 min = 150 min",
        "5 m * 3 m = 15 m^2",
        "5 m × 3 m = 15 m²",
        "100 km / 2 h = 50 km/h",
        "1 GiB is 1073741824 bytes",
        "1,500 g equals 1.5 kg",
        "0.1 m is 10 cm",
    ],
)
def test_right_conversions_are_supported(text: str) -> None:
    """A conversion that holds as far as its digits are printed is supported."""
    assert check(text).verdict == "supported", check(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5 km is 500 m", "5 km = 5000 m, not 500 m"),
        ("3 kg + 2 m", "not of one dimension"),
        ("3 kg is 3 m", "not of one dimension"),
        ("2 m + 3 = 5 m", "not of one dimension"),
        ("20 °C is 86 °F", "68 °F, not 86 °F"),
        ("100 miles is 150 km", "160.9344 km, not 150 km"),
        ("100 miles is about 150 km", "160.9344 km, not 150 km"),
        ("100 km / 2 h = 60 km/h", "50 km/h, not 60 km/h"),
    ],
)
def test_wrong_conversions_are_refuted_with_the_value(text: str, said: str) -> None:
    """A wrong one is refuted with the value, or the dimensions that do not fit."""
    found = check(text)
    assert found.verdict == "refuted"
    assert said in found.explanation


@pytest.mark.parametrize(
    "text",
    [
        "It is 5 m long and weighs 3 kg",
        "The trip took 3 days, 5 hours",
        "5 in 1 is a 3 in 2",
        "3 people are 4 times as many",
        "chapter 3 is 5 pages",
        "2 is 2",
    ],
)
def test_prose_is_left_alone(text: str) -> None:
    """Quantities that nothing is said about, and words that are also units, are undecided."""
    assert check(text).verdict == "undecided", check(text)


@pytest.mark.parametrize(
    "text",
    [
        "9" * 50 + " km = 3 m",
        "1 " + "m/" * 2_000 + "m = 1 m",
        "1 m^999999999 = 1 m",
        "1 m + " * 1_000 + "1 m",
        "1 km = 1 km " * 300,
        "1 " + "k" * 3_000 + " = 1 m",
        "1e999 km = 1 m",
        "1 km\n" * 20_000,
    ],
)
def test_hostile_text_takes_little_time(text: str) -> None:
    """Long units, large powers and endless sums end soon."""
    check("1 km is 1 km")  # loads the units
    start = time.process_time()
    check(text)
    assert time.process_time() - start < 3
