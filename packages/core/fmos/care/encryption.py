"""Encryption of a stream under a passphrase: scrypt, then ChaCha20-Poly1305 chunk by chunk.

The chunks are numbered and the last one is marked, both in their nonces, so that none can be
changed, exchanged, repeated or cut off unseen (the STREAM construction of Hoang, Reyhanitabar,
Rogaway and Vizár, 2015).

    magic "FMOSSEAL1" and a line feed, scrypt's log2(n) (1 byte), salt (16), nonce prefix (7),
    then chunks of 64 KiB of content, each followed by its tag (16)
"""

from __future__ import annotations

import io
import os
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fmos.errors import FormatError

MAGIC = b"FMOSSEAL1\n"
_CHUNK = 1 << 16
_TAG = 16
_SALT = 16
_PREFIX = 7
_WORK = 16
# More would be somebody's attempt to use up the memory of whoever opens the file.
_MOST_WORK = 20


class EncryptingWriter(io.RawIOBase):
    """Encrypts what is written to it; `close` marks the end and leaves the file open."""

    def __init__(self, file: IO[bytes], passphrase: bytes) -> None:
        super().__init__()
        salt, self._prefix = os.urandom(_SALT), os.urandom(_PREFIX)
        self._file = file
        self._cipher = _cipher(passphrase, salt, _WORK)
        self._number = 0
        self._waiting = bytearray()
        file.write(MAGIC + bytes([_WORK]) + salt + self._prefix)

    def writable(self) -> bool:
        """Return that it is."""
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        """Take bytes; whole chunks are written at once."""
        self._waiting += data
        while len(self._waiting) > _CHUNK:
            self._put(bytes(self._waiting[:_CHUNK]), last=False)
            del self._waiting[:_CHUNK]
        return len(data)

    def finish(self) -> None:
        """Write what is left as the last chunk."""
        self._put(bytes(self._waiting), last=True)
        self._waiting.clear()

    def _put(self, data: bytes, *, last: bool) -> None:
        nonce = _nonce(self._prefix, self._number, last)
        self._file.write(self._cipher.encrypt(nonce, data, None))
        self._number += 1


class DecryptingReader(io.RawIOBase):
    """Decrypts a stream that `EncryptingWriter` made."""

    def __init__(self, file: IO[bytes], passphrase: bytes, name: str) -> None:
        super().__init__()
        head = file.read(len(MAGIC) + 1 + _SALT + _PREFIX)[len(MAGIC) :]
        if len(head) != 1 + _SALT + _PREFIX or not 10 <= head[0] <= _MOST_WORK:
            raise FormatError(f"{name} is cut short or damaged", hint="use another backup")
        self._file = file
        self._name = name
        self._prefix = head[1 + _SALT :]
        self._cipher = _cipher(passphrase, head[1 : 1 + _SALT], head[0])
        self._number = 0
        self._next = file.read(_CHUNK + _TAG)
        self._data = b""

    def readable(self) -> bool:
        """Return that it is."""
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Fill a buffer with what comes next; 0 is the end.

        Raises:
            FormatError: for another passphrase, or where the file was changed or cut.
        """
        if not self._data and self._next:
            self._data = self._opened()
        count = min(len(buffer), len(self._data))
        buffer[:count] = self._data[:count]
        self._data = self._data[count:]
        return count

    def _opened(self) -> bytes:
        encrypted, self._next = self._next, self._file.read(_CHUNK + _TAG)
        nonce = _nonce(self._prefix, self._number, not self._next)
        try:
            opened = self._cipher.decrypt(nonce, encrypted, None)
        except InvalidTag as error:
            raise self._refused() from error
        self._number += 1
        return opened

    def _refused(self) -> FormatError:
        if self._number:
            return FormatError(f"{self._name} is cut short or damaged", hint="use another backup")
        return FormatError(
            f"{self._name} does not open with this passphrase, or is damaged",
            hint="name the file with the right passphrase",
        )


def _cipher(passphrase: bytes, salt: bytes, work: int) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(Scrypt(salt, 32, 1 << work, 8, 1).derive(passphrase))


def _nonce(prefix: bytes, number: int, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([last])
