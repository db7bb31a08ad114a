"""Amounts of money or of anything: exact decimals, whatever the locale they are written in."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from fmos_trust.operators.model import text_of, unreadable

_MOST = 128
_MOST_DIGITS = 40
_SIGNS = {
    "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR", "₽": "RUB", "₩": "KRW", "₺": "TRY",
    "₴": "UAH", "₪": "ILS", "฿": "THB", "₫": "VND", "₦": "NGN", "₱": "PHP", "₿": "BTC",
    "$": "$", "US$": "USD", "C$": "CAD", "A$": "AUD", "R$": "BRL", "HK$": "HKD", "NZ$": "NZD",
}  # fmt: skip
_DOLLARS = frozenset(("USD", "CAD", "AUD", "NZD", "HKD", "SGD", "TWD", "MXN", "ARS", "CLP", "COP"))
_MINUS = str.maketrans({"\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-"})
_SHAPE = re.compile(
    r"(?P<before>[^\d\s().,+-]{0,4})\s*(?P<sign>[+-]?)\s*(?P<before2>[^\d\s().,+-]{0,4})\s*"
    r"(?P<number>\d[\d., '\u2019_]*?|[.,]\d+)(?P<exponent>[eE][+-]?\d{1,3})?"
    r"\s*(?P<after>[^\d\s().,+-]{0,4})"
)
_GROUPS = re.compile(r"\d{1,3}(?:(?P<mark>[., '\u2019_])\d{2,3}(?:(?P=mark)\d{2,3})*)?")


@dataclass(frozen=True, slots=True)
class AmountValue:
    """An exact number and the code of its currency: empty if none is named, `$` for any dollar."""

    text: str
    value: Decimal
    currency: str


def amount_of(value: str | int | float | Decimal) -> AmountValue:
    """Return the amount that a number or text is.

    `1.234,50`, `1,234.50` and `1 234.50` are the same; `1,234` is one thousand and more, and
    `1.234` alone is refused, since it is a fraction in one country and thousands in another.

    Raises:
        OperatorError: if it is none, not finite, or may be read in two ways.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise unreadable("an amount", value, "it is neither a number nor text")
    if isinstance(value, str):
        return _read(value)
    try:
        found = Decimal(str(value))
    except (InvalidOperation, ValueError):
        raise unreadable("an amount", value, "it is too large") from None
    return _checked(found, "", str(value)[:_MOST])


def _read(value: str) -> AmountValue:
    text = unicodedata.normalize("NFKC", text_of("an amount", value, _MOST))
    text = "".join(_digit(char) for char in text).translate(_MINUS).strip()
    negative = text.startswith("(") and text.endswith(")")
    match = _SHAPE.fullmatch(text[1:-1].strip() if negative else text)
    if match is None or (negative and match["sign"]):
        raise unreadable("an amount", value, "it is not one number with a currency")
    currency = _currency([match["before"], match["before2"], match["after"]], value)
    number = _plain_number(match["number"].strip(), value, bool(match["exponent"]))
    found = Decimal(f"{number}{match['exponent'] or ''}")
    minus = negative or match["sign"] == "-"
    return _checked(-found if minus else found, currency, value)


def _digit(char: str) -> str:
    number = unicodedata.decimal(char, None) if not char.isascii() else None
    return char if number is None else str(number)


def _currency(words: list[str], value: str) -> str:
    found = {_code(word, value) for word in words if word}
    if "$" in found and found & _DOLLARS:
        found.discard("$")
    if len(found) > 1:
        raise unreadable("an amount", value, "it names two currencies")
    return found.pop() if found else ""


def _code(word: str, value: str) -> str:
    upper = word.upper()
    if upper in _SIGNS:
        return _SIGNS[upper]
    if len(upper) == 3 and upper.isascii() and upper.isalpha():
        return upper
    raise unreadable("an amount", value, f"{word!r} is no currency")


def _plain_number(text: str, value: str, has_exponent: bool) -> str:
    """Return a number without marks between thousands and with a point before its fraction."""
    whole, mark, fraction = _parts(text)
    digits = whole + fraction
    if mark == "." and not has_exponent and len(fraction) == 3 and whole.isdigit():
        thousands = len(whole) < 4 and whole != "0"
        if thousands:
            raise unreadable("an amount", value, "its point may stand for thousands")
    if len(digits) > _MOST_DIGITS:
        raise unreadable("an amount", value, "it has too many digits")
    if whole and not whole.isdigit():
        if not _GROUPS.fullmatch(whole) or not re.search(r"\D\d{3}\Z", whole):
            raise unreadable("an amount", value, "its digits are not grouped by thousands")
        whole = re.sub(r"\D", "", whole)
    if fraction and not fraction.isdigit():
        raise unreadable("an amount", value, "its fraction has marks")
    return f"{whole or '0'}.{fraction or '0'}"


def _parts(text: str) -> tuple[str, str, str]:
    """Split at the decimal mark: the last of `.` and `,` unless it can only part thousands."""
    at = max(text.rfind("."), text.rfind(","))
    if at < 0:
        return text, "", ""
    mark, whole, fraction = text[at], text[:at], text[at + 1 :]
    other = "," if mark == "." else "."
    repeated = mark in whole
    comma_groups = mark == "," and other not in whole and len(fraction) == 3 and whole != ""
    if repeated or (comma_groups and whole.strip("0") != ""):
        return text, "", ""
    return whole, mark, fraction


def _checked(found: Decimal, currency: str, value: str) -> AmountValue:
    if not found.is_finite() or not -30 <= found.adjusted() <= 30:
        raise unreadable("an amount", value, "it is not finite, or out of all bounds")
    plain = found.normalize() + 0
    text = format(plain, "f")
    if len(text.partition(".")[2]) == 3:
        text += "0"  # else the text could be read as thousands
    return AmountValue(f"{text} {currency}".rstrip(), plain, currency)
