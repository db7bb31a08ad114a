"""Keyed digests: values that the gate must recognise but never keep.

The key is derived from the home's digest key, which lies in `keys/`; without it a stored digest
of a short secret cannot be guessed back.
"""

from __future__ import annotations

import hashlib
from functools import cached_property

from fmos.audit.keys import AuditKeys

_PURPOSE = b"fmos_trust: secrets that a session has seen"
_MULTIPLIER = b"fmos_trust.redaction: windows of eight characters"


class KeyedHash:
    """BLAKE2b under a key of this home; fast enough to be tried on every window of a text."""

    def __init__(self, keys: AuditKeys) -> None:
        self._key = bytes.fromhex(keys.digest(_PURPOSE))

    def digest(self, value: bytes) -> bytes:
        """Return the keyed digest of a value."""
        return hashlib.blake2b(value, key=self._key, digest_size=16).digest()

    @cached_property
    def multiplier(self) -> int:
        """An odd number of 64 bits that this key chooses, to hash eight bytes by multiplying."""
        return int.from_bytes(self.digest(_MULTIPLIER)[:8], "little") | 1
