"""Recognises secrets that entered a session in text that would leave it.

What a secret looks like is fmos.redaction's matter. Values are never kept: only their length and a
keyed digest. Outgoing text is looked at as it is, reversed, and with base64, hex and percent
encodings undone (twice over), in windows of the lengths that were seen.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from fmos.redaction import Found, find_secrets
from fmos_trust.keyed import KeyedHash

_MAX_WINDOWS = 1_000_000
_MAX_DECODINGS = 2


@dataclass(frozen=True, slots=True)
class KnownSecret:
    """A secret that a session has seen."""

    kind: str
    length: int
    digest: bytes
    source: str


class TextTooLongError(ValueError):
    """The outgoing text is too long to be looked through."""


_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{11,}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}[\s:]?){8,}")


def masked(text: str, seen: Iterable[KnownSecret], keyed: KeyedHash) -> str:
    """Return a text without secrets: those it shows by itself, and those that were seen before."""
    for item in sorted(find_secrets(text), key=lambda found: -len(found.value)):
        text = text.replace(item.value, f"<{item.kind}>")
    plain = text.encode("utf-8", "surrogatepass")
    for secret in sorted(seen, key=lambda known: -known.length):
        for window in dict.fromkeys(_windows_of(plain, (secret.length,))):
            if keyed.digest(window) == secret.digest:
                plain = plain.replace(window, f"<{secret.kind}>".encode())
    return plain.decode("utf-8", "surrogatepass")


def known(found: Found, source: str, keyed: KeyedHash) -> KnownSecret:
    """Return what may be kept of a secret."""
    digest = keyed.digest(found.value.encode())
    return KnownSecret(found.kind, len(found.value.encode()), digest, source)


def find_known(text: str, seen: Iterable[KnownSecret], keyed: KeyedHash) -> KnownSecret | None:
    """Return the first seen secret that a text contains, plainly or encoded.

    Raises:
        TextTooLongError: if the text cannot be looked through in reasonable time.
    """
    by_length: dict[int, dict[bytes, KnownSecret]] = {}
    for secret in seen:
        by_length.setdefault(secret.length, {})[secret.digest] = secret
    if not by_length:
        return None
    left = _MAX_WINDOWS
    checked: set[bytes] = set()
    for window in _windows(text.encode("utf-8", "surrogatepass"), tuple(by_length)):
        if window in checked:
            continue
        checked.add(window)
        left -= 1
        if left < 0:
            raise TextTooLongError("the text is too long to be checked for secrets")
        hit = by_length[len(window)].get(keyed.digest(window))
        if hit:
            return hit
    return None


def _windows(text: bytes, lengths: tuple[int, ...]) -> Iterator[bytes]:
    for view in dict.fromkeys(_views(text, min(lengths), _MAX_DECODINGS)):
        yield from _windows_of(view, lengths)


def _windows_of(view: bytes, lengths: tuple[int, ...]) -> Iterator[bytes]:
    for run in view.split():
        for length in lengths:
            for start in range(len(run) - length + 1):
                yield run[start : start + length]


def _views(text: bytes, shortest: int, decodings: int) -> Iterator[bytes]:
    for view in (text, text[::-1]):
        yield view
        if decodings:
            # Decoded pieces are looked at as one text: no secret has a space in it.
            joined = b" ".join(dict.fromkeys(_decoded(view, shortest)))
            if joined:
                yield from _views(joined, shortest, decodings - 1)


def _decoded(text: bytes, shortest: int) -> Iterator[bytes]:
    readable = text.decode("latin-1")
    if "%" in readable:
        yield unquote_to_bytes(text)
    for match in _HEX.finditer(readable):
        digits = re.sub(r"[\s:]", "", match[0])
        yield bytes.fromhex(digits[: len(digits) // 2 * 2])
        yield bytes.fromhex(digits[1:][: (len(digits) - 1) // 2 * 2])
    for match in _BASE64.finditer(readable):
        if len(match[0]) * 3 // 4 >= shortest:
            yield from _from_base64(match[0])


def _from_base64(run: str) -> Iterator[bytes]:
    """Decode at all four alignments: the secret may begin anywhere in the encoded text."""
    standard = run.replace("-", "+").replace("_", "/")
    for offset in range(4):
        part = standard[offset:]
        part = part[: len(part) // 4 * 4] if len(part) % 4 == 1 else part + "=" * (-len(part) % 4)
        yield base64.b64decode(part)
