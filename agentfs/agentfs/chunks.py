"""Content-addressed bytes: put once, get verified, and a check of all that is stored."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import zstandard
from blake3 import blake3

from .errors import Corrupt
from .transaction import Session

RAW, ZSTD = 0, 1
_WORTH = 0.9
_COMPRESS_FROM = 128
_SAMPLE_FROM = 8192
_SAMPLE_BYTES = 1024
_LEVEL = 1
_local = threading.local()

_FIND = "SELECT id FROM chunk WHERE hash = ?"
_INSERT = "INSERT INTO chunk(id, hash, size, codec, data) VALUES (?, ?, ?, ?, ?)"
_GET = "SELECT hash, size, codec, data FROM chunk WHERE id = ?"
_IDS = "SELECT id FROM chunk WHERE id > ? ORDER BY id LIMIT 1000"


def put(session: Session, data: bytes | memoryview) -> int:
    """Store some bytes unless they are there, and return the chunk's id.

    The look-up is in the write transaction, so that a concurrent sweep cannot take the chunk away.
    """
    digest = blake3(data).digest()
    row = session.execute(_FIND, (digest,)).fetchone()
    if row is not None:
        return row[0]
    chunk_id = session.new_id("next_chunk")
    codec, stored = _compress(data)
    session.execute(_INSERT, (chunk_id, digest, len(data), codec, stored))
    return chunk_id


def get(session: Session, chunk_id: int) -> bytes:
    """Return a chunk's bytes, checked against its hash unless verification is off.

    Raises:
        Corrupt: the chunk is missing or its bytes changed.
    """
    row = session.execute(_GET, (chunk_id,)).fetchone()
    if row is None:
        raise Corrupt(f"chunk {chunk_id}", "a file refers to it")
    digest, size, codec, stored = row
    data = _decompress(chunk_id, size, stored) if codec == ZSTD else stored
    if session.verify and blake3(data).digest() != digest:
        raise Corrupt(f"chunk {chunk_id}", "its bytes do not match its hash")
    return data


def verify_all(session: Session) -> Iterator[tuple[str, int, str]]:
    """Hash every chunk; yield the kind of row ("chunk"), its id and what is wrong with it."""
    verify, session.verify = session.verify, True
    last = -1
    try:
        while ids := session.execute(_IDS, (last,)).fetchall():
            for (last,) in ids:
                try:
                    get(session, last)
                except Corrupt as error:
                    yield "chunk", last, str(error)
    finally:
        session.verify = verify


def _compress(data: bytes | memoryview) -> tuple[int, bytes | memoryview]:
    if len(data) < _COMPRESS_FROM:
        return RAW, data
    compressor = getattr(_local, "compressor", None)
    if compressor is None:
        compressor = _local.compressor = zstandard.ZstdCompressor(level=_LEVEL)
    if len(data) >= _SAMPLE_FROM:
        middle = len(data) // 2
        sample = compressor.compress(data[middle : middle + _SAMPLE_BYTES])
        if len(sample) >= _SAMPLE_BYTES:
            return RAW, data
    packed = compressor.compress(data)
    return (ZSTD, packed) if len(packed) <= len(data) * _WORTH else (RAW, data)


def _decompress(chunk_id: int, size: int, stored: bytes) -> bytes:
    decompressor = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    try:
        return decompressor.decompress(stored, max_output_size=size)
    except zstandard.ZstdError as error:
        raise Corrupt(f"chunk {chunk_id}", "it does not decompress") from error
