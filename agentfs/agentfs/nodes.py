"""Rows of the node table: reading, making and re-making file, directory and link versions."""

from __future__ import annotations

import time
from typing import NamedTuple

from .errors import Corrupt
from .transaction import RefState, Session
from .types import Kind, Stat

FILE, DIRECTORY, SYMLINK = 1, 2, 3
KINDS: dict[int, Kind] = {FILE: "file", DIRECTORY: "directory", SYMLINK: "symlink"}
FILE_MODE, DIRECTORY_MODE, SYMLINK_MODE = 0o644, 0o755, 0o777

_FIELDS = "id, kind, generation, mode, size, mtime_ns, ctime_ns, depth, entries, layout, xattrs"
COLUMNS = ", ".join(f"n.{each.strip()}" for each in _FIELDS.split(","))
_GET = f"SELECT {COLUMNS} FROM node n WHERE n.id = ?"
_DATA = "SELECT data FROM node WHERE id = ?"
_INSERT = f"INSERT INTO node({_FIELDS}, data) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
_COPY_FILE = (
    f"INSERT INTO node({_FIELDS}, data) SELECT ?, kind, ?, ?, size, ?, ?, depth, entries, layout,"
    " ?, data FROM node WHERE id = ?"
)
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

    __slots__ = ("principal", "session", "state", "system")

    def __init__(self, session: Session, state: RefState, system: bool, principal: str) -> None:
        """Bind the parts together for one call."""
        self.session = session
        self.state = state
        self.system = system
        self.principal = principal


def get(session: Session, node_id: int) -> Node:
    """Return a node that must exist.

    Raises:
        Corrupt: the node is missing.
    """
    row = session.execute(_GET, (node_id,)).fetchone()
    if row is None:
        raise Corrupt(f"node {node_id}", "a directory or a branch refers to it")
    return Node(*row)


def data(session: Session, node_id: int) -> bytes:
    """Return the data column of a node: bytes, chunk list or link target."""
    row = session.execute(_DATA, (node_id,)).fetchone()
    if row is None:
        raise Corrupt(f"node {node_id}", "a directory refers to it")
    return row[0] or b""


def to_stat(node: Node) -> Stat:
    """Return the public record of a node."""
    return Stat(node[0], KINDS[node[1]], node[3], node[4], node[5], node[6])


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
    session = view.session
    node_id = session.new_id("next_node")
    now = time.time_ns()
    session.execute(
        _INSERT,
        (node_id, FILE, view.state.generation, mode, size, now if mtime_ns is None else mtime_ns,
         now, 0, 0, layout, xattrs, content),
    )  # fmt: skip
    return node_id


def make_directory(view: View, mode: int, mtime_ns: int | None = None) -> int:
    """Write an empty directory owned by the branch and return its id."""
    return _make_plain(view, DIRECTORY, mode, 0, None, mtime_ns)


def make_symlink(view: View, target: bytes, mtime_ns: int | None = None) -> int:
    """Write a symbolic link and return its id."""
    return _make_plain(view, SYMLINK, SYMLINK_MODE, len(target), target, mtime_ns)


def _make_plain(
    view: View, kind: int, mode: int, size: int, content: bytes | None, mtime_ns: int | None
) -> int:
    session = view.session
    node_id = session.new_id("next_node")
    now = time.time_ns()
    session.execute(
        _INSERT,
        (node_id, kind, view.state.generation, mode, size, now if mtime_ns is None else mtime_ns,
         now, 0, 0, 0, None, content),
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


def set_directory(view: View, node_id: int, mode: int, mtime_ns: int, xattrs: str | None) -> None:
    """Change the attributes of an owned directory in place."""
    view.session.execute(_SET_DIRECTORY, (mode, mtime_ns, time.time_ns(), xattrs, node_id))
