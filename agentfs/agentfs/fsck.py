"""Checks the structure of a volume; each finding names an invariant of SPEC.md.

1 every branch and snapshot root is a directory     6 stored bytes match their hash
2 every entry leads to a node                       7 the journal's chain is whole
3 a directory's count equals its names              8 generations are unique and were handed out
4 a name is in the bucket that its hash selects     9 ids are below their counters
5 a file's chunks exist and add up to its size     10 SQLite's own check passes
11 the lineage of branches and snapshots is whole   12 quotas count what is there
13 hard links and the link area agree

With `repair` what can be put right without inventing anything is put right; see `repair`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import apsw

from . import damage, diff, files, journal, links, nodes, quota, repair
from .connection import one
from .directories import MAX_DEPTH
from .errors import AgentFSError
from .nodes import DIRECTORY, FILE, KINDS, Node
from .transaction import Session
from .types import Finding, Progress

_ROOTS = (
    "SELECT 'branch', name, root FROM branch UNION ALL SELECT 'snapshot', name, root FROM snapshot"
    " UNION ALL SELECT 'point', id, root FROM point WHERE root IS NOT NULL"
    " UNION ALL SELECT 'past', name, root FROM past"
)
_STATES = (
    "SELECT 'branch', name, root FROM branch UNION ALL SELECT 'snapshot', name, root FROM snapshot"
)
_HAS_LINKS = "SELECT EXISTS (SELECT 1 FROM node WHERE kind = 4)"
_REFS = "SELECT slot, bucket, depth FROM bucket_ref WHERE directory = ?"
_ENTRIES = "SELECT CAST(name AS BLOB), typeof(name), node FROM entry WHERE bucket = ?"
_EXISTS = "SELECT 1 FROM node WHERE id = ?"
_SIZES = "SELECT id, size FROM chunk"
_METAS = "SELECT key, value FROM meta"
_GENERATIONS = "SELECT count(*), count(DISTINCT generation), max(generation) FROM branch"
_STANDING = (
    "SELECT point FROM (SELECT point FROM branch UNION ALL SELECT point FROM snapshot)"
    " WHERE point IS NOT NULL"
)
_LINEAGE = (
    (
        "is missing",
        f"SELECT DISTINCT point FROM ({_STANDING} UNION ALL SELECT point FROM point_parent"
        " UNION ALL SELECT parent FROM point_parent) WHERE point NOT IN (SELECT id FROM point)",
    ),
    ("is not newer than its parents", "SELECT point FROM point_parent WHERE parent >= point"),
    (
        "has no root, and several states came from it",
        f"SELECT id FROM ({_STANDING} UNION ALL SELECT parent FROM point_parent) JOIN point"
        " ON id = point WHERE root IS NULL GROUP BY id HAVING count(*) > 1",
    ),
)
_MAXIMA = (
    ("next_node", "SELECT max(id) FROM node"),
    ("next_node", "SELECT max(bucket) FROM entry"),
    ("next_chunk", "SELECT max(id) FROM chunk"),
)
# What reading damaged pages can end with.
_UNREADABLE = (
    apsw.Error, AgentFSError, ValueError, TypeError, AttributeError, LookupError, OverflowError,
    MemoryError,
)  # fmt: skip
Fix = Callable[[], str]
"""Puts one thing right and says what was done and what is lost, or returns nothing."""


class Check:
    """One run over everything that a branch or snapshot reaches."""

    def __init__(
        self, session: Session, fixes: bool = False, progress: Progress | None = None
    ) -> None:
        """Begin with nothing found; with `fixes` the transaction is one for writing."""
        self.session = session
        self.fixes = fixes
        self.progress = progress
        self.found: list[Finding] = []
        self.seen: set[int] = set()
        self.sizes: dict[int, int] = {}

    def add(self, invariant: int, message: str, fix: Fix | None = None) -> None:
        """Note a broken invariant, and put it right when that is asked for and possible."""
        done = fix() if self.fixes and fix is not None else ""
        self.found.append(Finding(invariant, message, done))

    @contextmanager
    def _part(self, what: str) -> Iterator[None]:
        """Make a finding of what cannot be read, and go on with the next part."""
        self._tell(what, 0)
        try:
            yield
        except _UNREADABLE as error:
            self.add(10, f"{what} cannot be read: {error}")

    def _tell(self, what: str, count: int) -> None:
        if self.progress is not None:
            self.progress(what, count)

    # -- the tree -------------------------------------------------------------------------------

    def tree(self) -> None:
        """Walk from each root; a shared subtree is looked at once."""
        roots: list[tuple[str, str | int, int]] = []
        with self._part("chunks"):
            self.sizes = dict(self.session.execute(_SIZES))
        with self._part("branches and snapshots"):
            roots.extend((row[0], row[1], row[2]) for row in self.session.execute(_ROOTS))
        for what, name, root in roots:
            with self._part(f"{what} {name!r}"):
                self._root(what, name, root)

    def _root(self, what: str, name: str | int, root: int) -> None:
        node = nodes.get(self.session, root) if self._exists(root) else None
        if node is None or node.kind != DIRECTORY:
            message = f"the root {root} of {what} {name!r} is no directory"
            self.add(1, message, lambda: repair.drop_root(self.session, what, name))
        else:
            self._walk(node)

    def _exists(self, node_id: int) -> bool:
        return self.session.execute(_EXISTS, (node_id,)).fetchone() is not None

    def _walk(self, start: Node) -> None:
        waiting = [start.id]
        while waiting:
            node_id = waiting.pop()
            if node_id in self.seen:
                continue
            self.seen.add(node_id)
            if not len(self.seen) % 1000:
                self._tell("nodes", len(self.seen))
            try:
                waiting += self._node(nodes.get(self.session, node_id))
            except _UNREADABLE as error:
                self.add(10, f"node {node_id} cannot be read: {error}")

    def _node(self, node: Node) -> list[int]:
        """Check a node, and return what it leads to."""
        if node.kind == DIRECTORY:
            return self._directory(node)
        if node.kind == FILE:
            self._file(node)
        elif node.kind not in KINDS:
            self.add(2, f"node {node.id} has the unknown kind {node.kind}")
        return []

    def _directory(self, directory: Node) -> list[int]:
        children: list[int] = []
        count = 0
        for bucket, place in self._buckets(directory).items():
            for raw, stored_as, node_id in self.session.execute(_ENTRIES, (bucket,)).fetchall():
                name = self._name(directory, raw, stored_as)
                count += 1
                if self._leads(directory, bucket, raw, stored_as, node_id):
                    self._placed(directory, bucket, place, name)
                    children.append(node_id)
        if self.fixes:
            count = repair.count_entries(self.session, directory)
        if count != directory.entries:
            message = f"directory {directory.id} counts {directory.entries}, has {count}"
            self.add(3, message, lambda: repair.set_entries(self.session, directory.id, count))
        return children

    def _name(self, directory: Node, raw: bytes, stored_as: str) -> str:
        name = raw.decode("utf-8", "surrogateescape")
        is_text = not any(0xDC80 <= ord(each) <= 0xDCFF for each in name)
        if is_text != (stored_as == "text"):
            self.add(4, f"{name!r} in directory {directory.id} is stored as {stored_as}")
        return name

    def _leads(
        self, directory: Node, bucket: int, raw: bytes, stored_as: str, node_id: int
    ) -> bool:
        if node_id in self.seen or self._exists(node_id):
            return True
        name = raw.decode("utf-8", "replace")
        self.add(
            2, f"{name!r} in directory {directory.id} leads to the missing node {node_id}",
            lambda: repair.drop_entry(self.session, bucket, raw, stored_as),
        )  # fmt: skip
        return False

    def _placed(self, directory: Node, bucket: int, place: tuple[int, int], name: str) -> None:
        low, depth = place
        hashed = self.session.name_hash(name)
        if depth and hashed & ((1 << depth) - 1) != low:
            message = f"{name!r} is in the wrong bucket of directory {directory.id}"
            self.add(4, message, lambda: repair.move_entry(self.session, directory, bucket, name))

    def _buckets(self, directory: Node) -> dict[int, tuple[int, int]]:
        """Return each bucket with the hash bits it stands for, and check the slots."""
        if not directory.depth:
            return {directory.id: (0, 0)}
        found: dict[int, tuple[int, int]] = {}
        slots: set[int] = set()
        for slot, bucket, depth in self.session.execute(_REFS, (directory.id,)).fetchall():
            slots.add(slot)
            place = (slot & ((1 << min(depth, 63)) - 1), depth)
            if depth > directory.depth or found.setdefault(bucket, place) != place:
                self.add(4, f"slot {slot} of directory {directory.id} has a wrong bucket")
        if directory.depth > MAX_DEPTH:
            self.add(4, f"directory {directory.id} has the depth {directory.depth}")
        elif slots != set(range(1 << directory.depth)):
            message = f"directory {directory.id} lacks slots for depth {directory.depth}"
            self.add(4, message, lambda: repair.fill_slots(self.session, directory))
        return found

    def _file(self, node: Node) -> None:
        wrong = files.check(self.session, node, self.sizes)
        if wrong is not None:
            message = f"file version {node.id}: {wrong}"
            self.add(5, message, lambda: repair.set_size(self.session, node, self.sizes))

    # -- content, journal, counters ---------------------------------------------------------------

    def content(self) -> None:
        """Hash all stored content: every chunk and what nodes hold themselves."""
        with self._part("content"):
            for _, _, wrong in files.verify_all(self.session):
                self.add(6, wrong)

    def journal(self) -> None:
        """Recompute the chain."""
        with self._part("the journal"):
            outcome = journal.verify(self.session, self.progress)
            if not outcome.ok:
                at = outcome.first_bad_seq
                self.add(7, f"journal row {at} does not follow from the one before")

    def counters(self) -> None:
        """Compare ids and generations with the counters they come from."""
        with self._part("counters"):
            metas = dict(self.session.execute(_METAS))
            for key, sql in _MAXIMA:
                largest = one(self.session.execute(sql), key)[0]
                if largest is not None and largest >= metas.get(key, 0):
                    message = f"id {largest} is not below the counter {key}"
                    self.add(9, message, lambda: repair.raise_counters(self.session))
            branches, distinct, newest = one(self.session.execute(_GENERATIONS), "branch")
            if branches != distinct or (newest or 0) >= metas.get("next_generation", 0):
                message = "two branches share a generation, or one was never handed out"
                self.add(8, message, lambda: repair.new_generations(self.session))

    def lineage(self) -> None:
        """Check the points that merges find their base by."""
        with self._part("lineage"):
            for what, sql in _LINEAGE:
                for (point,) in self.session.execute(sql).fetchall():
                    message = f"point {point} {what}"
                    self.add(11, message, lambda gone=point: repair.drop_point(self.session, gone))

    def quotas(self) -> None:
        """Compare the counters of limited branches with what they have."""
        with self._part("quotas"):
            for message in quota.wrong(self.session):
                self.add(12, message, lambda: quota.repair(self.session))

    def links(self) -> None:
        """Compare the names of hard-linked files with the link area, in every state."""
        with self._part("hard links"):
            if not self.session.execute(_HAS_LINKS).get:
                return
            for what, name, root in self.session.execute(_STATES).fetchall():
                node = nodes.get(self.session, root)
                found = list(diff.new_links(self.session, None, node))
                for message in links.wrong(self.session, node, found):
                    fix = None
                    if what == "branch":
                        fix = lambda name=name: repair.links(self.session, name)  # noqa: E731
                    self.add(13, f"{what} {name!r}: {message}", fix)

    def sqlite(self, all_of_it: bool) -> None:
        """Run SQLite's check, the quick one or the one that compares indexes too."""
        sql = "PRAGMA integrity_check(20)" if all_of_it else "PRAGMA quick_check(20)"
        with self._part("the file"):
            for (message,) in self.session.execute(sql).fetchall():
                if message != "ok":
                    self.add(10, message, self._index_fix if "index" in message else None)
            for name in damage.wrong_tables(self.session.connection):
                self.add(10, f"the table {name!r} has other columns than the format")

    def _index_fix(self) -> str:
        return repair.indexes(self.session)


def check(
    session: Session, read_data: bool, fixes: bool = False, progress: Progress | None = None
) -> list[Finding]:
    """Return each broken invariant, in one consistent view."""
    work = Check(session, fixes, progress)
    work.sqlite(read_data or fixes)
    work.tree()
    if read_data:
        work.content()
    work.journal()
    work.counters()
    work.lineage()
    work.quotas()
    work.links()
    return work.found


def verify(session: Session, progress: Progress | None = None) -> list[Finding]:
    """Read and hash all that is stored, and the journal; return what is not as it was written."""
    work = Check(session, False, progress)
    work.sqlite(True)
    work.content()
    work.journal()
    return work.found
