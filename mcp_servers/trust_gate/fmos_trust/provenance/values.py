"""Keyed digests of the values in a text: they say where a value came from, and not what it is.

Made when the time of the text itself is over: from then on they are all that is left of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from fmos_trust.evidence.normal import atoms, canonical, numbers, plain
from fmos_trust.evidence.sources import split
from fmos_trust.keyed import KeyedHash

#: Where in a text a value stands: in the user's words, in a field of structured output, in prose.
Stands = Literal["user", "field", "text"]

_DIGEST = 8
_SIZE = _DIGEST + 1
_MOST = 512
_LONGEST = 200
_SIGNS: dict[Stands, bytes] = {"user": b"u", "field": b"f", "text": b"t"}
_STANDS: dict[int, Stands] = {sign[0]: stands for stands, sign in _SIGNS.items()}


def digests_of(text: str, keyed: KeyedHash, *, of_user: bool) -> bytes:
    """Return the digests of the values in a text, each with where it stands."""
    found: dict[bytes, None] = {}
    for value, stands in _said(text) if of_user else _returned(text):
        if value and len(value) <= _LONGEST:
            found[digest(value, keyed) + _SIGNS[stands]] = None
            if len(found) >= _MOST:
                break
    return b"".join(found)


def digest(value: str, keyed: KeyedHash) -> bytes:
    """Return the digest of one canonical value."""
    return keyed.digest(value.encode("utf-8", "surrogatepass"))[:_DIGEST]


def unpacked(digests: bytes) -> Iterator[tuple[bytes, Stands]]:
    """Yield the digests of values, each with where it stood."""
    for start in range(0, len(digests) - _DIGEST, _SIZE):
        yield digests[start : start + _DIGEST], _STANDS[digests[start + _DIGEST]]


def _said(text: str) -> Iterator[tuple[str, Stands]]:
    body = plain(text)
    for value in (*atoms(body), *sorted(numbers(body))):
        yield value, "user"


def _returned(text: str) -> Iterator[tuple[str, Stands]]:
    found = split(text)
    for each in found.fields:
        # A `key: value` line of prose is what a stranger wrote, so it is no field.
        yield canonical(each.value), "text" if each.key.startswith("~") else "field"
    for _, part in found.prose:
        for value in atoms(plain(part)):
            yield value, "text"
