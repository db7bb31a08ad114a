"""Texts and values in one form: case, Unicode, look-alikes, numbers, dates and encodings.

Two spellings of one value become equal here; a value with one character changed does not.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from urllib.parse import unquote

#: Letters of other scripts that look like Latin ones (the usual ones of Unicode TR 39).
_LOOK_ALIKES = str.maketrans(
    "аеорсухіјѕһԁԛԝвмнткοανρτικυχεηβγ‐‑‒–—−’‘“”′ｏ⁄∕",
    "aeopcyxijshdqwbmhtkoavptikuxenby------''\"\"'o//",
)
#: Characters that are not seen.
_FORMAT = re.compile(
    r"[\u00ad\u034f\u061c\u115f\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e007f]"
)
_SPACES = re.compile(r"\s+")
_WORD = re.compile(r"[a-z0-9]+")
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:[ ,_']\d{3})+|\d+)(?:\.\d+)?")
_EDGES = " \t\n\r\"'`<>()[]{}.,;:!?*"
_GROUPED = re.compile(r"[a-z0-9]{2,6}(?:[ -][a-z0-9]{2,6}){2,}")

_MONTH_NAMES = (
    ("january", "jan"), ("february", "feb"), ("march", "mar"), ("april", "apr"), ("may",),
    ("june", "jun"), ("july", "jul"), ("august", "aug"), ("september", "sep", "sept"),
    ("october", "oct"), ("november", "nov"), ("december", "dec"),
)  # fmt: skip
_MONTHS = {name: at for at, names in enumerate(_MONTH_NAMES, start=1) for name in names}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_ISO_DATE = re.compile(r"\b(?:\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)")
_SLASHED = re.compile(r"\b(\d{1,2})[/.](\d{1,2})[/.](?:\d{4}|\d{2})\b")
_MONTH_DAY = re.compile(rf"\b({_MONTH})\b\.?,? +(?:the +)?(\d{{1,2}})(?:st|nd|rd|th)?\b")
_DAY_MONTH = re.compile(
    rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: *(?:-|to|and|until|till|through)(?: +the)? *"
    rf"(\d{{1,2}})(?:st|nd|rd|th)?)? +(?:of +)?({_MONTH})\b"
)
_TIME = re.compile(r"\b(\d{1,2})(?:[:.h](\d{2}))?(?: *([ap])\.?m\b\.?)?")

#: What stands for something in a text: addresses, links, account numbers, ids. Every repetition is
#: bounded, so that no text takes more than linear time.
ATOM = re.compile(
    r"(?<![\w.+-])[a-z0-9][\w.+-]{0,63}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}"
    r"|(?:https?://|www\.)[^\s\"'<>()\[\]{}|\\^`]{1,2000}"
    r"|(?<![\w.-])(?:[a-z0-9-]{1,63}\.){1,5}(?:com|org|net|io|dev|app|co|eu|info|biz|me|ai|gov|edu"
    r"|xyz|site|online|uk|de|fr|ch|example|test|local|internal)\b(?:/[^\s\"'<>()\[\]{}|\\^`]{0,2000})?"
    r"|(?<![\w-])(?=[\w-]{0,60}\d[\w-]{0,60}\d)(?=[\w-]{6})\w[\w-]{0,126}\w(?![\w-])"
)

_PERCENT = re.compile(r"%[0-9a-fA-F]{2}")
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{12,}={0,2}(?![A-Za-z0-9+/_=-])")
_HEX = re.compile(r"\b(?:[0-9a-fA-F]{2}){8,}\b")
_SPELT_AT = re.compile(r"\s*[\[(]\s*at\s*[\])]\s*")
_SPELT_DOT = re.compile(r"\s*[\[(]\s*dot\s*[\])]\s*")
_LONGEST_DECODED = 20_000
_SHORTEST_ENCODED = 12


def plain(text: str) -> str:
    """Return a text in the form in which texts are compared; line ends stay."""
    if not text.isascii():
        text = _FORMAT.sub("", unicodedata.normalize("NFKC", text)).casefold()
        text = text.translate(_LOOK_ALIKES)
        apart = unicodedata.normalize("NFKD", text)
        return "".join(char for char in apart if not unicodedata.combining(char))
    return text.lower()


@lru_cache(maxsize=8192)
def canonical(value: str) -> str:
    """Return the one form of a short value: an address, a link, a number, an id or a name."""
    text = _SPACES.sub(" ", plain(value)).strip(_EDGES)
    found = number(text)
    if found is not None:
        return found
    for scheme in ("https://", "http://", "mailto:"):
        text = text.removeprefix(scheme)
    text = text.removeprefix("www.").rstrip("/")
    if _GROUPED.fullmatch(text) and sum(map(str.isdigit, text)) >= 6:
        return text.replace(" ", "").replace("-", "")
    return text


def number(text: str) -> str | None:
    """Return a number without separators and trailing zeros; None for any other text."""
    bare = text.strip().lstrip("$€£").rstrip("%€").strip()
    if not _NUMBER.fullmatch(bare) or (bare.startswith("0") and bare[1:].isdigit()):
        return None
    try:
        found = Decimal(re.sub(r"[ ,_']", "", bare))
    except InvalidOperation:
        return None
    return format(found.normalize(), "f") if found else "0"


def numbers(text: str) -> set[str]:
    """Return the numbers that stand in a plain text."""
    return {found for match in _NUMBER.finditer(text) if (found := number(match[0])) is not None}


def words(text: str) -> list[str]:
    """Return the words of a plain text."""
    return _WORD.findall(text)


def atoms(text: str) -> list[str]:
    """Return the addresses, links, account numbers and ids of a plain text, canonical."""
    return [canonical(match[0]) for match in ATOM.finditer(text)]


@lru_cache(maxsize=4096)
def dates(text: str) -> frozenset[tuple[int, int]]:
    """Return the (month, day) pairs that a plain text names, in any usual spelling."""
    found = {(int(match[1]), int(match[2])) for match in _ISO_DATE.finditer(text)}
    for match in _SLASHED.finditer(text):
        one, other = int(match[1]), int(match[2])
        found |= {(one, other), (other, one)}
    found |= {(_MONTHS[match[1]], int(match[2])) for match in _MONTH_DAY.finditer(text)}
    for match in _DAY_MONTH.finditer(text):
        found |= {(_MONTHS[match[3]], int(day)) for day in (match[1], match[2]) if day}
    return frozenset((month, day) for month, day in found if month <= 12 and 0 < day <= 31)


def decoded(text: str) -> list[str]:
    """Return what a text says once its encodings are undone; empty where it has none."""
    found: list[str] = []
    text = text[:_LONGEST_DECODED]
    if _PERCENT.search(text):
        found.append(unquote(text, errors="replace"))
    if "&" in text and (unescaped := html.unescape(text)) != text:
        found.append(unescaped)
    if "dot" in text.lower() and "at" in text.lower():
        joined = _SPELT_DOT.sub(".", _SPELT_AT.sub("@", text))
        if joined != text:
            found.append(joined)
    for run in text.split():
        if len(run) >= _SHORTEST_ENCODED:
            for match in _HEX.finditer(run):
                found += _readable(bytes.fromhex(match[0]))
            for match in _BASE64.finditer(run):
                found += _readable(_from_base64(match[0]))
    return found


def _from_base64(run: str) -> bytes:
    bare = run.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _readable(data: bytes) -> list[str]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return []
    good = sum(char.isalnum() or char in " @.,:;/_-'\"\n" for char in text)
    return [text] if len(text) >= 6 and good >= 0.95 * len(text) else []


def near(value: str, others: set[str]) -> str | None:
    """Return the value among `others` that differs from `value` in one character, if any."""
    for other in others:
        if abs(len(other) - len(value)) <= 1 and other != value and _one_apart(value, other):
            return other
    return None


def _one_apart(one: str, other: str) -> bool:
    if len(one) > len(other):
        one, other = other, one
    start = 0
    while start < len(one) and one[start] == other[start]:
        start += 1
    rest = start + 1 if len(one) == len(other) else start
    return one[rest:] == other[start + 1 :]
