"""Changes inside a file's content: only the chunks and pages at the place are made again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from . import chunker, chunklists, chunks
from .chunklists import HOLE, ChunkList, Item, Segment
from .transaction import Session

INLINE_BYTES = 4096
"""A file of up to this many bytes is in its node; so is a tail of a larger one."""

Piece = tuple[int, bytes | bytearray | memoryview]
"""An offset and the bytes that are written there."""


class Overlay:
    """Bytes written at offsets and not yet stored; a later write wins over an earlier one."""

    def __init__(self) -> None:
        """Begin with nothing written."""
        self._starts: list[int] = []
        self._data: list[bytearray] = []
        self.size_bytes = 0

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Note a write; it joins the ones that it touches."""
        if not len(data):
            return
        first = bisect_right(self._starts, offset)
        if first and self._starts[first - 1] + len(self._data[first - 1]) >= offset:
            first -= 1
        end, last = offset + len(data), first
        while last < len(self._starts) and self._starts[last] <= end:
            last += 1
        self.size_bytes += self._join(first, last, offset, data)

    def _join(
        self, first: int, last: int, offset: int, data: bytes | bytearray | memoryview
    ) -> int:
        """Make one run of a write and the runs that it touches; return by how much they grew."""
        if first == last:
            self._starts.insert(first, offset)
            self._data.insert(first, bytearray(data))
            return len(data)
        before = sum(map(len, self._data[first:last]))
        start = min(offset, self._starts[first])
        run = self._data[first] if start == self._starts[first] else bytearray()
        tail_at = offset + len(data) - self._starts[last - 1]
        tail = self._data[last - 1][tail_at:] if last - 1 > first or not run else b""
        run[offset - start : offset - start + len(data)] = data
        run += tail
        self._starts[first:last] = [start]
        self._data[first:last] = [run]
        return len(run) - before

    def read_into(self, target: bytearray | memoryview, start: int) -> None:
        """Lay the written bytes over a part of the file that begins at `start`."""
        stop = start + len(target)
        index = max(bisect_right(self._starts, start) - 1, 0)
        while index < len(self._starts) and self._starts[index] < stop:
            offset, data = self._starts[index], self._data[index]
            low, high = max(offset, start), min(offset + len(data), stop)
            if low < high:
                target[low - start : high - start] = data[low - offset : high - offset]
            index += 1

    def take(self) -> list[Piece]:
        """Return the runs in order and begin again with nothing."""
        runs: list[Piece] = list(zip(self._starts, self._data, strict=True))
        self._starts, self._data, self.size_bytes = [], [], 0
        return runs


_EMPTY = ChunkList(1, [], b"")


def whole(session: Session, data: bytes | memoryview) -> ChunkList:
    """Store the bytes of a whole file."""
    if len(data) <= INLINE_BYTES:
        return ChunkList(1, [], bytes(data))
    return chunklists.build(session, _items(session, chunker.split(data, len(data))))


def streamed(session: Session, blocks: Iterable[bytes], expected_size: int) -> ChunkList:
    """Store a file that comes in blocks, holding little more than one of them."""
    content = _EMPTY
    for block in blocks:
        size = max(expected_size, content.size + len(block))
        content = _append(session, content, block, size)
    return content


def overwrite(session: Session, content: ChunkList, pieces: list[Piece]) -> ChunkList:
    """Write sorted pieces that do not overlap; one that begins past the end leaves a hole."""
    waiting = list(reversed(pieces))
    while waiting:
        offset, data = waiting[-1]
        if offset > content.size:
            content = resize(session, content, offset)
        if offset >= content.listed:
            waiting.pop()
            content = _write_tail(session, content, offset, data)
        else:
            content = _Rewrite(session, content).run(waiting)
    return content


def resize(session: Session, content: ChunkList, size: int) -> ChunkList:
    """Cut a file, or let it grow by a hole."""
    listed = content.listed
    if size < listed:
        return _inline_if_small(session, _cut(session, content, size))
    if size <= listed + INLINE_BYTES:
        tail = content.tail[: size - listed]
        return content._replace(tail=tail + bytes(size - listed - len(tail)))
    if content.tail:
        content = _flush_tail(session, content, content.tail, content.size)
        if content.tail:
            item = (chunks.put(session, content.tail), len(content.tail))
            content = _add(session, content, [item], b"")
    return _add(session, content, [(HOLE, size - content.size)], b"")


def _cut(session: Session, content: ChunkList, size: int) -> ChunkList:
    last = chunklists.segment_at(session, content, size)
    assert last is not None
    kept = size - last.offset
    items: list[Item] = []
    tail = b""
    if last.chunk_id == HOLE:
        items = [(HOLE, kept)] if kept else []
    else:
        tail = chunks.get(session, last.chunk_id)[:kept]
        if len(tail) > INLINE_BYTES:
            items, tail = [(chunks.put(session, tail), kept)], b""
    return chunklists.splice(session, content, last.offset, content.listed, items, tail)


def _inline_if_small(session: Session, content: ChunkList) -> ChunkList:
    size = content.size
    if not content.items or size > INLINE_BYTES:
        return content
    return ChunkList(1, [], b"".join(chunklists.read(session, content, 0, size)))


def _add(session: Session, content: ChunkList, items: list[Item], tail: bytes) -> ChunkList:
    """Add chunks at the end of the list."""
    end = content.listed
    return chunklists.splice(session, content, end, end, items, tail)


def _write_tail(
    session: Session, content: ChunkList, offset: int, data: bytes | bytearray | memoryview
) -> ChunkList:
    start = offset - content.listed
    tail = b"".join((content.tail[:start], data, content.tail[start + len(data) :]))
    if len(tail) <= INLINE_BYTES:
        return content._replace(tail=tail)
    return _flush_tail(session, content, tail, content.listed + len(tail))


def _append(session: Session, content: ChunkList, data: bytes, size: int) -> ChunkList:
    tail = content.tail + data
    if len(tail) <= INLINE_BYTES:
        return content._replace(tail=tail)
    return _flush_tail(session, content, tail, size)


def _flush_tail(session: Session, content: ChunkList, tail: bytes, size: int) -> ChunkList:
    """Cut the last chunk and a new tail again; what is left over stays a tail if it is small."""
    end = start = content.listed
    last = chunklists.segment_at(session, content, end - 1) if end else None
    if last is not None and last.chunk_id != HOLE:
        start = last.offset
        tail = chunks.get(session, last.chunk_id) + tail
    pieces = list(chunker.split(tail, size))
    left = b""
    if len(pieces) > 1 and len(pieces[-1]) <= INLINE_BYTES:
        left = bytes(pieces.pop())
    return chunklists.splice(session, content, start, end, list(_items(session, pieces)), left)


class _Rewrite:
    """Makes one run of chunks again, with all the pieces that fall into it."""

    def __init__(self, session: Session, content: ChunkList) -> None:
        self.session = session
        self.content = content
        self.listed = content.listed
        self.tail = content.tail
        self.buffer = bytearray()
        self.after: list[Item] = []

    def run(self, waiting: list[Piece]) -> ChunkList:
        """Take pieces from the end of `waiting` as long as they touch the same run."""
        offset, data = waiting.pop()
        first = self._segment(offset)
        before: list[Item] = []
        if first.chunk_id != HOLE:
            self.buffer += self._bytes(first)[: offset - first.offset]
        elif offset > first.offset:
            before = [(HOLE, offset - first.offset)]
        while True:
            self.buffer += data
            stop = self._rest(offset + len(data), waiting)
            if stop is not None:
                break
            offset, data = waiting.pop()
        pieces, stop = self._pieces(stop)
        items = [*before, *_items(self.session, pieces), *self.after]
        return chunklists.splice(self.session, self.content, first.offset, stop, items, self.tail)

    def _rest(self, position: int, waiting: list[Piece]) -> int | None:
        """Add what follows a piece in its chunk; return where the run ends, if not in a piece."""
        if position >= self.listed:
            self.tail = self.tail[position - self.listed :]
            return self.listed
        segment = self._segment(position)
        if segment.offset == position:
            return position
        end = segment.offset + segment.length
        if segment.chunk_id == HOLE:
            self.after = [(HOLE, end - position)]
            return end
        rest = self._bytes(segment)[position - segment.offset :]
        if waiting and waiting[-1][0] < end:
            self.buffer += rest[: waiting[-1][0] - position]
            return None
        self.buffer += rest
        return end

    def _pieces(self, stop: int) -> tuple[list[memoryview], int]:
        """Cut the run; where its last piece is too small, the next chunk joins it."""
        size = self.content.size
        while True:
            pieces = list(chunker.split(bytes(self.buffer), size))
            if self.after or stop >= self.listed or len(pieces[-1]) >= chunker.MIN_BYTES:
                return pieces, stop
            segment = self._segment(stop)
            if segment.chunk_id == HOLE:
                return pieces, stop
            self.buffer += self._bytes(segment)
            stop += segment.length

    def _segment(self, offset: int) -> Segment:
        found = chunklists.segment_at(self.session, self.content, offset)
        assert found is not None
        return found

    def _bytes(self, segment: Segment) -> bytes:
        return chunks.get(self.session, segment.chunk_id)


def _items(session: Session, pieces: Iterable[memoryview]) -> Iterator[Item]:
    """Store pieces as chunks, and runs of zero bytes as holes."""
    hole = 0
    for piece in pieces:
        if len(piece) >= chunker.MIN_BYTES and _is_zero(piece):
            hole += len(piece)
            continue
        if hole:
            yield HOLE, hole
            hole = 0
        yield chunks.put(session, piece), len(piece)
    if hole:
        yield HOLE, hole


def _is_zero(piece: memoryview) -> bool:
    return piece[0] == 0 and piece[-1] == 0 and not bytes(piece).strip(b"\0")
