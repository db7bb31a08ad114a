"""Encryption at rest with the `encryption` extra, which brings another build of the apsw module.

Every page of the file, its write-ahead log and its journals is encrypted by SQLite3 Multiple
Ciphers (ChaCha20-Poly1305); temporary tables stay in memory. The key is not stored anywhere.
"""

from __future__ import annotations

import apsw

from .errors import EncryptionMissing, InvalidArgument, WrongKey

Key = str | bytes
HEADER_BYTES = 24
_PLAIN = b"SQLite format 3\0"
# SQLite's payload fractions, which the cipher leaves readable beside the page size.
_FRACTIONS = bytes((64, 32, 32))


def is_available() -> bool:
    """Say whether the SQLite in use can encrypt."""
    return hasattr(apsw, "mc_version")


def check_key(path: str, key: Key | None) -> bytes | None:
    """Return a key as bytes; text is taken as UTF-8.

    Raises:
        InvalidArgument: the key is empty.
        EncryptionMissing: the extra is not installed.
    """
    if key is None:
        return None
    raw = key.encode() if isinstance(key, str) else bytes(key)
    if not raw:
        raise InvalidArgument(path, "a key cannot be empty")
    if not is_available():
        raise EncryptionMissing(path, "the SQLite in use has no ciphers")
    return raw


def is_encrypted(head: bytes) -> bool:
    """Say whether a file that begins with these bytes looks like an encrypted volume."""
    return not head.startswith(_PLAIN) and head[21:24] == _FRACTIONS and head[16:18] == b"\x10\0"


def check_file(path: str, head: bytes, key: bytes | None) -> None:
    """Refuse a file that needs a key and got none, or the other way round.

    Raises:
        WrongKey: see the message.
    """
    if is_encrypted(head) and key is None:
        raise WrongKey(path, "it is encrypted; open it with its key")
    if head.startswith(_PLAIN) and key is not None:
        raise WrongKey(path, "it is not encrypted; open it without a key")


def unlock(connection: apsw.Connection, path: str, key: bytes) -> None:
    """Give a new connection its key, and read a page with it.

    Raises:
        WrongKey: the pages do not open with it.
    """
    connection.pragma("hexkey", key.hex())
    connection.pragma("temp_store", 2)
    try:
        connection.pragma("schema_version")
    except apsw.NotADBError as error:
        raise WrongKey(path, "it was written with another key") from error


def change_key(connection: apsw.Connection, key: bytes | None) -> None:
    """Write every page anew under another key, or as plain bytes; nobody else may be connected."""
    connection.pragma("journal_mode", "delete")
    if key is None:
        connection.pragma("rekey", "")
    else:
        connection.pragma("hexrekey", key.hex())
    connection.pragma("journal_mode", "wal")
