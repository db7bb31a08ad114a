"""Where a file is cut into chunks; the format admits any boundaries."""

from __future__ import annotations

from collections.abc import Iterator

CHUNK_BYTES = 16 * 1024


def split(data: bytes | memoryview) -> Iterator[memoryview]:
    """Yield the pieces of some bytes in order."""
    view = memoryview(data)
    for start in range(0, len(view), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]
