"""Content that is in a file of the host: reading it, and taking it in on the first change.

What a whole read has hashed is noted for later, when the host file must be compared with what was
seen: `overlay_file` has the hash and the identity that the file had then. Notes are written with
the next write transaction on the same connection, or when 200 are waiting.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from blake3 import blake3

from . import chunklists, edits, hostfiles, listing, nodes
from .chunklists import ChunkList
from .errors import HostChanged
from .hostfiles import HostRef, Identity
from .nodes import ON_HOST, Node
from .paths import to_stored
from .transaction import Session

_MOST_WAITING = 200
_NOTED = "SELECT identity, hash FROM overlay_file WHERE overlay = ? AND path = ?"


def _where(session: Session, node: Node) -> tuple[HostRef, str]:
    ref = HostRef.decode(nodes.data(session, node.id))
    return ref, listing.host_of(session, ref.overlay)


def _kept(session: Session, node: Node) -> ChunkList | None:
    """Return the content if an apply took it in after `node` was read, as by an open file."""
    now = nodes.get(session, node.id)
    if now.layout == ON_HOST:
        return None
    return chunklists.decode(now.layout, nodes.data(session, node.id))


def _kept_since(session: Session, node: Node, start: int, stop: int) -> bytes | None:
    """Return a range of what an apply took in after the open read began, which cannot see it."""
    if session.depth or session.aside is None:
        return None
    with session.aside() as other:
        kept = _kept(other, node) if nodes.exists(other, node.id) else None
        return None if kept is None else b"".join(chunklists.read(other, kept, start, stop))


def read(session: Session, node: Node, start: int, stop: int) -> bytes:
    """Return a range of the content of a file version that is on the host.

    Raises:
        HostChanged: the host file is not what it was when it was first seen.
        PermissionDenied: the host does not let this user read it.
    """
    kept = _kept(session, node)
    if kept is not None:
        return b"".join(chunklists.read(session, kept, start, stop))
    ref, root = _where(session, node)
    try:
        found = hostfiles.read(root, ref.path, ref.identity, start, stop)
    except HostChanged:
        since = _kept_since(session, node, start, stop)
        if since is None:
            raise
        return since
    if len(found) == node.size:
        _compare(session, ref, root, blake3(found).digest())
    return found


def pieces(session: Session, node: Node, start: int, stop: int) -> Iterator[bytes]:
    """Yield a range of the content in pieces of bounded size; as `read`."""
    done = start
    if not start and stop == node.size > hostfiles.BLOCK_BYTES and _kept(session, node) is None:
        try:
            for block in _hashed(session, *_where(session, node)):
                yield block
                done += len(block)
        except HostChanged:
            if done:
                raise
    while done < stop:
        end = min(done + hostfiles.BLOCK_BYTES, stop)
        yield read(session, node, done, end)
        done = end


def take(session: Session, node: Node) -> ChunkList:
    """Store the content of a host file in the volume; a write transaction must be open."""
    kept = _kept(session, node)
    if kept is not None:
        return kept
    return edits.streamed(session, _hashed(session, *_where(session, node)), node.size)


def take_beginning(session: Session, node: Node, size: int) -> ChunkList:
    """Store the first bytes of a host file, of which no more is needed; as `take`."""
    return edits.streamed(session, pieces(session, node, 0, size), size)


def _hashed(session: Session, ref: HostRef, root: str) -> Iterator[bytes]:
    seen = blake3()
    for block in hostfiles.blocks(root, ref.path, ref.identity):
        seen.update(block)
        yield block
    _compare(session, ref, root, seen.digest())


def _compare(session: Session, ref: HostRef, root: str, found: bytes) -> None:
    """Compare what was read with what was read before, or note it."""
    known = noted(session, ref.overlay, ref.path)
    if known is None or known[0].difference(ref.identity):
        note(session, ref.overlay, ref.path, ref.identity, found)
    elif known[1] != found:
        path = hostfiles.place(root, ref.path)
        raise HostChanged(path, "its content is not what was read before")


def noted(session: Session, overlay: int, path: str) -> tuple[Identity, bytes] | None:
    """Return a host file's identity and the hash of its content when it was last read whole."""
    waiting = session.notes.get((overlay, path))
    if waiting is not None:
        return waiting
    row = session.execute(_NOTED, (overlay, to_stored(path))).fetchone()
    return None if row is None else (Identity(*json.loads(row[0])), row[1])


def note(session: Session, overlay: int, path: str, identity: Identity, found: bytes) -> None:
    """Remember a host file's identity and the hash of its content."""
    if session.depth:
        session.write_notes({(overlay, path): (identity, found)})
        return
    session.notes[overlay, path] = (identity, found)
    if len(session.notes) >= _MOST_WAITING and session.aside is not None:
        with session.aside() as other:
            other.write_notes(session.notes)
        session.notes.clear()
