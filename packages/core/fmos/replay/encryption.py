"""Encrypts what is recorded under a key of the session: a volume without its keys tells none of it.

The key is derived from the tenant's and from a salt in the session's row: once the row is removed,
what may be left of the content in free pages or backups can be read by nobody.
"""

from __future__ import annotations

import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fmos.audit.keys import AuditKeys

SALT_BYTES = 16

_NONCE_BYTES = 12


class SessionCipher:
    """AES-256-GCM under one session's key, and digests under it."""

    def __init__(self, keys: AuditKeys, salt: bytes, *, purpose: str = "recording") -> None:
        self._key = bytes.fromhex(keys.seal(purpose, salt))
        self._cipher = AESGCM(self._key)

    def encrypt(self, data: bytes) -> bytes:
        """Return the data as only this session's key decrypts it."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, None)

    def decrypt(self, data: bytes) -> bytes | None:
        """Return what was encrypted; None if it was changed, or encrypted under another key."""
        try:
            return self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], None)
        except (InvalidTag, ValueError):
            return None

    def digest(self, data: bytes) -> str:
        """Return a digest that tells nothing of short data without the key."""
        return hashlib.blake2b(data, key=self._key, digest_size=16).hexdigest()
