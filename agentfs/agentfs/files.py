"""Whole-file calls: read, write, append, truncate, patch; inline bytes or a chunk list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import apsw

from . import acl, chunklists, chunks, copyup, directories, edits, journal, nodes
from .chunklists import HOLE, ChunkList
from .directories import Place
from .edits import INLINE_BYTES, Overlay
from .errors import Corrupt, HostChanged, InvalidArgument, IsADirectory, NotFound
from .nodes import DIRECTORY, FILE, ON_HOST, Node, View
from .paths import split
from .transaction import Session

MAX_BYTES = 2**62
Patch = tuple[int, bytes | bytearray | memoryview | None]
"""An offset with the bytes written there; without bytes, the file's new size."""


def content(view: View, node: Node, start: int = 0, stop: int | None = None) -> bytes:
    """Return the bytes of a file version, or a range of them."""
    stop = node.size if stop is None else min(stop, node.size)
    if node.layout == ON_HOST:
        return copyup.read(view.session, node, start, stop)
    if not node.layout:
        stored = nodes.data(view.session, node.id)
        return stored if not start and stop == len(stored) else stored[start:stop]
    found = b"".join(pieces(view, node, start, stop))
    if len(found) != max(stop - start, 0):
        raise Corrupt(f"node {node.id}", "its chunk list is shorter than its size")
    return found


def chunk_list(session: Session, node: Node) -> ChunkList:
    """Return how the content of a file version is stored, from verified data.

    In a write transaction this takes the content of a host file into the volume.
    """
    if node.layout == ON_HOST:
        return copyup.take(session, node)
    return chunklists.decode(node.layout, nodes.data(session, node.id))


def pieces(view: View, node: Node, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Yield the bytes of a file version, or a range of them, in pieces of bounded size."""
    return pieces_of(view.session, node, start, stop)


def pieces_of(
    session: Session, node: Node, start: int = 0, stop: int | None = None
) -> Iterator[bytes]:
    """Yield the bytes of a file version, or a range of them, as `pieces` does."""
    stop = node.size if stop is None else min(stop, node.size)
    if node.layout == ON_HOST:
        return copyup.pieces(session, node, start, stop)
    return chunklists.read(session, chunk_list(session, node), start, stop)


def same_bytes(session: Session, one: Node, other: Node) -> bool:
    """Say whether two files hold the same bytes, however stored, holding neither in memory.

    A file of the host that changed underneath is like no other.
    """
    if one.size != other.size:
        return False
    if ON_HOST in (one.layout, other.layout):
        try:
            return _same_from(session, (one, other), 0, one.size)
        except HostChanged:
            return False
    contents = chunk_list(session, one), chunk_list(session, other)
    left, right = (chunklists.segments(session, each) for each in contents)
    position = 0
    for ours, theirs in zip(left, right, strict=False):
        if ours != theirs:
            break
        position = ours.offset + ours.length
    return _same_from(session, (one, other), position, one.size)


def _same_from(session: Session, versions: tuple[Node, Node], start: int, size: int) -> bool:
    left, right = (pieces_of(session, each, start, size) for each in versions)
    ours = theirs = b""
    while start < size:
        ours, theirs = ours or next(left, b""), theirs or next(right, b"")
        length = min(len(ours), len(theirs))
        if not length or ours[:length] != theirs[:length]:
            return False
        ours, theirs, start = ours[length:], theirs[length:], start + length
    return True


def verify_all(session: Session) -> Iterator[tuple[str, int, str]]:
    """Hash all stored content; yield the kind of row ("node" or "chunk"), its id and the finding.

    Nodes hold inline files, tails, top pages and link targets; chunks hold everything else.
    """
    yield from nodes.verify_all(session)
    yield from chunks.verify_all(session)


def check(session: Session, node: Node, sizes: Mapping[int, int]) -> str | None:
    """Return what is wrong with a file's list of chunks, given the size of every chunk, or None."""
    if node.layout == ON_HOST:
        return None
    try:
        content = chunk_list(session, node)
        for _, chunk_id, length in chunklists.segments(session, content):
            if chunk_id != HOLE and sizes.get(chunk_id) != length:
                return f"chunk {chunk_id} is missing or has another size"
    except Corrupt as error:
        return str(error)
    return None if content.size == node.size else f"it has {content.size} bytes, not {node.size}"


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


def read_remembered(session: Session, ref: str, path: str) -> bytes | None:
    """Return an inline file's bytes where the session knows its directory, without a transaction.

    None means that it does not, or that somebody committed: then the whole way is needed.
    """
    state = session.remembered(ref)
    if state is None or state.rules is not None:
        return None
    parent, name = split(path)
    directory = state.directories.get(parent)
    if directory is None or not name or directory.layout == ON_HOST:
        return None
    try:
        node = directories.lookup(session, directory, name)
        if node is None or node.layout or node.kind != FILE:
            return None
        found = nodes.data(session, node.id)
    except (Corrupt, apsw.Error):
        return None
    return found if session.unchanged() else None


def store(view: View, data: bytes | memoryview) -> tuple[int, bytes]:
    """Return the layout and the data column for some bytes."""
    if len(data) <= INLINE_BYTES:
        return 0, bytes(data)
    return chunklists.encode(edits.whole(view.session, data))


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


def write_stream(
    view: View, place: Place, blocks: Iterable[bytes], expected_size: int, mode: int | None,
    operation: str, mtime_ns: int | None = None,
) -> int:  # fmt: skip
    """Replace or make a file with bytes that come in blocks, holding one of them in memory.

    `expected_size` only helps to choose how large the chunks are.
    """
    made = edits.streamed(view.session, blocks, expected_size)
    return _replace(view, place, made.size, *chunklists.encode(made), mode, operation, mtime_ns)


def _replace(
    view: View, place: Place, size: int, layout: int, stored: bytes, mode: int | None,
    operation: str, mtime_ns: int | None = None,
) -> int:  # fmt: skip
    old = place.node
    if old is not None and old.kind != FILE:
        raise IsADirectory(place.path)
    if place.shown is not None:
        acl.require_write(view, place.shown)
    if mode is None:
        mode = nodes.FILE_MODE if old is None else old.mode
    xattrs = None if old is None else old.xattrs
    made = nodes.new_file(view, mode & 0o7777, size, layout, stored, xattrs, mtime_ns)
    directories.set_entry(view, place.directory, place.name, made.id, old is None)
    directories.remember(place, made)
    before = None if old is None else old.id
    journal.append(view, operation, place.path, before=before, after=made.id)
    return made.id


def append(view: View, path: str, data: bytes) -> int:
    """Add bytes to the end of the file at a path, making it when it is missing.

    The cost does not depend on the size of the file.
    """
    place = directories.locate(view, path)
    if place.node is None:
        return write_at(view, place, data, None, "append")
    old = chunk_list(view.session, require_file(place, path))
    return _edited(view, place, edits.overwrite(view.session, old, [(old.size, data)]), "append")


def _edited(view: View, place: Place, made: ChunkList, operation: str) -> int:
    return _replace(view, place, made.size, *chunklists.encode(made), None, operation)


def truncate(view: View, path: str, size: int) -> int:
    """Cut or extend the file at a path to a size, with zero bytes where it grows."""
    if not 0 <= size <= MAX_BYTES:
        raise InvalidArgument(path, f"a size is 0 to {MAX_BYTES}")
    return patch(view, path, [(size, None)], "truncate")


def patch(view: View, path: str, patches: Sequence[Patch], operation: str = "write") -> int:
    """Apply writes at offsets and changes of size to the file at a path, in order."""
    place = directories.locate(view, path)
    session = view.session
    node = require_file(place, path)
    offset, data = patches[0]
    if node.layout == ON_HOST and data is None and offset < node.size:
        made = copyup.take_beginning(session, node, offset)
    else:
        made = chunk_list(session, node)
    overlay = Overlay()
    for offset, data in patches:
        if data is not None:
            overlay.write(offset, data)
            continue
        made = edits.overwrite(session, made, overlay.take())
        made = edits.resize(session, made, offset)
    return _edited(view, place, edits.overwrite(session, made, overlay.take()), operation)
