"""What was written to a file and is not stored yet, and what is left of a removed one."""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_left
from collections.abc import Callable

from agentfs.edits import Overlay, Piece
from agentfs.nodes import Node

COMMIT_BYTES = 8 * 1024 * 1024
_IN_MEMORY_BYTES = 64 * 1024 * 1024

Reader = Callable[[Node, int, int], bytes]
"""Returns the bytes of a stored version from one offset to another."""


class Written(Overlay):
    """Bytes written at offsets, which a truncation can cut off."""

    def cut(self, size: int) -> None:
        """Drop what is at and behind an offset."""
        index = bisect_left(self._starts, size)
        del self._starts[index:]
        del self._data[index:]
        if self._starts and self._starts[-1] + len(self._data[-1]) > size:
            del self._data[-1][size - self._starts[-1] :]
        self.size_bytes = sum(map(len, self._data))

    def runs(self) -> list[Piece]:
        """Return the runs in order and keep them."""
        return list(zip(self._starts, self._data, strict=True))

    def whole(self, size: int) -> bytearray | None:
        """Return the bytes of a file of this size if one run has all of them."""
        if not size:
            return bytearray()
        if self._starts == [0] and len(self._data[0]) == size:
            return self._data[0]
        return None


class Content:
    """Changes of one file since its stored version `base`, of which `limit` bytes still count."""

    __slots__ = ("base", "is_new", "limit", "since_ns", "spool", "written")

    def __init__(self, base: Node | None, since_ns: int) -> None:
        """Begin with nothing changed; without `base` the file is not stored at all yet."""
        self.base = base
        self.is_new = base is None
        self.limit = 0 if base is None else base.size
        self.written = Written()
        self.since_ns = since_ns
        # What holds the bytes of a file that no name leads to any more.
        self.spool = -1

    def read(self, start: int, stop: int, stored: Reader) -> bytes | bytearray:
        """Return the bytes between two offsets of which both are inside the file."""
        if self.spool >= 0:
            return os.pread(self.spool, stop - start, start)
        found = bytearray(stop - start)
        if self.base is not None and start < self.limit:
            kept = stored(self.base, start, min(stop, self.limit))
            found[: len(kept)] = kept
        self.written.read_into(found, start)
        return found

    def write(self, offset: int, data: memoryview) -> None:
        """Lay bytes over the file."""
        if self.spool >= 0:
            os.pwrite(self.spool, data, offset)
        else:
            self.written.write(offset, data)

    def resize(self, size: int) -> None:
        """Cut the file, or let it grow by zero bytes."""
        if self.spool >= 0:
            os.ftruncate(self.spool, size)
            return
        self.limit = min(self.limit, size)
        self.written.cut(size)

    def detach(self, size: int, stored: Reader, in_memory: bool) -> None:
        """Copy the bytes out of the volume, where nothing keeps them from now on."""
        if self.spool >= 0:
            return
        if in_memory or size <= _IN_MEMORY_BYTES:
            spool = os.memfd_create("agentfs-removed")
        else:
            with tempfile.TemporaryFile() as file:
                spool = os.dup(file.fileno())
        os.ftruncate(spool, size)
        step = 1 << 20
        for start in range(0, min(self.limit, size), step):
            stop = min(start + step, self.limit, size)
            os.pwrite(spool, stored(self.base, start, stop) if self.base else b"", start)
        for offset, data in self.written.take():
            os.pwrite(spool, data, offset)
        self.spool = spool

    def close(self) -> None:
        """Let the bytes of a removed file go."""
        if self.spool >= 0:
            os.close(self.spool)
            self.spool = -1
