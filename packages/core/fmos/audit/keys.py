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
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fmos.errors import HomeError

_SIGNING = "audit.pem"
_DIGEST = "digest.key"


class AuditKeys:
    """The keys in one folder. Thread-safe; processes that start together agree on one key.

    Args:
        folder: Where the key files lie.
        make: Make a file that is not there; else it is missing, which is an error.
    """

    #: The names of the key files.
    FILES = (_SIGNING, _DIGEST)

    def __init__(self, folder: Path, *, make: bool = True) -> None:
        self._folder = folder
        self._make = make
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
        raw = self._signing_key().public_key().public_bytes_raw()
        return base64.b64encode(raw).decode("ascii")

    def sign(self, data: bytes) -> str:
        """Return the signature of `data` in base64."""
        return base64.b64encode(self._signing_key().sign(data)).decode("ascii")

    def verify(self, data: bytes, signature: str) -> bool:
        """Return whether this key made the signature of exactly these bytes."""
        return verify_signature(self.public_key, data, signature)

    def digest(self, data: bytes) -> str:
        """Return a keyed SHA-256 in hex: equal data gives equal digests, for this tenant only."""
        return hmac.new(self._digest_key(), data, hashlib.sha256).hexdigest()

    def _signing_key(self) -> Ed25519PrivateKey:
        with self._lock:
            if self._private is None:
                path = self._folder / _SIGNING
                self._private = _parse_private(path, self._read(path, _new_private))
            return self._private

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
    """Write the whole file under another name, then link it: nobody ever sees half a key."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first; its key counts
    finally:
        draft.unlink()


def _unusable(path: Path, why: str, hint: str = "") -> HomeError:
    return HomeError(
        f"the key file {str(path)!r} {why}",
        hint=hint or "restore it from a backup, or move it away to start with a new key",
    )
