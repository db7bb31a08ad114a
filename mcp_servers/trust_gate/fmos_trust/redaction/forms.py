"""How a secret may look once somebody has changed it, and how a text is read to find it so.

Texts and secrets are compared by their letters and digits alone, in small letters: spaces, signs,
line breaks, invisible characters and capitals make no difference. Escapes are undone first.
"""

from __future__ import annotations

import base64
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from html.entities import html5

from fmos.redaction.engine import as_bytes

#: The fewest letters and digits by which something is recognised.
SHORTEST = 8
_LONG = 128
_CHUNK = 48
_MAX_CHUNKS = 16
_KEPT = bytes(each for each in range(128) if chr(each).isalnum())
_DROPPED = bytes(each for each in range(256) if each not in _KEPT)
_BLANK = bytes((*range(33), 0x7F))
_ESCAPE = re.compile(
    rb"%u([0-9a-f]{4})|%([0-9a-f]{2})|&#x([0-9a-f]{1,6});?|&#([0-9]{1,7});?|&([a-z]{2,24});"
    rb"|\\u\{([0-9a-f]{1,6})\}|\\u([0-9a-f]{4})|\\U([0-9a-f]{8})|\\x([0-9a-f]{2})|\\([0-7]{3})"
    rb"|\b0x([0-9a-f]{2})\b",
    re.IGNORECASE,
)
_BASES = (16, 16, 16, 10, 0, 16, 16, 16, 16, 8, 16)
_MARKS = (b"%", b"&", b"\\", b"0x", b"0X")


def packed(data: bytes) -> bytes:
    """Return the letters and digits of a text, in small letters."""
    return data.translate(None, _DROPPED).lower()


def folded(data: bytes) -> bytes:
    """Return a text without blanks, in small letters: for passwords that are mostly signs."""
    return data.translate(None, _BLANK).lower()


def places(data: bytes, *, signs: bool) -> list[int]:
    """Return where in a text each character of its packed (`signs`: folded) form stands."""
    if signs:
        return [place for place, each in enumerate(data) if each not in _BLANK]
    return [place for place, each in enumerate(data) if each in _KEPT]


def forms_of(value: str) -> Iterator[tuple[bytes, bool]]:
    """Yield each form by which a value is recognised, and whether its signs count.

    As it is, reversed, in hex and in base64 from any byte on, and each of these once more.
    """
    plain = as_bytes(value)
    if len(packed(plain)) >= SHORTEST:
        yield packed(plain), False
        yield packed(plain[::-1]), False
    elif len(folded(plain)) >= SHORTEST:
        yield folded(plain), True
        yield folded(plain[::-1]), True
    once = tuple(_encoded(value.encode("utf-8", "surrogatepass")))
    twice = (form for each in once for form in _encoded(each))
    utf16 = _base64(value.encode("utf-16-le", "surrogatepass"))
    whole = (packed(form) for form in (*once, *twice, *utf16))
    yield from ((form, False) for form in whole if len(form) >= SHORTEST)
    if len(plain) > _LONG:
        yield from ((chunk, False) for chunk in _chunks(packed(plain)))


def _chunks(form: bytes) -> Iterator[bytes]:
    """A part of a long secret is one too."""
    for start in range(0, min(len(form), _CHUNK * _MAX_CHUNKS) - _CHUNK + 1, _CHUNK):
        yield form[start : start + _CHUNK]


def _encoded(data: bytes) -> Iterator[bytes]:
    yield data[::-1]
    yield data.hex().encode()
    yield from _base64(data)


def _base64(data: bytes) -> Iterator[bytes]:
    """The part of an encoded text that stands for the data alone, at each of three places."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).rstrip(b"=")
        partial = (before + len(data)) % 3 != 0  # the last character depends on what follows
        yield encoded[(0, 2, 3)[before] : len(encoded) - partial]


class Undone:
    """A text with its escapes undone; `place` says where a character of it stood."""

    def __init__(self, data: bytes) -> None:
        self._of = data
        self.data = _ESCAPE.sub(_undo, data)
        self.changed = self.data != data

    def place(self, at: int) -> int:
        """Return the place in the original text."""
        begins, origins = self._places
        index = bisect_right(begins, at) - 1
        return origins[index] + at - begins[index]

    @cached_property
    def _places(self) -> tuple[list[int], list[int]]:
        """Where each stretch that moved begins, now and in the original text."""
        begins, origins, moved = [0], [0], 0
        for match in _ESCAPE.finditer(self._of):
            start, end = match.span()
            size = len(_undo(match))
            begins += (start - moved, start - moved + size)
            origins += (start, end)
            moved += end - start - size
        return begins, origins


def undone(data: bytes, times: int = 2) -> Iterable[Undone]:
    """Return a text with its escapes undone, as often as that changes it, at most `times`."""
    layers: list[Undone] = []
    while len(layers) < times and any(mark in data for mark in _MARKS):
        layer = Undone(data)
        if not layer.changed:
            break
        layers.append(layer)
        data = layer.data
    return layers


def _undo(match: re.Match[bytes]) -> bytes:
    return _undone_of(match[0], match.lastindex or 1, match[match.lastindex or 1])


@lru_cache(maxsize=4096)
def _undone_of(escape: bytes, kind: int, digits: bytes) -> bytes:
    """Return the one byte that an escape stands for; what is none stays."""
    if _BASES[kind - 1] == 0:
        return as_bytes(html5.get(f"{digits.decode()};", ""))[:1] or escape
    code = int(digits, _BASES[kind - 1])
    return as_bytes(chr(code)) if code <= 0x10FFFF else escape
