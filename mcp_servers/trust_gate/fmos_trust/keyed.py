"""Keyed digests: values that the gate must recognise but never keep.

The key is derived from the home's digest key, which lies in `keys/`; without it a stored digest
of a short secret cannot be guessed back.
"""

from __future__ import annotations

import hashlib

from fmos.audit.keys import AuditKeys

_PURPOSE = b"fmos_trust: secrets that a session has seen"


class KeyedHash:
    """BLAKE2b under a key of this home; fast enough to be tried on every window of a text."""

    def __init__(self, keys: AuditKeys) -> None:
        self._key = bytes.fromhex(keys.digest(_PURPOSE))

    def digest(self, value: bytes) -> bytes:
        """Return the keyed digest of a value."""
        return hashlib.blake2b(value, key=self._key, digest_size=16).digest()
