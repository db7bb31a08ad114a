"""How values become bytes that a volume stores once, however often a value grows a little.

A list in msgpack begins with its length, so that each growth would change its first bytes: here
the length goes to the end, and the volume's content-defined chunks find the rest unchanged. With
LangGraph's `EncryptedSerializer` equal bytes would become different ones each time: here a value
is cut first, and a piece that an earlier version had keeps the ciphertext that it has there.

    plain:   "=" or "~" (turned), kind, NUL, body
    fields:  ".", msgpack of what the saver itself writes down, whatever the serializer is
    packed:  "z", zstd of a plain one; only of small ones, which the volume does not compress
    cipher:  "#", pieces, index of the pieces, its cipher's name, both lengths;
             pieces and index are compressed and then encrypted
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from typing import Any

import ormsgpack
import zstandard
from blake3 import blake3
from langgraph.checkpoint.serde.base import CipherProtocol, SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from agentfs import chunker

SMALL_BYTES = 4096
_WORTH_PACKING = 200
_AS_IS, _TURNED, _FIELDS, _PACKED, _ENCRYPTED = b"=", b"~", b".", b"z", b"#"
_LENGTHS = struct.Struct(">II")
_local = threading.local()


class Codec:
    """Turns values into bytes and back, as a saver's serializer says."""

    def __init__(self, serde: SerializerProtocol) -> None:
        """Take the serializer of a saver."""
        encrypted = isinstance(serde, EncryptedSerializer)
        self._plain: SerializerProtocol = serde.serde if encrypted else serde
        self._cipher: CipherProtocol | None = serde.cipher if encrypted else None

    @property
    def encrypts(self) -> bool:
        """Whether `encrypt` changes anything."""
        return self._cipher is not None

    def dump(self, value: Any, *, pack: bool = True) -> bytes:
        """Return the bytes of a value, not encrypted yet; packed ones cannot be packed again."""
        kind, body = self._plain.dumps_typed(value)
        turned = _header_bytes(body) if kind == "msgpack" and len(body) > SMALL_BYTES else 0
        if turned:
            head, tail = _TURNED, (body[:turned], bytes([turned]))
            return b"".join((head, kind.encode(), b"\0", memoryview(body)[turned:], *tail))
        data = b"".join((_AS_IS, kind.encode(), b"\0", body))
        return _packed(data) if pack else data

    def dump_fields(self, *fields: Any) -> bytes:
        """Return the bytes of text, numbers, bytes, lists and dictionaries: `load` gives a list.

        Serializers need not know bytes, so what is no value of the graph does without them.
        """
        return _packed(_FIELDS + ormsgpack.packb(fields))

    def load(self, data: bytes) -> Any:
        """Return the value that `dump` was given."""
        if data.startswith(_PACKED):
            data = zstandard.ZstdDecompressor().decompress(data[1:])
        if data.startswith(_FIELDS):
            return ormsgpack.unpackb(data[1:])
        end = data.index(b"\0")
        if data.startswith(_TURNED):
            # Views, so that a large value is copied once.
            head, whole = -1 - data[-1], memoryview(data)
            body = b"".join((whole[head:-1], whole[end + 1 : head]))
        else:
            body = data[end + 1 :]
        return self._plain.loads_typed((data[1:end].decode(), body))

    def encrypt(self, data: bytes, before: bytes | None = None) -> bytes:
        """Encrypt bytes where the serializer does, with the pieces that `before` has already."""
        if self._cipher is None:
            return data
        known = dict(self._pieces(before)) if before else {}
        index: list[tuple[bytes, str, int]] = []
        pieces: list[bytes] = []
        for piece in chunker.split(data, len(data)):
            key = blake3(piece).digest(16)
            name, ciphertext = known.get(key) or self._encrypted(self._cipher, bytes(piece))
            index.append((key, name, len(ciphertext)))
            pieces.append(ciphertext)
        name, ciphertext = self._encrypted(self._cipher, ormsgpack.packb(index))
        lengths = _LENGTHS.pack(len(name), len(ciphertext))
        return b"".join((_ENCRYPTED, *pieces, ciphertext, name.encode(), lengths))

    def decrypt(self, stored: bytes) -> bytes:
        """Return the bytes that `encrypt` was given.

        Raises:
            ValueError: the bytes are encrypted, and the saver's serializer is not, or has
                another key.
        """
        if not stored.startswith(_ENCRYPTED):
            return stored
        return b"".join(self._decrypted(*piece) for _, piece in self._pieces(stored))

    def _pieces(self, stored: bytes) -> Iterator[tuple[bytes, tuple[str, bytes]]]:
        """Yield the key, cipher name and ciphertext of each piece."""
        if not stored.startswith(_ENCRYPTED):
            return
        end = len(stored) - _LENGTHS.size
        name_bytes, index_bytes = _LENGTHS.unpack(stored[end:])
        name = stored[end - name_bytes : end].decode()
        end -= name_bytes
        index = self._decrypted(name, stored[end - index_bytes : end])
        start = len(_ENCRYPTED)
        for key, piece_name, length in ormsgpack.unpackb(index):
            yield key, (piece_name, stored[start : start + length])
            start += length

    @staticmethod
    def _encrypted(cipher: CipherProtocol, data: bytes) -> tuple[str, bytes]:
        """Encrypt bytes; compressed first, because a volume cannot compress a ciphertext."""
        return cipher.encrypt(_compressor().compress(data))

    def _decrypted(self, name: str, ciphertext: bytes) -> bytes:
        if self._cipher is None:
            raise ValueError(
                "this checkpoint is encrypted: give the saver the EncryptedSerializer that wrote it"
            )
        try:
            packed = self._cipher.decrypt(name, ciphertext)
            return zstandard.ZstdDecompressor().decompress(packed)
        # Ciphers share no error class, and many of their errors have no text.
        except Exception as error:
            raise ValueError(
                f"this checkpoint cannot be decrypted ({error!r}): its bytes are damaged, or the "
                "saver's EncryptedSerializer has another key than the one that wrote it"
            ) from error


def _header_bytes(body: bytes) -> int:
    """Return the bytes that say how long a msgpack array is; 0 when it is no array."""
    first = body[0]
    if 0x90 <= first <= 0x9F:
        return 1
    return {0xDC: 3, 0xDD: 5}.get(first, 0)


def _packed(data: bytes) -> bytes:
    """Compress small bytes where that makes them fewer."""
    if not _WORTH_PACKING <= len(data) <= SMALL_BYTES:
        return data
    packed = _PACKED + _compressor().compress(data)
    return packed if len(packed) < len(data) else data


def _compressor() -> zstandard.ZstdCompressor:
    if not hasattr(_local, "compressor"):
        _local.compressor = zstandard.ZstdCompressor(level=3)
    return _local.compressor
