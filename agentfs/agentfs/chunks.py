"""Content-addressed bytes: put once, get verified, and lists of chunks as a tree of pages."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable, Iterator

import zstandard
from blake3 import blake3

from .errors import Corrupt
from .transaction import Session

RAW, ZSTD = 0, 1
LIST_ITEMS = 64
_WORTH = 0.9
_COMPRESS_FROM = 128
_LEVEL = 1
_ITEM = struct.Struct("<QQ")
_local = threading.local()

_FIND = "SELECT id FROM chunk WHERE hash = ?"
_INSERT = "INSERT INTO chunk(id, hash, size, codec, data) VALUES (?, ?, ?, ?, ?)"
_GET = "SELECT hash, size, codec, data FROM chunk WHERE id = ?"

Item = tuple[int, int]
"""A chunk's id and the file bytes that it, or the page that it holds, stands for."""


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


def _compress(data: bytes | memoryview) -> tuple[int, bytes | memoryview]:
    if len(data) < _COMPRESS_FROM:
        return RAW, data
    compressor = getattr(_local, "compressor", None)
    if compressor is None:
        compressor = _local.compressor = zstandard.ZstdCompressor(level=_LEVEL)
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


def write_list(session: Session, items: list[Item]) -> tuple[int, bytes]:
    """Return the levels and the top page of a chunk list; lower pages are stored as chunks."""
    levels = 1
    while len(items) > LIST_ITEMS:
        items = list(_write_pages(session, items))
        levels += 1
    return levels, _encode(items)


def _write_pages(session: Session, items: list[Item]) -> Iterator[Item]:
    for start in range(0, len(items), LIST_ITEMS):
        page = items[start : start + LIST_ITEMS]
        yield put(session, _encode(page)), sum(length for _, length in page)


def read_list(session: Session, levels: int, page: bytes) -> Iterator[Item]:
    """Yield the data chunks of a list in order."""
    for item in decode(page):
        if levels > 1:
            yield from read_list(session, levels - 1, get(session, item[0]))
        else:
            yield item


def read_range(
    session: Session, levels: int, page: bytes, start: int, stop: int
) -> Iterator[bytes]:
    """Yield the bytes from `start` to `stop` of what a list stands for, touching only them."""
    offset = 0
    for chunk_id, length in decode(page):
        first, last = max(start - offset, 0), min(stop - offset, length)
        if first < last:
            below = get(session, chunk_id)
            if levels > 1:
                yield from read_range(session, levels - 1, below, first, last)
            else:
                yield below if last - first == len(below) else below[first:last]
        offset += length


def _encode(items: Iterable[Item]) -> bytes:
    return b"".join(_ITEM.pack(*item) for item in items)


def decode(page: bytes) -> list[Item]:
    """Return the items of one page of a list.

    Raises:
        Corrupt: the page has a broken length.
    """
    if len(page) % _ITEM.size:
        raise Corrupt("chunk list", "its length is no multiple of an item's")
    return list(_ITEM.iter_unpack(page))  # type: ignore[arg-type]
