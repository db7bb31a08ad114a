"""Whole-file calls: read, write, append, truncate, patch; inline bytes or a chunk list."""

from __future__ import annotations

from collections.abc import Sequence

from . import chunker, chunks, directories, journal, nodes
from .directories import Place
from .errors import Corrupt, InvalidArgument, IsADirectory, NotFound
from .nodes import DIRECTORY, FILE, Node, View

INLINE_BYTES = 4096
Patch = tuple[int, bytes | None]
"""An offset with the bytes written there; without bytes, the file's new size."""


def content(view: View, node: Node, start: int = 0, stop: int | None = None) -> bytes:
    """Return the bytes of a file version, or a range of them."""
    session = view.session
    stored = nodes.data(session, node.id)
    stop = node.size if stop is None else min(stop, node.size)
    if not node.layout:
        return stored if not start and stop == len(stored) else stored[start:stop]
    found = b"".join(chunks.read_range(session, node.layout, stored, start, stop))
    if len(found) != max(stop - start, 0):
        raise Corrupt(f"node {node.id}", "its chunk list is shorter than its size")
    return found


def require_file(place: Place, path: str) -> Node:
    """Return the file at a place.

    Raises:
        NotFound, IsADirectory.
    """
    if place.node is None:
        raise NotFound(path)
    if place.node.kind == DIRECTORY:
        raise IsADirectory(path)
    return place.node


def read(view: View, path: str, start: int = 0, stop: int | None = None) -> bytes:
    """Return the bytes of the file at a path."""
    return content(view, require_file(directories.locate(view, path), path), start, stop)


def store(view: View, data: bytes | memoryview) -> tuple[int, bytes]:
    """Return the layout and the data column for some bytes."""
    if len(data) <= INLINE_BYTES:
        return 0, bytes(data)
    session = view.session
    items = [(chunks.put(session, piece), len(piece)) for piece in chunker.split(data)]
    return chunks.write_list(session, items)


def write(view: View, path: str, data: bytes | memoryview, mode: int | None = None,
          operation: str = "write") -> int:  # fmt: skip
    """Replace or make the file at a path, with its journal row; return the version's id."""
    place = directories.locate(view, path)
    return write_at(view, place, data, mode, operation)


def write_at(
    view: View, place: Place, data: bytes | memoryview, mode: int | None, operation: str,
    mtime_ns: int | None = None,
) -> int:  # fmt: skip
    """Replace or make the file at a resolved place."""
    layout, stored = store(view, data)
    return _replace(view, place, len(data), layout, stored, mode, operation, mtime_ns)


def _replace(
    view: View, place: Place, size: int, layout: int, stored: bytes, mode: int | None,
    operation: str, mtime_ns: int | None = None,
) -> int:  # fmt: skip
    old = place.node
    if old is not None and old.kind != FILE:
        raise IsADirectory(place.path)
    if mode is None:
        mode = nodes.FILE_MODE if old is None else old.mode
    xattrs = None if old is None else old.xattrs
    node_id = nodes.make_file(view, mode & 0o7777, size, layout, stored, xattrs, mtime_ns)
    directories.set_entry(view, place.directory, place.name, node_id, old is None)
    before = None if old is None else old.id
    journal.append(view, operation, place.path, before=before, after=node_id)
    return node_id


def append(view: View, path: str, data: bytes) -> int:
    """Add bytes to the end of the file at a path, making it when it is missing.

    Only the last chunk of the file is stored again.
    """
    place = directories.locate(view, path)
    node = place.node
    if node is None or not node.layout:
        old = b"" if node is None else content(view, require_file(place, path))
        return write_at(view, place, old + data, None, "append")
    session = view.session
    items = list(chunks.read_list(session, node.layout, nodes.data(session, node.id)))
    last_id, _last_size = items.pop()
    tail = chunks.get(session, last_id) + data
    items += [(chunks.put(session, piece), len(piece)) for piece in chunker.split(tail)]
    layout, stored = chunks.write_list(session, items)
    return _replace(view, place, node.size + len(data), layout, stored, None, "append")


def truncate(view: View, path: str, size: int) -> int:
    """Cut or extend the file at a path to a size, with zero bytes where it grows."""
    if size < 0:
        raise InvalidArgument(path, "a size cannot be negative")
    return patch(view, path, [(size, None)], "truncate")


def patch(view: View, path: str, patches: Sequence[Patch], operation: str = "write") -> int:
    """Apply writes at offsets and changes of size to the file at a path, in order."""
    place = directories.locate(view, path)
    data = bytearray(content(view, require_file(place, path)))
    for offset, piece in patches:
        end = offset if piece is None else offset + len(piece)
        if len(data) < end:
            data.extend(bytes(end - len(data)))
        if piece is None:
            del data[offset:]
        else:
            data[offset:end] = piece
    return write_at(view, place, memoryview(data), None, operation)
