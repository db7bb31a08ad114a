"""Where a file is cut into chunks: boundaries follow the content; the format admits any."""

from __future__ import annotations

from collections.abc import Iterator

from pyfastcdc import FastCDC

MIN_BYTES = 4096
SMALL_FILE_BYTES = 16 * 1024
LARGE_FILE_BYTES = 4 * 1024 * 1024
# An edit costs about one chunk, a large file is faster with fewer: docs/decisions/0004.
_SMALL = FastCDC(8192, min_size=MIN_BYTES, max_size=64 * 1024, normalized_chunking=2)
_LARGE = FastCDC(32 * 1024, min_size=8192, max_size=128 * 1024, normalized_chunking=2)


def split(data: bytes | bytearray | memoryview, file_size: int) -> Iterator[memoryview]:
    """Yield the pieces of some bytes in order; the size of the whole file decides how large."""
    view = memoryview(data)
    if len(view) <= MIN_BYTES or file_size <= SMALL_FILE_BYTES:
        if view:
            yield view
        return
    cutter = _SMALL if file_size < LARGE_FILE_BYTES else _LARGE
    for piece in cutter.cut_buf(view):
        yield view[piece.offset : piece.offset + piece.length]
