"""Finds secrets that were seen in a text, whatever was done to them, in one pass over it.

Of each form of a secret (forms.py) three things are kept: its length, 24 bits of a keyed hash of
its first eight characters, and a keyed digest of all of it. Every window of eight characters of a
text is hashed by one multiplication; where the hash is one that is kept, the digest decides. So
the time depends on the text, hardly on how many secrets there are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from fmos.redaction.engine import as_bytes
from fmos_trust.keyed import KeyedHash
from fmos_trust.redaction import forms

_FORM = struct.Struct("<HI8s")
_SIGNS = 0x8000
_LONGEST = 0x7FFF
_DIGEST = 8
_WORD = 0xFFFF_FFFF_FFFF_FFFF
_SHIFT = 40
_COARSE = 8
_FEW = 96


@dataclass(frozen=True, slots=True)
class KnownSecret:
    """A secret that a session has seen: nothing that tells its value.

    `forms` is what it is recognised by: for each form its length, window hash and digest.
    """

    kind: str
    length: int
    digest: bytes
    source: str
    forms: bytes = b""


class Match(NamedTuple):
    """Where a text holds a secret that was seen."""

    start: int
    end: int
    secret: KnownSecret


class _Form(NamedTuple):
    length: int
    digest: bytes
    secret: KnownSecret


def forms_kept(value: str, keyed: KeyedHash) -> bytes:
    """Return what is kept of each form of a value."""
    multiplier = keyed.multiplier
    kept: dict[tuple[bytes, bool], None] = dict.fromkeys(forms.forms_of(value))
    return b"".join(
        _FORM.pack(
            len(form) | (_SIGNS if signs else 0),
            _hashed(form, multiplier),
            keyed.digest(form)[:_DIGEST],
        )
        for form, signs in kept
        if len(form) <= _LONGEST
    )


class Known(tuple[KnownSecret, ...]):
    """Secrets that were seen, with what finds them in a text; made once for many texts."""

    @cached_property
    def forms(self) -> dict[bool, dict[int, list[_Form]]]:
        """By whether signs count, and by the hash of the first window: the forms."""
        found: dict[bool, dict[int, list[_Form]]] = {False: {}, True: {}}
        for secret in self:
            for length, window, digest in _FORM.iter_unpack(secret.forms):
                form = _Form(length & _LONGEST, digest, secret)
                found[bool(length & _SIGNS)].setdefault(window, []).append(form)
        return found

    @cached_property
    def coarse(self) -> dict[bool, bytes]:
        """For each of the 65,536 first parts of a window's hash, whether a form has it."""
        tables: dict[bool, bytes] = {}
        for signs, by_window in self.forms.items():
            table = bytearray(1 << 16)
            for window in by_window:
                table[window >> _COARSE] = 1
            tables[signs] = bytes(table)
        return tables

    def matches(self, text: str, keyed: KeyedHash) -> list[Match]:
        """Return where a text holds one of the secrets, in order, without overlaps."""
        if not self:
            return []
        data = as_bytes(text)
        found = list(self._in(data, keyed, lambda at: at))
        layers: list[forms.Undone] = []
        for layer in forms.undone(data):
            layers.append(layer)
            found += self._in(layer.data, keyed, _through(layers))
        return _without_overlaps(found)

    def first(self, texts: Iterable[str], keyed: KeyedHash) -> KnownSecret | None:
        """Return a secret that is in one of the texts, or in some of them one after the other."""
        if not self:
            return None
        said = list(texts)
        # There and back: the parts may stand in either order.
        found = self.matches("\n".join((*said, *said[-2::-1])), keyed)
        return found[0].secret if found else None

    def _in(self, data: bytes, keyed: KeyedHash, origin: Callable[[int], int]) -> Iterator[Match]:
        for signs, by_window in self.forms.items():
            if not by_window:
                continue
            view = forms.folded(data) if signs else forms.packed(data)
            hits = list(self._hits(view, by_window, signs, keyed))
            if hits:
                place = forms.places(data, signs=signs)
                for start, form in hits:
                    last = place[start + form.length - 1]
                    yield Match(origin(place[start]), origin(last + 1), form.secret)

    def _hits(
        self, view: bytes, by_window: dict[int, list[_Form]], signs: bool, keyed: KeyedHash
    ) -> Iterator[tuple[int, _Form]]:
        for start, window in _windows(view, self.coarse[signs], keyed.multiplier):
            for form in by_window.get(window, ()):
                piece = view[start : start + form.length]
                if len(piece) == form.length and keyed.digest(piece)[:_DIGEST] == form.digest:
                    yield start, form


def _through(layers: list[forms.Undone]) -> Callable[[int], int]:
    """Return what leads from a place in the last layer to the one in the text."""
    upwards = layers[::-1]

    def origin(at: int) -> int:
        for layer in upwards:
            at = layer.place(at)
        return at

    return origin


def _windows(view: bytes, coarse: bytes, multiplier: int) -> Iterator[tuple[int, int]]:
    """Yield the place and the hash of each window that a form may begin with."""
    count = len(view) - forms.SHORTEST + 1
    if count <= 0:
        return
    numpy = _numpy() if count > _FEW else None
    if numpy is None:
        for start in range(count):
            window = _hashed(view[start : start + forms.SHORTEST], multiplier)
            if coarse[window >> _COARSE]:
                yield start, window
        return
    words = numpy.ndarray((count,), numpy.dtype("<u8"), view, 0, (1,))
    hashes = (words * numpy.uint64(multiplier)) >> numpy.uint64(_SHIFT)
    table = numpy.frombuffer(coarse, numpy.uint8)
    starts = numpy.flatnonzero(table[(hashes >> numpy.uint64(_COARSE)).astype(numpy.intp)])
    yield from zip(starts.tolist(), hashes[starts].tolist(), strict=True)


def _hashed(form: bytes, multiplier: int) -> int:
    """24 bits of the first eight characters, by a multiplication that the key chooses."""
    word = int.from_bytes(form[: forms.SHORTEST], "little")
    return (word * multiplier & _WORD) >> _SHIFT


@lru_cache(maxsize=1)
def _numpy() -> Any:
    try:
        import numpy  # noqa: PLC0415 - comes with an extra; without it the loop above does
    except ImportError:
        return None
    return numpy


def _without_overlaps(found: list[Match]) -> list[Match]:
    kept: list[Match] = []
    for match in sorted(found, key=lambda each: (each.start, -each.end)):
        if kept and match.start < kept[-1].end:
            if match.end > kept[-1].end:
                kept[-1] = kept[-1]._replace(end=match.end)
            continue
        kept.append(match)
    return kept
