"""The bytes of one file of an AgentFS 0.4 volume, checked before any is written."""

from __future__ import annotations

from collections.abc import Iterator

from agentfs import directories, files, tree
from agentfs.nodes import Node, View

from .entries import KEPT_MODE, Bad, mtime_ns
from .source import BLOCK_BYTES, Entry, Source

#: A file with fewer bytes than its size says has zeros there, as on a disk, up to this size.
_SPARSE_BYTES = 2**40


class Content:
    """The bytes of a file, checked against its size before anything is written."""

    def __init__(self, source: Source, entry: Entry) -> None:
        self.source = source
        self.entry = entry
        self.shape = source.shape(entry.ino)
        self.stored = self.shape.total or 0
        reason = self._wrong()
        if reason is not None:
            raise Bad(reason)
        self.is_dense = self.stored == entry.size
        if not self.is_dense and entry.size > _SPARSE_BYTES:
            raise Bad(f"its size is {entry.size}, and only {self.stored} bytes are stored")

    def _wrong(self) -> str | None:
        shape, size, width = self.shape, self.entry.size, self.source.chunk_bytes
        if not shape.chunks:
            return None
        if shape.wrong:
            return "it has chunks that are no bytes"
        if shape.first < 0 or shape.longest > width:
            return f"it has chunks before its start, or above {width} bytes"
        if shape.last * width >= size or self.stored > size:
            return f"its chunks go beyond its size, which is {size}"
        return None

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes of a file without holes, in blocks."""
        parts: list[bytes] = []
        length = 0
        for number, data in self._checked():
            if number * self.source.chunk_bytes != length:
                raise Bad(f"its chunk {number} is not where the ones before it end")
            parts.append(data)
            length += len(data)
            if len(parts) * self.source.chunk_bytes >= BLOCK_BYTES:
                yield b"".join(parts)
                parts.clear()
        if length != self.stored:
            raise Bad("its chunks changed while they were read")
        yield b"".join(parts)

    def _checked(self) -> Iterator[tuple[int, bytes]]:
        """Yield chunks in strict order that end within the file."""
        last, width = -1, self.source.chunk_bytes
        for number, data in self.source.chunks(self.entry.ino):
            if number <= last:
                raise Bad(f"it has its chunk {number} twice")
            if number * width + len(data) > self.entry.size:
                raise Bad(f"its chunks go beyond its size, which is {self.entry.size}")
            last = number
            yield number, data

    def write(self, view: View, place: directories.Place) -> None:
        """Store the file at a place, holding a block of it in memory."""
        mode, when = self.entry.mode & KEPT_MODE, mtime_ns(self.entry)
        if self.is_dense:
            files.write_stream(view, place, self.blocks(), self.entry.size, mode, "put", when)
            return
        for _ in self._checked():
            pass  # a bad chunk must show before the first write
        files.write_at(view, place, b"", mode, "put")
        files.patch(view, place.path, [(self.entry.size, None)], "put")
        for patches in self._patches():
            files.patch(view, place.path, patches, "put")
        tree.utime(view, place.path, when)

    def _patches(self) -> Iterator[list[files.Patch]]:
        patches: list[files.Patch] = []
        for number, data in self._checked():
            patches.append((number * self.source.chunk_bytes, data))
            if len(patches) * self.source.chunk_bytes >= BLOCK_BYTES:
                yield patches
                patches = []
        if patches:
            yield patches

    def same_as(self, view: View, node: Node) -> bool:
        """Say whether a file of the branch has these bytes."""
        if not self.is_dense:
            return self._same_sparse(view, node)
        position = 0
        for block in self.blocks():
            if files.content(view, node, position, position + len(block)) != block:
                return False
            position += len(block)
        return position == node.size

    def _same_sparse(self, view: View, node: Node) -> bool:
        """Compare the stored chunks, and what is between them with zeros."""
        width, zeros = self.source.chunk_bytes, 0
        for number, data in self._checked():
            start = number * width
            if not _is_zero(view, node, zeros, start):
                return False
            if files.content(view, node, start, start + len(data)) != data:
                return False
            zeros = start + len(data)
        return _is_zero(view, node, zeros, node.size)


def _is_zero(view: View, node: Node, start: int, stop: int) -> bool:
    for position in range(start, stop, BLOCK_BYTES):
        if files.content(view, node, position, min(position + BLOCK_BYTES, stop)).strip(b"\0"):
            return False
    return True
