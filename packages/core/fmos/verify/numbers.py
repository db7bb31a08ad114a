"""Numbers as people print them: thousands separators, percents, scales, and what rounding hides."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from fractions import Fraction

#: A number of more characters is not read.
MAX_DIGITS = 60

_SCALES = {
    "thousand": 3, "million": 6, "billion": 9, "trillion": 12,
    "k": 3, "K": 3, "M": 6, "mn": 6, "bn": 9,
}  # fmt: skip

#: Groups of three (or two, as in India) after a comma, apostrophe or narrow space; two groups after
#: a point; a plain number with a point; or one with a decimal comma. Exponents have three digits.
NUMBER = re.compile(
    r"(?P<grouped>\d{1,3}(?:,\d{2,3}){0,12},\d{3}(?![\d,]\d)(?:\.\d{1,30})?"
    r"|\d{1,3}(?:['’_\u00a0\u202f\u2009]\d{3}){1,12}(?!\d)(?:\.\d{1,30})?"
    r"|\d{1,3}(?:\.\d{3}){2,12}(?![\d.]))"
    r"|(?P<comma>\d{1,15},\d{1,2}(?![\d,]))"
    r"|(?P<plain>\d{1,40}(?:\.\d{1,40})?(?:[eE][+-]?\d{1,3}(?![\w.]))?|\.\d{1,40})"
)
_SCALE = re.compile(r"(?:[ \u00a0]?(thousand|million|billion|trillion)|(k|K|M|mn|bn))(?![\w])")


@dataclass(frozen=True, slots=True)
class Printed:
    """A number as it is printed: its value, and half a unit of its last digit."""

    value: Fraction
    half_unit: Fraction
    text: str
    end: int

    def admits(self, value: Fraction) -> bool:
        """Return whether a value, rounded as this number is printed, is this number."""
        distance = abs(value - self.value)
        if distance <= self.half_unit:
            return True
        # What a computer prints of a binary fraction has 15 digits that count.
        digits = sum(char.isdigit() for char in self.text)
        return digits >= 15 and "." in self.text and distance <= abs(value) / 10**15

    def is_near(self, value: Fraction, share: Fraction) -> bool:
        """Return whether a value is within a share of this number, or is it rounded."""
        return self.admits(value) or abs(value - self.value) <= abs(value) * share


def read_number(text: str, start: int) -> Printed | None:
    """Return the number that begins at `start`, with its scale such as `million`, or None."""
    found = NUMBER.match(text, start)
    if found is None or len(found[0]) > MAX_DIGITS:
        return None
    digits, exponent = _plain(found)
    end = found.end()
    scale = _SCALE.match(text, end)
    if scale:
        exponent, end = exponent + _SCALES[scale[1] or scale[2]], scale.end()
    value, half = _exact(digits, exponent)
    return Printed(value, half, text[start:end], end)


@functools.lru_cache(maxsize=8192)
def _exact(digits: str, exponent: int) -> tuple[Fraction, Fraction]:
    """Return the value of digits times a power of ten, and half a unit of the last digit."""
    decimals = len(digits.partition(".")[2]) - exponent
    return Fraction(digits) * Fraction(10) ** exponent, Fraction(10) ** -decimals / 2


def numbers_in(text: str) -> list[Printed]:
    """Return every number of a text, in order; signs are left out."""
    found: list[Printed] = []
    at = 0
    while match := NUMBER.search(text, at):
        number = read_number(text, match.start())
        if number is not None:
            found.append(number)
        at = match.end()
    return found


def shown(value: Fraction) -> str:
    """Return a value with at most twelve digits after the point."""
    if value.denominator == 1:
        whole = str(value.numerator)
        return whole if len(whole) <= 40 else f"{whole[:12]}... ({len(whole)} digits)"
    if abs(value) >= 10**15 or abs(value) < Fraction(1, 10**9):
        return f"{float(value):.12g}"
    rounded = round(value, 12)
    sign = "-" if rounded < 0 else ""
    whole, rest = divmod(abs(rounded) * 10**12, 10**12)
    return f"{sign}{whole}.{int(rest):012d}".rstrip("0").rstrip(".")


def _plain(found: re.Match[str]) -> tuple[str, int]:
    """Return the digits with a point, and the exponent of ten."""
    if found["comma"]:
        return found["comma"].replace(",", "."), 0
    if found["grouped"]:
        text = found["grouped"]
        if text.count(".") > 1:
            return text.replace(".", ""), 0
        return re.sub(r"[^\d.]", "", text), 0
    text, _, exponent = found["plain"].lower().partition("e")
    return text, int(exponent or 0)
