"""Fills in a directory of an overlay when somebody first looks into it.

Until then its node has the layout `ON_HOST` and no entries. What it then gets is the host's
directory as it is at that moment, once for all branches: its node belongs to no branch, and a
branch that changes something in it copies it first, as everywhere. A read cannot write, so it
writes on a second connection and keeps what that wrote in `session.unseen` until its own end.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from . import hostfiles, hostwrite, nodes
from .connection import one
from .hostfiles import HostEntry, HostRef, Identity
from .nodes import COLUMNS, DIRECTORY, FILE, ON_HOST, SYMLINK, Node
from .paths import SYSTEM_NAME, VOLUME_SUFFIXES, from_stored, to_stored
from .transaction import Session

BUCKET_ENTRIES = 96
_HOST = "SELECT host FROM overlay WHERE id = ?"
_ADD_NODE = (
    "INSERT INTO node(id, kind, generation, mode, size, mtime_ns, ctime_ns, layout, digest, data)"
    " VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, ?)"
)
_ADD_ENTRY = "INSERT INTO entry(bucket, name, node) VALUES (?, ?, ?)"
_ADD_REF = (
    "INSERT INTO bucket_ref(directory, slot, bucket, depth, generation) VALUES (?, ?, ?, ?, 0)"
)
_LISTED = (
    "UPDATE node SET layout = 0, depth = ?, entries = ?, mtime_ns = ?, digest = ?, data = ?"
    " WHERE id = ?"
)
_MEMBERS = (
    f"SELECT e.name, n.data, {COLUMNS} FROM entry e JOIN node n ON n.id = e.node WHERE e.bucket"
    " IN (SELECT ?1 UNION ALL SELECT bucket FROM bucket_ref WHERE directory = ?1)"
)


def host_of(session: Session, overlay: int) -> str:
    """Return the host directory of an overlay."""
    return from_stored(one(session.execute(_HOST, (overlay,)), f"overlay {overlay}")[0])


def fill(session: Session, node_id: int) -> Node:
    """List a directory of the host unless somebody did, and return its node.

    Raises:
        HostChanged: the directory is gone or another one.
        PermissionDenied: the host does not let this user read it.
    """
    node = nodes.get(session, node_id)
    if node.layout != ON_HOST:
        return node
    if session.depth:
        return _store(session, node)
    names = session.unseen.names.get(node_id)
    if names is None:
        assert session.aside is not None
        with session.aside() as other:
            there = nodes.get(other, node_id)
            if there.layout == ON_HOST:
                _store(other, there)
            rows = other.execute(_MEMBERS, (node_id,)).fetchall()
        names = _keep(session, node_id, rows)
    return node._replace(layout=0, depth=0, entries=len(names))


def _keep(session: Session, node_id: int, rows: Iterable[tuple[Any, ...]]) -> dict[str, Node]:
    names: dict[str, Node] = {}
    for name, data, *fields in rows:
        node = Node(*fields)
        if node.kind == DIRECTORY:  # somebody may have listed it, and that is unseen here too
            node = node._replace(layout=ON_HOST, depth=0, entries=0)
        names[from_stored(name)] = node
        session.unseen.nodes[node.id] = (node, data)
    session.unseen.names[node_id] = names
    return names


def _store(session: Session, node: Node) -> Node:
    """Write what the host's directory holds as entries of a node."""
    ref = HostRef.decode(nodes.data(session, node.id))
    root = host_of(session, ref.overlay)
    identity, found = hostfiles.listing(root, ref.path, ref.identity)
    left_out = own_names(session.path, hostfiles.place(root, ref.path))
    if not ref.path:
        left_out |= {SYSTEM_NAME}
    entries = [
        each for each in found if each.name not in left_out and not hostwrite.is_own(each.name)
    ]
    depth = 0
    while len(entries) >> depth > BUCKET_ENTRIES:
        depth += 1
    buckets = _buckets(session, node.id, depth)
    above = f"{ref.path}/" if ref.path else ""
    made = [_row(session, ref.overlay, above + each.name, each) for each in entries]
    names = [
        (_bucket(session, buckets, each.name), to_stored(each.name), row[0])
        for each, row in zip(entries, made, strict=True)
    ]
    session.connection.executemany(_ADD_NODE, made)
    session.connection.executemany(_ADD_ENTRY, names)
    data = ref._replace(identity=identity).encode()
    listed = (depth, len(names), identity.mtime_ns, nodes.digest(data), data, node.id)
    session.execute(_LISTED, listed)
    return nodes.get(session, node.id)


def own_names(volume: str, directory: str) -> set[str]:
    """Return the names of the volume's own files in a directory of the host."""
    where, name = os.path.split(_real(volume))
    return {name + each for each in VOLUME_SUFFIXES} if where == directory else set()


@lru_cache(maxsize=100)
def _real(volume: str) -> str:
    return os.path.realpath(volume)


def _bucket(session: Session, buckets: list[int], name: str) -> int:
    if len(buckets) == 1:
        return buckets[0]
    return buckets[session.name_hash(name) & (len(buckets) - 1)]


def _buckets(session: Session, directory: int, depth: int) -> list[int]:
    if not depth:
        return [directory]
    buckets = [session.new_id("next_node") for _ in range(1 << depth)]
    rows = [(directory, slot, bucket, depth) for slot, bucket in enumerate(buckets)]
    session.connection.executemany(_ADD_REF, rows)
    return buckets


def add(session: Session, overlay: int, path: str, entry: HostEntry) -> int:
    """Write the node of a name of the host and return its id."""
    row = _row(session, overlay, path, entry)
    session.execute(_ADD_NODE, row)
    return row[0]


def _row(session: Session, overlay: int, path: str, entry: HostEntry) -> tuple[Any, ...]:
    info = entry.info
    mode, size, layout = stat.S_IMODE(info.st_mode), 0, ON_HOST
    if entry.target is not None:
        data = os.fsencode(entry.target)
        kind, mode, size, layout = SYMLINK, nodes.SYMLINK_MODE, len(data), 0
    else:
        data = HostRef(overlay, path, Identity.of(info)).encode()
        kind = DIRECTORY if stat.S_ISDIR(info.st_mode) else FILE
        size = info.st_size if kind == FILE else 0
    return (
        session.new_id("next_node"), kind, mode, size, info.st_mtime_ns, info.st_ctime_ns, layout,
        nodes.digest(data), data,
    )  # fmt: skip
