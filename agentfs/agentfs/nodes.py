"""Rows of the node table: reading, making and re-making file, directory and link versions."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from blake3 import blake3

from . import posix
from .errors import Corrupt
from .transaction import RefState, Session
from .types import Kind, Stat

FILE, DIRECTORY, SYMLINK, LINK = 1, 2, 3, 4
KINDS: dict[int, Kind] = {
    FILE: "file", DIRECTORY: "directory", SYMLINK: "symlink", LINK: "file",
}  # fmt: skip
FILE_MODE, DIRECTORY_MODE, SYMLINK_MODE = 0o644, 0o755, 0o777
# The layout of a file whose content is in the host, and of a directory not yet listed; see listing.
ON_HOST = -1

_FIELDS = "id, kind, generation, mode, size, mtime_ns, ctime_ns, depth, entries, layout, xattrs"
COLUMNS = ", ".join(f"n.{each.strip()}" for each in _FIELDS.split(","))
_GET = f"SELECT {COLUMNS} FROM node n WHERE n.id = ?"
_DATA = "SELECT data, digest FROM node WHERE id = ?"
_INSERT = f"INSERT INTO node({_FIELDS}, digest, data) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
_COPY_FILE = (
    f"INSERT INTO node({_FIELDS}, digest, data) SELECT ?, kind, ?, ?, size, ?, ?, depth, entries,"
    " layout, ?, digest, data FROM node WHERE id = ?"
)
_WITH_DATA = "SELECT id, digest, data FROM node WHERE id > ? AND kind <> 2 ORDER BY id LIMIT 1000"
_EXISTS = "SELECT 1 FROM node WHERE id = ?"
_DIGEST_BYTES = 16
_SET_DIRECTORY = "UPDATE node SET mode = ?, mtime_ns = ?, ctime_ns = ?, xattrs = ? WHERE id = ?"


class Node(NamedTuple):
    """A node without its data."""

    id: int
    kind: int
    generation: int
    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    depth: int
    entries: int
    layout: int
    xattrs: str | None


class View:
    """What one call works on: a session, a branch or snapshot, and what the handle may see."""

    __slots__ = ("limits", "principal", "session", "state", "system")

    def __init__(self, session: Session, state: RefState, system: bool, principal: str) -> None:
        """Bind the parts together for one call."""
        self.session = session
        self.state = state
        self.system = system
        self.principal = principal
        rules = None if system else state.rules
        self.limits = None if rules is None else rules.of(principal)


def get(session: Session, node_id: int) -> Node:
    """Return a node that must exist.

    Raises:
        Corrupt: the node is missing.
    """
    row = session.execute(_GET, (node_id,)).fetchone()
    if row is not None:
        return Node(*row)
    if node_id in session.unseen.nodes:
        return session.unseen.nodes[node_id][0]
    raise Corrupt(f"node {node_id}", "a directory or a branch refers to it")


def exists(session: Session, node_id: int) -> bool:
    """Say whether a node is still there; gc takes those that nothing leads to."""
    if node_id in session.unseen.nodes:
        return True
    return session.execute(_EXISTS, (node_id,)).fetchone() is not None


def data(session: Session, node_id: int) -> bytes:
    """Return the data column of a node: bytes, chunk list or link target.

    Raises:
        Corrupt: the node is missing, or its bytes changed.
    """
    row = session.execute(_DATA, (node_id,)).fetchone()
    if row is None:
        if node_id in session.unseen.nodes:
            return session.unseen.nodes[node_id][1] or b""
        raise Corrupt(f"node {node_id}", "a directory refers to it")
    stored, expected = row
    if session.verify and digest(stored or b"") != expected:
        raise Corrupt(f"node {node_id}", "its bytes do not match their digest")
    return stored or b""


def digest(content: bytes) -> bytes:
    """Return the digest that the format keeps of a node's data."""
    return blake3(content).digest(_DIGEST_BYTES)


def verify_all(session: Session) -> Iterator[tuple[str, int, str]]:
    """Hash the data of every node; yield the kind of row ("node"), its id and what is wrong."""
    last = -1
    while page := session.execute(_WITH_DATA, (last,)).fetchall():
        for node_id, expected, stored in page:
            last = node_id
            if digest(stored or b"") != expected:
                yield "node", node_id, f"the bytes of node {node_id} do not match their digest"


def to_stat(node: Node, links: int = 1) -> Stat:
    """Return the public record of a node; a hard-linked file has more than one name."""
    extra = posix.NOTHING if node.xattrs is None else posix.read(node.xattrs)
    return Stat(
        node[0], extra.special or KINDS[node[1]], node[3], node[4], node[5], node[6], links,
        os.geteuid() if extra.uid is None else extra.uid,
        os.getegid() if extra.gid is None else extra.gid,
        node[5] if extra.atime_ns is None else extra.atime_ns, extra.device,
    )  # fmt: skip


def make_file(
    view: View,
    mode: int,
    size: int,
    layout: int,
    content: bytes,
    xattrs: str | None = None,
    mtime_ns: int | None = None,
) -> int:
    """Write a file version and return its id."""
    return new_file(view, mode, size, layout, content, xattrs, mtime_ns).id


def new_file(
    view: View, mode: int, size: int, layout: int, content: bytes, xattrs: str | None,
    mtime_ns: int | None, ctime_ns: int | None = None,
) -> Node:  # fmt: skip
    """Write a file version and return it."""
    session = view.session
    node_id, generation = session.new_id("next_node"), view.state.generation
    now = time.time_ns() if ctime_ns is None else ctime_ns
    changed = now if mtime_ns is None else mtime_ns
    node = Node(node_id, FILE, generation, mode, size, changed, now, 0, 0, layout, xattrs)
    session.execute(_INSERT, (*node, digest(content), content))
    return node


def make_directory(
    view: View, mode: int, mtime_ns: int | None = None, xattrs: str | None = None
) -> int:
    """Write an empty directory owned by the branch and return its id."""
    return _make_plain(view, DIRECTORY, mode, 0, None, mtime_ns, xattrs)


def make_symlink(
    view: View, target: bytes, mtime_ns: int | None = None, xattrs: str | None = None
) -> int:
    """Write a symbolic link and return its id."""
    return _make_plain(view, SYMLINK, SYMLINK_MODE, len(target), target, mtime_ns, xattrs)


def make_link(view: View, target: bytes) -> int:
    """Write what one name of a hard-linked file leads to and return its id (see links)."""
    return _make_plain(view, LINK, 0, 0, target, None)


def _make_plain(
    view: View, kind: int, mode: int, size: int, content: bytes | None, mtime_ns: int | None,
    xattrs: str | None = None,
) -> int:  # fmt: skip
    session = view.session
    node_id = session.new_id("next_node")
    now = time.time_ns()
    session.execute(
        _INSERT,
        (node_id, kind, view.state.generation, mode, size, now if mtime_ns is None else mtime_ns,
         now, 0, 0, 0, xattrs, None if content is None else digest(content), content),
    )  # fmt: skip
    return node_id


def remake(view: View, node: Node, mode: int, mtime_ns: int, xattrs: str | None) -> int:
    """Write a version of a file or link with other attributes and the same content."""
    session = view.session
    node_id = session.new_id("next_node")
    session.execute(
        _COPY_FILE,
        (node_id, view.state.generation, mode, mtime_ns, time.time_ns(), xattrs, node.id),
    )
    return node_id


def add_from_host(
    session: Session, kind: int, mode: int, size: int, layout: int, times_ns: tuple[int, int],
    content: bytes, xattrs: str | None = None,
) -> int:  # fmt: skip
    """Write a node that no branch owns, for a name of the host, and return its id."""
    node_id = session.new_id("next_node")
    session.execute(
        _INSERT,
        (node_id, kind, 0, mode, size, *times_ns, 0, 0, layout, xattrs, digest(content), content),
    )
    return node_id


def dump_xattrs(values: dict[str, str]) -> str | None:
    """Return extended attributes, hexadecimal values by name, as they are stored."""
    return json.dumps(values, sort_keys=True, separators=(",", ":")) if values else None


def set_directory(view: View, node_id: int, mode: int, mtime_ns: int, xattrs: str | None) -> None:
    """Change the attributes of an owned directory in place."""
    view.session.execute(_SET_DIRECTORY, (mode, mtime_ns, time.time_ns(), xattrs, node_id))
