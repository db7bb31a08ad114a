"""What `fsck` puts right: only what follows from the rest of the volume; nothing is invented.

A name whose node is gone is removed, because its content is nowhere. A file with damaged or
missing chunks stays where it is and is refused on reading: an older version may be whole.
"""

from __future__ import annotations

import apsw

from . import branches, chunklists, diff, directories, files, nodes
from . import links as hard_links
from .connection import one
from .nodes import Node
from .transaction import Session

_DROP_POINT = "DELETE FROM point WHERE id = ?"
_DROP_EDGES = "DELETE FROM point_parent WHERE ? IN (point, parent)"
_LEAVE_BRANCH = "UPDATE branch SET point = NULL WHERE point = ?"
_LEAVE_SNAPSHOT = "UPDATE snapshot SET point = NULL WHERE point = ?"
_DROP_PAST = "DELETE FROM past WHERE name = ?"
_DROP_TEXT = "DELETE FROM entry WHERE bucket = ? AND name = CAST(? AS TEXT)"
_DROP_BLOB = "DELETE FROM entry WHERE bucket = ? AND name = ?"
_SET_ENTRIES = "UPDATE node SET entries = ? WHERE id = ?"
_SET_SIZE = "UPDATE node SET size = ? WHERE id = ?"
_REF = "SELECT bucket FROM bucket_ref WHERE directory = ? AND slot = ?"
_MOVE = "UPDATE OR IGNORE entry SET bucket = ? WHERE bucket = ? AND CAST(name AS BLOB) = ?"
_DROP_ANY = "DELETE FROM entry WHERE bucket = ? AND CAST(name AS BLOB) = ?"
_SLOTS = "SELECT slot, bucket, depth, generation FROM bucket_ref WHERE directory = ?"
_ADD_SLOT = (
    "INSERT INTO bucket_ref(directory, slot, bucket, depth, generation) VALUES (?, ?, ?, ?, ?)"
)
_RAISE = (
    "INSERT OR REPLACE INTO meta(key, value)"
    " VALUES (?, max(?, coalesce((SELECT value FROM meta WHERE key = ?), 0)))"
)
_MAXIMA = (
    ("next_node", "SELECT max(coalesce((SELECT max(id) FROM node), 0),"
     " coalesce((SELECT max(bucket) FROM entry), 0))"),
    ("next_chunk", "SELECT coalesce(max(id), 0) FROM chunk"),
    ("next_generation", "SELECT max(coalesce((SELECT max(generation) FROM branch), 0),"
     " coalesce((SELECT max(generation) FROM node), 0),"
     " coalesce((SELECT max(generation) FROM bucket_ref), 0))"),
)  # fmt: skip
_BRANCHES = "SELECT name FROM branch ORDER BY name"
# Ids are leased in blocks: others may hold some above the largest that is in use.
_LEASED = 100_000


def drop_root(session: Session, what: str, name: str | int) -> str:
    """Let go of a state that is not there; branches and snapshots stay for a look by hand."""
    if what == "past":
        session.execute(_DROP_PAST, (name,))
        return "the past state was forgotten; `at` makes it again"
    return drop_point(session, int(name)) if what == "point" else ""


def links(session: Session, name: str) -> str:
    """Let the names of a branch and its link area agree."""
    session.forget()
    branches.bump(session, name)
    view = nodes.View(session, session.branch(name), True, "")
    root = nodes.get(session, view.state.root)
    hard_links.reconcile(view, root, root, list(diff.new_links(session, None, root)))
    return "names without a file were removed, and files without a name let go"


def drop_point(session: Session, point: int) -> str:
    """Forget a point; branches that have it in common only then have less in common."""
    session.execute(_DROP_POINT, (point,))
    session.execute(_DROP_EDGES, (point,))
    session.execute(_LEAVE_BRANCH, (point,))
    session.execute(_LEAVE_SNAPSHOT, (point,))
    return "the point was forgotten; merges that need it list more conflicts"


def drop_entry(session: Session, bucket: int, raw: bytes, stored_as: str) -> str:
    """Remove a name that leads nowhere."""
    session.execute(_DROP_TEXT if stored_as == "text" else _DROP_BLOB, (bucket, raw))
    return "the name was removed; what it led to is lost"


def set_entries(session: Session, directory: int, count: int) -> str:
    """Let a directory's count be that of its names."""
    session.execute(_SET_ENTRIES, (count, directory))
    return f"the count was set to {count}; nothing is lost"


def count_entries(session: Session, directory: Node) -> int:
    """Return how many names a directory has after what was put right."""
    return len(directories.names(session, directory))


def move_entry(session: Session, directory: Node, bucket: int, name: str) -> str:
    """Move a name to the bucket that its hash selects, unless that has it already."""
    slot = session.name_hash(name) & ((1 << directory.depth) - 1)
    row = session.execute(_REF, (directory.id, slot)).fetchone()
    if row is None or row[0] == bucket:
        return ""
    raw = name.encode("utf-8", "surrogateescape")
    session.execute(_MOVE, (row[0], bucket, raw))
    if session.connection.changes():
        return "the name was moved to its bucket; nothing is lost"
    session.execute(_DROP_ANY, (bucket, raw))
    return "the name was removed here; its bucket has one of the same name"


def fill_slots(session: Session, directory: Node) -> str:
    """Let missing slots lead to the bucket of their bits, or to an empty one."""
    known = {slot: tuple(rest) for slot, *rest in session.execute(_SLOTS, (directory.id,))}
    lost = 0
    for slot in range(1 << directory.depth):
        if slot in known:
            continue
        twin = next(
            (ref for other, ref in known.items() if not (other ^ slot) & ((1 << ref[1]) - 1)), None
        )
        lost += twin is None
        # An empty bucket has no rows, so that a new id is all it takes.
        ref = twin or (session.new_id("next_node"), directory.depth, 0)
        session.execute(_ADD_SLOT, (directory.id, slot, *ref))
        known[slot] = ref
    if lost:
        return f"{lost} slots lead to empty buckets now; the names that were there are lost"
    return "the slots lead to their buckets again; nothing is lost"


def set_size(session: Session, node: Node, sizes: dict[int, int]) -> str:
    """Let a file's size be what its verified list of chunks adds up to."""
    size = chunklists.decode(node.layout, nodes.data(session, node.id)).size
    if files.check(session, node._replace(size=size), sizes) is not None:
        return ""
    session.execute(_SET_SIZE, (size, node.id))
    return f"the size was set to {size}, which the chunks add up to; nothing is lost"


def raise_counters(session: Session) -> str:
    """Put every counter above what was ever seen in use."""
    for key, sql in _MAXIMA:
        largest = one(session.execute(sql), key)[0]
        session.execute(_RAISE, (key, largest + _LEASED, key))
    return "the counters were raised; nothing is lost"


def new_generations(session: Session) -> str:
    """Give every branch a generation of its own, so that all of them copy on their next write."""
    raise_counters(session)
    session.forget()
    for (name,) in session.execute(_BRANCHES).fetchall():
        branches.bump(session, name)
    return "every branch has a new generation; nothing is lost"


def indexes(session: Session) -> str:
    """Build the indexes again from their tables."""
    try:
        session.execute("REINDEX").fetchall()
    except apsw.Error:
        return ""
    return "the indexes were built again; nothing is lost"
