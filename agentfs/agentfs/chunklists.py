"""The chunks that make up a file: a tree of pages, holes, and a tail beside the top page."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from . import chunks
from .errors import Corrupt
from .transaction import Session

LIST_ITEMS = 128
HOLE = 0
_ZERO_BLOCK = bytes(1024 * 1024)
_ITEM = struct.Struct("<QQ")
_COUNT = struct.Struct("<I")

Item = tuple[int, int]
"""A chunk's id and the file bytes that it, or the page that it holds, stands for."""


class ChunkList(NamedTuple):
    """What a node's layout and data say: the top page's items, and the file's last bytes."""

    levels: int
    items: list[Item]
    tail: bytes

    @property
    def listed(self) -> int:
        """Return how many bytes are in chunks and holes; the tail follows them."""
        return sum(length for _, length in self.items)

    @property
    def size(self) -> int:
        """Return the bytes of the file."""
        return self.listed + len(self.tail)


class Segment(NamedTuple):
    """One chunk or hole of a file and where it begins."""

    offset: int
    chunk_id: int
    length: int


def decode(layout: int, data: bytes) -> ChunkList:
    """Read a node's layout and data; inline content is a tail without chunks.

    Raises:
        Corrupt: the data is too short.
    """
    if not layout:
        return ChunkList(1, [], data)
    if layout < 0:
        raise Corrupt("chunk list", "the content is in a file of the host")
    if len(data) < _COUNT.size:
        raise Corrupt("chunk list", "it is too short")
    end = _COUNT.size + _COUNT.unpack_from(data)[0] * _ITEM.size
    if len(data) < end:
        raise Corrupt("chunk list", "it is too short")
    return ChunkList(layout, decode_page(data[_COUNT.size : end]), data[end:])


def encode(content: ChunkList) -> tuple[int, bytes]:
    """Return the layout and the data of a node."""
    if not content.items:
        return 0, content.tail
    page = _encode_page(content.items)
    return content.levels, _COUNT.pack(len(content.items)) + page + content.tail


def decode_page(page: bytes) -> list[Item]:
    """Return the items of one page.

    Raises:
        Corrupt: the page has a broken length.
    """
    if len(page) % _ITEM.size:
        raise Corrupt("chunk list", "its length is no multiple of an item's")
    return list(_ITEM.iter_unpack(page))  # type: ignore[arg-type]


def _encode_page(items: Iterable[Item]) -> bytes:
    return b"".join(_ITEM.pack(*item) for item in items)


def _page(session: Session, chunk_id: int) -> list[Item]:
    return decode_page(chunks.get(session, chunk_id))


def chunk_ids(session: Session, content: ChunkList) -> Iterator[int]:
    """Yield the id of every chunk of a file, of pages and data, holes left out."""
    waiting = [(content.levels, content.items)]
    while waiting:
        levels, items = waiting.pop()
        for chunk_id, _ in items:
            if chunk_id != HOLE:
                yield chunk_id
                if levels > 1:
                    waiting.append((levels - 1, _page(session, chunk_id)))


def segments(
    session: Session, content: ChunkList, start: int = 0, stop: int | None = None
) -> Iterator[Segment]:
    """Yield the chunks and holes that overlap a range, reading only the pages above them."""
    end = content.listed if stop is None else stop
    return _segments(session, content.levels, content.items, 0, start, end)


def _segments(
    session: Session, levels: int, items: list[Item], offset: int, start: int, stop: int
) -> Iterator[Segment]:
    for chunk_id, length in items:
        if offset >= stop:
            return
        if offset + length > start:
            if levels > 1:
                below = _page(session, chunk_id)
                yield from _segments(session, levels - 1, below, offset, start, stop)
            else:
                yield Segment(offset, chunk_id, length)
        offset += length


def segment_at(session: Session, content: ChunkList, offset: int) -> Segment | None:
    """Return the chunk or hole that holds an offset, unless it is in the tail or beyond."""
    return next(segments(session, content, offset, offset + 1), None)


def read(session: Session, content: ChunkList, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes of a range, touching only its chunks."""
    for offset, chunk_id, length in segments(session, content, start, stop):
        first, last = max(start - offset, 0), min(stop - offset, length)
        if chunk_id == HOLE:
            yield from _zeros(last - first)
            continue
        data = chunks.get(session, chunk_id)
        if len(data) != length:
            raise Corrupt(f"chunk {chunk_id}", "it has another size than its list says")
        yield data if last - first == length else data[first:last]
    listed = content.listed
    if stop > listed:
        yield content.tail[max(start - listed, 0) : stop - listed]


def _zeros(count: int) -> Iterator[bytes]:
    while count > len(_ZERO_BLOCK):
        yield _ZERO_BLOCK
        count -= len(_ZERO_BLOCK)
    yield _ZERO_BLOCK if count == len(_ZERO_BLOCK) else bytes(count)


def build(session: Session, items: Iterable[Item], tail: bytes = b"") -> ChunkList:
    """Make a list of items that may be more than fit into memory, a page at a time."""
    source = iter(items)
    first = list(islice(source, LIST_ITEMS))
    content = ChunkList(1, first, tail)
    while more := list(islice(source, LIST_ITEMS)):
        end = content.listed
        content = splice(session, content, end, end, more)
    return content


def splice(
    session: Session, content: ChunkList, start: int, stop: int, items: list[Item],
    tail: bytes | None = None,
) -> ChunkList:  # fmt: skip
    """Replace the chunks from one boundary to another; pages beside them stay as they are."""
    levels = content.levels
    packed = stop == content.listed
    top = _splice(session, levels, content.items, start, stop, items, packed)
    while len(top) > LIST_ITEMS:
        top = _pages(session, top, packed)
        levels += 1
    while levels > 1 and len(top) <= 1:
        top = _page(session, top[0][0]) if top else []
        levels -= 1
    return ChunkList(levels, top, content.tail if tail is None else tail)


def _splice(
    session: Session, levels: int, items: list[Item], start: int, stop: int, new: list[Item],
    packed: bool,
) -> list[Item]:  # fmt: skip
    first, begin = _child_at(items, start, levels > 1)
    last, end = first, begin
    while last < len(items) and end < stop:
        end += items[last][1]
        last += 1
    if levels == 1:
        return items[:first] + new + items[last:]
    last = max(last, first + 1)
    inner = _page(session, items[first][0])
    if last - first > 1:
        inner += _page(session, items[last - 1][0])
        stop -= sum(length for _, length in items[first + 1 : last - 1])
    inner = _splice(session, levels - 1, inner, start - begin, stop - begin, new, packed)
    return items[:first] + _pages(session, inner, packed) + items[last:]


def _child_at(items: list[Item], offset: int, inside: bool) -> tuple[int, int]:
    """Return the item that begins at or holds an offset, and its start; at the end, the last."""
    begin = 0
    for index, (_, length) in enumerate(items):
        if begin + length > offset:
            return index, begin
        begin += length
    return (len(items) - 1, begin - items[-1][1]) if inside else (len(items), begin)


def _pages(session: Session, items: list[Item], packed: bool) -> list[Item]:
    """Store items as pages: full ones where the file grows at its end, else of equal size."""
    if not items:
        return []
    count = -(-len(items) // LIST_ITEMS)
    size = LIST_ITEMS if packed else -(-len(items) // count)
    groups = [items[start : start + size] for start in range(0, len(items), size)]
    return [
        (chunks.put(session, _encode_page(group)), sum(length for _, length in group))
        for group in groups
    ]
