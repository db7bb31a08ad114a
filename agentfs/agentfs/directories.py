"""Directories: entries in buckets, splitting, copy on first write, and path resolution.

A directory is changed in place only while its generation is the branch's ("owned"); otherwise it
and the path up to the root are copied first.
"""

from __future__ import annotations

import time
from typing import NamedTuple, cast

from . import acl, listing, nodes
from .connection import one
from .errors import Corrupt, NotADirectory, NotFound, TooManyLinks
from .nodes import COLUMNS, DIRECTORY, FILE, LINK, ON_HOST, SYMLINK, Node, View
from .paths import (
    LINKS_NAME,
    LINKS_PATH,
    OVERLAYS_PATH,
    from_stored,
    join,
    normalise,
    split,
    to_stored,
)
from .transaction import Session

BUCKET_ENTRIES = 128
MAX_DEPTH = 24
_KNOWN_FILES = 10_000
LINKED_FILE = "file"
_MAX_FOLLOWED = 40
# Counting a bucket costs a scan, so one insertion in eight (by its hash) looks for an overflow.
_COUNT_SHIFT = 61

# Ten times as fast as the join where nothing is found.
_LOOKUP = (
    f"SELECT {COLUMNS} FROM node n"
    " WHERE n.id = (SELECT node FROM entry WHERE bucket = ? AND name = ?)"
)
_REF = "SELECT bucket, depth, generation FROM bucket_ref WHERE directory = ? AND slot = ?"
_REFS = "SELECT slot, bucket FROM bucket_ref WHERE directory = ?"
_PUT = "INSERT OR REPLACE INTO entry(bucket, name, node) VALUES (?, ?, ?)"
_DROP = "DELETE FROM entry WHERE bucket = ? AND name = ?"
_COUNT = "SELECT count(*) FROM entry WHERE bucket = ?"
_ENTRIES = "SELECT name, node FROM entry WHERE bucket = ?"
_EMPTY_BUCKET = "DELETE FROM entry WHERE bucket = ?"
_TOUCH = "UPDATE node SET entries = ?, mtime_ns = ?, ctime_ns = ? WHERE id = ?"
_SET_DEPTH = "UPDATE node SET depth = ? WHERE id = ?"
_COPY_NODE = (
    "INSERT INTO node(id, kind, generation, mode, size, mtime_ns, ctime_ns, depth, entries, layout,"
    " xattrs) SELECT ?, kind, ?, mode, size, mtime_ns, ctime_ns, depth, entries, layout,"
    " xattrs FROM node WHERE id = ?"
)
_COPY_BUCKET = (
    "INSERT INTO entry(bucket, name, node) SELECT ?, name, node FROM entry WHERE bucket=?"
)
_COPY_REFS = (
    "INSERT INTO bucket_ref(directory, slot, bucket, depth, generation)"
    " SELECT ?, slot, bucket, depth, generation FROM bucket_ref WHERE directory = ?"
)
_DOUBLE_REFS = (
    "INSERT INTO bucket_ref(directory, slot, bucket, depth, generation)"
    " SELECT directory, slot + ?, bucket, depth, generation FROM bucket_ref WHERE directory = ?"
)
_SET_REF = (
    "INSERT OR REPLACE INTO bucket_ref(directory, slot, bucket, depth, generation)"
    " VALUES (?, ?, ?, ?, ?)"
)
_SET_ROOT = "UPDATE branch SET root = ? WHERE name = ?"
_NAMES = "SELECT name FROM entry WHERE bucket = ?"
_LAST_NAMES = (
    "SELECT name FROM entry WHERE bucket = ? AND typeof(name) = 'text' AND name < ?"
    " ORDER BY name DESC LIMIT ?"
)
_NAMES_OF_ALL = (
    "SELECT name FROM entry WHERE bucket IN (SELECT bucket FROM bucket_ref WHERE directory = ?)"
)
_MISSING = f"{_ENTRIES} EXCEPT {_ENTRIES}"
_SCAN = f"SELECT e.name, {COLUMNS} FROM entry e JOIN node n ON n.id = e.node WHERE e.bucket = ?"


_Slot = tuple[int, int, int]
"""A slot's bucket, how many hash bits that uses, and the generation that owns it."""


class Directory:
    """A resolved directory of a branch or snapshot, with its place in the tree."""

    __slots__ = (
        "depth", "entries", "files", "generation", "id", "layout", "name", "parent", "path",
        "slots",
    )  # fmt: skip

    def __init__(self, parent: Directory | None, name: str, path: str, node: Node) -> None:
        """Take the changing fields from the node."""
        self.parent = parent
        self.name = name
        self.path = path
        self.id = node.id
        self.generation = node.generation
        self.depth = node.depth
        self.entries = node.entries
        self.layout = node.layout
        self.slots: dict[int, _Slot] = {}
        # Versions of files never change, so that only the name's own changes have to be noted.
        self.files: dict[str, Node] = {}


class Place(NamedTuple):
    """Where a path leads: a name in a directory and the node there; the root has no name.

    A hard-linked file is in the link area, and `shown` is the path that leads to it.
    """

    directory: Directory
    name: str
    node: Node | None
    shown: str | None = None

    @property
    def path(self) -> str:
        """Return the canonical path."""
        if self.shown is not None:
            return self.shown
        return join(self.directory.path, self.name) if self.name else "/"


# -- resolution -------------------------------------------------------------------------------


def root(view: View) -> Directory:
    """Return the root directory."""
    state = view.state
    found = state.directories.get("/")
    if found is None:
        found = Directory(None, "", "/", nodes.get(view.session, state.root))
        state.directories["/"] = found
    return found


def resolve(view: View, path: str) -> Directory:
    """Return the directory at a normal path, following symbolic links.

    Raises:
        NotFound, NotADirectory, TooManyLinks, PermissionDenied.
    """
    if view.limits is not None:
        acl.require_visible(view, path)
    found = view.state.directories.get(path)
    if found is None:
        found = _walk(view, path, path, 0)
        if view.limits is not None:
            acl.require_visible(view, found.path)
    return found


def _walk(view: View, path: str, asked: str, followed: int) -> Directory:
    if followed > _MAX_FOLLOWED:
        raise TooManyLinks(asked)
    directory = root(view)
    names = _names(path)
    for index, name in enumerate(names):
        here = join(directory.path, name)
        known = view.state.directories.get(here)
        if known is not None:
            directory = known
            continue
        node = lookup(view.session, directory, name)
        if node is None:
            raise NotFound(asked)
        if node.kind == SYMLINK:
            acl.require_read(view, here)
            rest = "/".join(names[index + 1 :])
            target = _target(view, directory, node)
            return _walk(view, normalise(f"{target}/{rest}", view.system), asked, followed + 1)
        if node.kind != DIRECTORY:
            raise NotADirectory(here)
        directory = Directory(directory, name, here, node)
        view.state.directories[here] = directory
    return directory


def _names(path: str) -> list[str]:
    if path.startswith(LINKS_PATH):
        return [LINKS_NAME, *path.split("/")[3:]]
    return path.split("/")[1:] if path != "/" else []


def _target(view: View, directory: Directory, node: Node) -> str:
    target = from_stored(nodes.data(view.session, node.id))
    return normalise(
        target if target.startswith("/") else f"{directory.path}/{target}", view.system
    )


def locate(view: View, path: str, follow: bool = True, through: bool = True) -> Place:
    """Return where a normal path leads; the node is None when only the directory exists.

    `follow` goes on behind a final symbolic link, and `through` a hard link to its file.
    """
    asked = path
    for _ in range(_MAX_FOLLOWED + 1):
        if view.limits is not None:
            acl.require_visible(view, path)
        parent, name = split(path)
        directory = resolve(view, parent)
        if not name:
            return Place(directory, "", nodes.get(view.session, directory.id))
        node = lookup(view.session, directory, name)
        if node is not None and node.kind != DIRECTORY and view.limits is not None:
            acl.require_read(view, join(directory.path, name))
        if node is not None and node.kind == LINK and through:
            return _linked(view, join(directory.path, name), node)
        if node is None or node.kind != SYMLINK or not follow:
            return Place(directory, name, node)
        path = _target(view, directory, node)
    raise TooManyLinks(asked)


def _linked(view: View, path: str, node: Node) -> Place:
    """Return the place in the link area of the file that a hard link at a path leads to."""
    link, _ = link_target(view.session, node)
    directory = resolve(view, join(LINKS_PATH, link))
    file = lookup(view.session, directory, LINKED_FILE)
    if file is None:
        raise Corrupt(path, f"the file of the hard link {link} is missing")
    return Place(directory, LINKED_FILE, file, path)


def link_target(session: Session, node: Node) -> tuple[str, str]:
    """Return the link's number and the name's own one, which a hard link's node holds."""
    link, _, token = nodes.data(session, node.id).decode("ascii").partition("/")
    return link, token


def find(view: View, path: str, follow: bool = True) -> Node:
    """Return the node at a normal path.

    Raises:
        NotFound: nothing is there.
    """
    node = locate(view, path, follow).node
    if node is None:
        raise NotFound(path)
    return node


# -- reading ----------------------------------------------------------------------------------


def listed(session: Session, node: Node) -> Node:
    """Return a directory's node with its entries, which an overlay's may still lack."""
    return listing.fill(session, node.id) if node.layout == ON_HOST else node


def _list(session: Session, directory: Node | Directory) -> Node | Directory:
    if directory.layout != ON_HOST:
        return directory
    node = listing.fill(session, directory.id)
    if isinstance(directory, Node):
        return node
    directory.depth, directory.entries, directory.layout = node.depth, node.entries, 0
    return directory


def lookup(session: Session, directory: Node | Directory, name: str) -> Node | None:
    """Return the node with a name in a directory."""
    known = directory.files if isinstance(directory, Directory) else {}
    node = known.get(name)
    if node is not None:
        return node
    directory = _list(session, directory)
    unseen = session.unseen.names
    if unseen and directory.id in unseen:
        return unseen[directory.id].get(name)
    bucket = directory.id
    if directory.depth:
        slot = session.name_hash(name) & ((1 << directory.depth) - 1)
        bucket = _slot(session, directory, slot)[0]
    row = session.execute(_LOOKUP, (bucket, to_stored(name))).fetchone()
    if row is None:
        return None
    node = Node(*row)
    if node.kind == FILE:
        _keep(known, name, node)
    return node


def remember(place: Place, node: Node) -> None:
    """Keep a file version that a place leads to now."""
    _keep(place.directory.files, place.name, node)


def _keep(known: dict[str, Node], name: str, node: Node) -> None:
    if len(known) >= _KNOWN_FILES:
        known.clear()
    known[name] = node


def _slot(session: Session, directory: Node | Directory, slot: int) -> _Slot:
    known = directory.slots if isinstance(directory, Directory) else {}
    found = known.get(slot)
    if found is None:
        row = session.execute(_REF, (directory.id, slot)).fetchone()
        if row is None:
            raise Corrupt(f"directory {directory.id}", f"its slot {slot} is missing")
        found = known[slot] = cast("_Slot", row)
    return found


def buckets(session: Session, node: Node | Directory) -> dict[int, int]:
    """Return the bucket of each slot; a directory of depth 0 has one slot."""
    node = _list(session, node)
    if not node.depth:
        return {0: node.id}
    return dict(session.execute(_REFS, (node.id,)))


def names(session: Session, node: Node | Directory) -> list[str]:
    """Return the names in a directory, in no order."""
    node = _list(session, node)
    if node.id in session.unseen.names:
        return list(session.unseen.names[node.id])
    found = session.execute(_NAMES_OF_ALL if node.depth else _NAMES, (node.id,))
    return [name if isinstance(name, str) else from_stored(name) for (name,) in found]


def last_names(
    session: Session, directory: Directory, limit: int | None, before: str | None
) -> list[str]:
    """Return the last names of a directory, last first; names that are not UTF-8 are left out."""
    _list(session, directory)
    if directory.id in session.unseen.names:
        unseen = sorted(session.unseen.names[directory.id], reverse=True)
        wanted = [each for each in unseen if before is None or each < before]
        return [each for each in wanted if isinstance(to_stored(each), str)][:limit]
    # A blob sorts after every text.
    stop = b"" if before is None else before
    count = -1 if limit is None else limit
    found: list[str] = []
    for bucket in set(buckets(session, directory).values()):
        rows = session.execute(_LAST_NAMES, (bucket, stop, count))
        found += (name for (name,) in rows)
    found.sort(reverse=True)
    return found[:limit]


def entries(session: Session, wanted: set[int]) -> dict[str, int]:
    """Return names and node ids in some buckets."""
    found: dict[str, int] = {}
    for bucket in wanted:
        unseen = session.unseen.names.get(bucket, {})
        found |= {name: node.id for name, node in unseen.items()}
        for name, node in session.execute(_ENTRIES, (bucket,)):
            found[from_stored(name)] = node
    return found


def differing(
    session: Session, old: set[int], new: set[int]
) -> dict[str, tuple[int | None, int | None]]:
    """Return the names that lead to other nodes in other buckets, with both node ids."""
    if len(old) == len(new) == 1 and not session.unseen.names:
        pairs = ((*old, *new), (*new, *old))
        was, now = (
            {from_stored(name): node for name, node in session.execute(_MISSING, pair)}
            for pair in pairs
        )
    else:
        was, now = entries(session, old), entries(session, new)
    return {
        name: (was.get(name), now.get(name))
        for name in was.keys() | now.keys()
        if was.get(name) != now.get(name)
    }


def scan(session: Session, node: Node | Directory) -> list[tuple[str, Node]]:
    """Return names and nodes in a directory, sorted by name."""
    found: list[tuple[str, Node]] = []
    for bucket in set(buckets(session, node).values()):
        found += session.unseen.names.get(bucket, {}).items()
        rows = session.execute(_SCAN, (bucket,))
        found.extend((from_stored(row[0]), Node(*row[1:])) for row in rows)
    found.sort(key=lambda each: each[0])
    return found


# -- writing ----------------------------------------------------------------------------------


def own(view: View, directory: Directory) -> None:
    """Make a directory the branch's own, copying it and the path above where they are shared."""
    shared: list[Directory] = []
    above: Directory | None = directory
    while above is not None and above.generation != view.state.generation:
        shared.append(above)
        above = above.parent
    for each in reversed(shared):
        _copy_on_write(view, each)


def _copy_on_write(view: View, directory: Directory) -> None:
    """Copy one shared directory whose parent is owned."""
    state, session = view.state, view.session
    _list(session, directory)
    old, new = directory.id, session.new_id("next_node")
    session.execute(_COPY_NODE, (new, state.generation, old))
    session.execute(_COPY_REFS if directory.depth else _COPY_BUCKET, (new, old))
    directory.id = new
    directory.generation = state.generation
    if directory.parent is None:
        session.execute(_SET_ROOT, (new, state.name))
        state.root = new
    else:
        _put(view, directory.parent, directory.name, new)


def set_entry(view: View, directory: Directory, name: str, node_id: int, is_new: bool) -> None:
    """Let a name in a directory lead to a node; `is_new` says that the name was free."""
    if view.limits is not None or view.state.replaced is not None:
        _note(view, directory, name, node_id)
    own(view, directory)
    _put(view, directory, name, node_id)
    if is_new:
        _count(view, directory, 1)
        _split_when_full(view, directory, name)


def drop_entry(view: View, directory: Directory, name: str) -> None:
    """Take a name that exists out of a directory."""
    if view.limits is not None or view.state.replaced is not None:
        _note(view, directory, name, None)
    own(view, directory)
    bucket = _owned_bucket(view, directory, name)
    directory.files.pop(name, None)
    view.session.execute(_DROP, (bucket, to_stored(name)))
    _count(view, directory, -1)


def _note(view: View, directory: Directory, name: str, node_id: int | None) -> None:
    """Check the access rules for a name that changes, and keep what the quota has to count."""
    path = join(directory.path, name)
    acl.require_write(view, path)
    if view.state.replaced is not None and not path.startswith(f"{OVERLAYS_PATH}/"):
        old = lookup(view.session, directory, name)
        view.state.replaced.append((old.id if old else None, node_id))


def forget_below(view: View, path: str) -> None:
    """Forget resolved directories at and below a path that was removed, moved or replaced."""
    known = view.state.directories
    prefix = path + "/"
    for each in [each for each in known if each == path or each.startswith(prefix)]:
        del known[each]


def _put(view: View, directory: Directory, name: str, node_id: int) -> None:
    bucket = _owned_bucket(view, directory, name)
    directory.files.pop(name, None)
    view.session.execute(_PUT, (bucket, to_stored(name), node_id))


def _count(view: View, directory: Directory, change: int) -> None:
    directory.entries += change
    now = time.time_ns()
    view.session.execute(_TOUCH, (directory.entries, now, now, directory.id))


def _owned_bucket(view: View, directory: Directory, name: str) -> int:
    """Return the bucket for a name of an owned directory, copied first where it is shared."""
    if not directory.depth:
        return directory.id
    session = view.session
    slot = session.name_hash(name) & ((1 << directory.depth) - 1)
    bucket, depth, generation = _slot(session, directory, slot)
    if generation == view.state.generation:
        return bucket
    new = session.new_id("next_node")
    session.execute(_COPY_BUCKET, (new, bucket))
    _point(view, directory, slot & ((1 << depth) - 1), new, depth)
    return new


def _point(view: View, directory: Directory, low: int, bucket: int, depth: int) -> None:
    """Let every slot that ends in the `depth` bits of `low` lead to an owned bucket."""
    generation = view.state.generation
    directory.slots.clear()
    for slot in range(low, 1 << directory.depth, 1 << depth):
        view.session.execute(_SET_REF, (directory.id, slot, bucket, depth, generation))


def _split_when_full(view: View, directory: Directory, name: str) -> None:
    if directory.entries <= BUCKET_ENTRIES:
        return
    session = view.session
    hashed = session.name_hash(name)
    if not directory.depth:
        _split_first(view, directory)
    elif not hashed >> _COUNT_SHIFT:
        slot = hashed & ((1 << directory.depth) - 1)
        bucket, depth, _ = _slot(session, directory, slot)
        count = one(session.execute(_COUNT, (bucket,)), f"bucket {bucket}")[0]
        if count > BUCKET_ENTRIES and depth < MAX_DEPTH:
            _split(view, directory, slot, bucket, depth)


def _split_first(view: View, directory: Directory) -> None:
    """Turn the single bucket of a directory into a referenced one, then split that."""
    session = view.session
    bucket = session.new_id("next_node")
    session.execute(_COPY_BUCKET, (bucket, directory.id))
    session.execute(_EMPTY_BUCKET, (directory.id,))
    directory.depth = 1
    session.execute(_SET_DEPTH, (1, directory.id))
    _point(view, directory, 0, bucket, 0)
    _split(view, directory, 0, bucket, 0)


def _split(view: View, directory: Directory, slot: int, bucket: int, depth: int) -> None:
    """Move the names with the next hash bit set from an owned bucket to a new one."""
    session = view.session
    if depth == directory.depth:
        session.execute(_DOUBLE_REFS, (1 << depth, directory.id))
        directory.depth += 1
        session.execute(_SET_DEPTH, (directory.depth, directory.id))
    new, bit = session.new_id("next_node"), 1 << depth
    rows = session.execute(_ENTRIES, (bucket,)).fetchall()
    moved = [row for row in rows if session.name_hash(from_stored(row[0])) & bit]
    session.connection.executemany(_DROP, [(bucket, name) for name, _ in moved])
    session.connection.executemany(_PUT, [(new, name, node) for name, node in moved])
    low = slot & (bit - 1)
    _point(view, directory, low, bucket, depth + 1)
    _point(view, directory, low | bit, new, depth + 1)
