"""A tenant's audit keys: Ed25519 for signatures, and a secret for keyed digests.

Both are readable by their owner only. Who may make them, and when, is keyring.py's matter.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fmos.errors import HomeError
from fmos.storage import wholefile

_SIGNING = "audit.pem"
_DIGEST = "digest.key"

#: How long a change of keys that is seen half done may take until it counts as none.
_CHANGE_S = 1.0
_PAUSE_S = 0.01


class AuditKeys:
    """The keys in one folder. Thread-safe; processes that start together agree on one key.

    Args:
        folder: Where the key files lie.
        make: Make a file that is not there; else it is missing, which is an error.
        current: Says which public key counts now; asked when another process exchanged the file.
    """

    #: The names of the key files.
    FILES = (_SIGNING, _DIGEST)

    def __init__(
        self, folder: Path, *, make: bool = True, current: Callable[[], str | None] | None = None
    ) -> None:
        self._folder = folder
        self._make = make
        self._current = current
        self._read_from: tuple[int, int] | None = None
        self._lock = threading.Lock()
        self._private: Ed25519PrivateKey | None = None
        self._secret: bytes | None = None

    def require(self) -> None:
        """Read both keys now.

        Raises:
            HomeError: if one is missing, cannot be read, or is open to others.
        """
        self._signing_key()
        self._digest_key()

    @property
    def public_key(self) -> str:
        """The public key that checks these keys' signatures: 32 bytes in base64."""
        return public_text(self._signing_key())

    def sign(self, data: bytes) -> str:
        """Return the signature of `data` in base64."""
        return base64.b64encode(self._signing_key().sign(data)).decode("ascii")

    def verify(self, data: bytes, signature: str) -> bool:
        """Return whether this key made the signature of exactly these bytes."""
        return verify_signature(self.public_key, data, signature)

    def digest(self, data: bytes) -> str:
        """Return a keyed SHA-256 in hex: equal data gives equal digests, for this tenant only."""
        return hmac.new(self._digest_key(), data, hashlib.sha256).hexdigest()

    def seal(self, purpose: str, data: bytes) -> str:
        """Return a keyed SHA-256 in hex that no digest or seal of another purpose can equal."""
        key = hmac.digest(self._digest_key(), b"seal:" + purpose.encode(), "sha256")
        return hmac.new(key, data, hashlib.sha256).hexdigest()

    def _signing_key(self) -> Ed25519PrivateKey:
        path = self._folder / _SIGNING
        with self._lock:
            private, read_from = self._private, self._read_from
        if private is not None and _identity(path) in (None, read_from):
            return private
        # Not under the lock: who changes the keys holds kernel.db, and signs, which takes it.
        private, read_from = self._load(path, again=read_from is not None)
        with self._lock:
            self._private, self._read_from = private, read_from
        return private

    def _load(self, path: Path, *, again: bool) -> tuple[Ed25519PrivateKey, tuple[int, int] | None]:
        """Read the key; one that took another's place must be the one that counts now.

        kernel.db takes a new key just before its file does, so that one who looks in between
        sees two that differ, and looks again for a short time.
        """
        deadline = time.monotonic() + _CHANGE_S
        while True:
            identity = _identity(path)
            private = _parse_private(path, self._read(path, _new_private))
            if not again or self._current is None or public_text(private) == self._current():
                return private, identity or _identity(path)
            if time.monotonic() > deadline:
                raise _unusable(
                    path,
                    "was exchanged for one that no rotation made, or a rotation was cut short",
                    "restore it from a backup; after a rotation that was killed, start this"
                    " process anew, which finishes it",
                )  # fmt: skip
            time.sleep(_PAUSE_S)

    def _digest_key(self) -> bytes:
        with self._lock:
            if self._secret is None:
                path = self._folder / _DIGEST
                self._secret = self._read(path, lambda: secrets.token_bytes(32))
                if len(self._secret) != 32:
                    raise _unusable(path, "is not 32 bytes long")
            return self._secret

    def _read(self, path: Path, make: Callable[[], bytes]) -> bytes:
        try:
            if not path.exists():
                if not self._make:
                    raise _unusable(path, "is missing", "restore it from a backup of the home")
                _create(path, make())
            if path.stat().st_mode & 0o077:
                raise _unusable(path, "can be read by others", f"run `chmod 600 {path}`")
            return path.read_bytes()
        except OSError as error:
            raise _unusable(path, f"cannot be used: {error.strerror}") from error


def public_text(private: Ed25519PrivateKey) -> str:
    """Return the public key of a private one: 32 bytes in base64."""
    return base64.b64encode(private.public_key().public_bytes_raw()).decode("ascii")


def read_private(path: Path) -> Ed25519PrivateKey:
    """Return the private key in a file.

    Raises:
        HomeError: if it is missing or no such key.
    """
    try:
        return _parse_private(path, path.read_bytes())
    except OSError as error:
        raise _unusable(path, f"cannot be used: {error.strerror}") from error


def make_private(path: Path) -> Ed25519PrivateKey:
    """Make a private key in a file of its own, synced; one that is there already is taken."""
    if not path.exists():
        _create(path, _new_private())
    return read_private(path)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what changes when another file takes a path."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def is_public_key(text: str) -> bool:
    """Return whether a text is a public key: 32 bytes in base64."""
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except ValueError:
        return False
    return True


def verify_signature(public_key: str, data: bytes, signature: str) -> bool:
    """Return whether the owner of a base64 public key signed `data`; malformed input is False."""
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(base64.b64decode(signature, validate=True), data)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _new_private() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _parse_private(path: Path, data: bytes) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(path, "is not a private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable(path, "is not an Ed25519 key")
    return key


def _create(path: Path, data: bytes) -> None:
    # Where another process was first, its key counts.
    with suppress(FileExistsError), wholefile.whole(path, private=True, replace=False) as file:
        file.write(data)


def _unusable(path: Path, why: str, hint: str = "") -> HomeError:
    return HomeError(
        f"the key file {str(path)!r} {why}",
        hint=hint or "restore it from a backup, or move it away to start with a new key",
    )
