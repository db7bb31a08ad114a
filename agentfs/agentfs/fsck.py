"""Checks the structure of a volume; each finding names an invariant of SPEC.md.

1 every branch and snapshot root is a directory     6 a chunk's bytes match its hash
2 every entry leads to a node                       7 the journal's chain is whole
3 a directory's count equals its names              8 generations are unique and were handed out
4 a name is in the bucket that its hash selects     9 ids are below their counters
5 a file's chunks exist and add up to its size     10 SQLite's own check passes
"""

from __future__ import annotations

from . import chunks, journal, nodes
from .connection import one
from .directories import MAX_DEPTH
from .errors import AgentFSError, Corrupt
from .nodes import DIRECTORY, FILE, KINDS, Node
from .paths import from_stored
from .transaction import Session
from .types import Finding

_ROOTS = (
    "SELECT 'branch', name, root FROM branch UNION ALL SELECT 'snapshot', name, root FROM snapshot"
    " UNION ALL SELECT 'base of branch', name, base_root FROM branch WHERE base_root IS NOT NULL"
)
_REFS = "SELECT slot, bucket, depth FROM bucket_ref WHERE directory = ?"
_ENTRIES = "SELECT name, node FROM entry WHERE bucket = ?"
_SIZES = "SELECT id, size FROM chunk"
_METAS = "SELECT key, value FROM meta"
_GENERATIONS = "SELECT count(*), count(DISTINCT generation), max(generation) FROM branch"
_MAXIMA = (
    ("next_node", "SELECT max(id) FROM node"),
    ("next_node", "SELECT max(bucket) FROM entry"),
    ("next_chunk", "SELECT max(id) FROM chunk"),
)


class Check:
    """One run over everything that a branch or snapshot reaches."""

    def __init__(self, session: Session) -> None:
        """Begin with nothing found."""
        self.session = session
        self.found: list[Finding] = []
        self.seen: set[int] = set()
        self.sizes: dict[int, int] = dict(session.execute(_SIZES))

    def add(self, invariant: int, message: str) -> None:
        """Note a broken invariant."""
        self.found.append(Finding(invariant, message))

    def roots(self) -> None:
        """Walk from each root; a shared subtree is looked at once."""
        for what, name, root in self.session.execute(_ROOTS).fetchall():
            node = self._node(root)
            if node is None or node.kind != DIRECTORY:
                self.add(1, f"the root {root} of {what} {name!r} is no directory")
            else:
                self._walk(node)

    def _node(self, node_id: int) -> Node | None:
        try:
            return nodes.get(self.session, node_id)
        except Corrupt:
            return None

    def _walk(self, start: Node) -> None:
        waiting = [start]
        while waiting:
            node = waiting.pop()
            if node.id in self.seen:
                continue
            self.seen.add(node.id)
            if node.kind == DIRECTORY:
                waiting += self._directory(node)
            elif node.kind == FILE:
                self._file(node)
            elif node.kind not in KINDS:
                self.add(2, f"node {node.id} has the unknown kind {node.kind}")

    def _directory(self, directory: Node) -> list[Node]:
        children: list[Node] = []
        count = 0
        for bucket, (low, depth) in self._buckets(directory).items():
            for stored, node_id in self.session.execute(_ENTRIES, (bucket,)).fetchall():
                count += 1
                name = from_stored(stored)
                if depth and self.session.name_hash(name) & ((1 << depth) - 1) != low:
                    self.add(4, f"{name!r} is in the wrong bucket of directory {directory.id}")
                if node_id not in self.seen:
                    children += self._child(directory, name, node_id)
        if count != directory.entries:
            self.add(3, f"directory {directory.id} counts {directory.entries}, has {count}")
        return children

    def _child(self, directory: Node, name: str, node_id: int) -> list[Node]:
        node = self._node(node_id)
        if node is None:
            self.add(2, f"{name!r} in directory {directory.id} leads to the missing node {node_id}")
        return [] if node is None else [node]

    def _buckets(self, directory: Node) -> dict[int, tuple[int, int]]:
        """Return each bucket with the hash bits it stands for, and check the slots."""
        if not directory.depth:
            return {directory.id: (0, 0)}
        found: dict[int, tuple[int, int]] = {}
        slots: set[int] = set()
        for slot, bucket, depth in self.session.execute(_REFS, (directory.id,)).fetchall():
            slots.add(slot)
            place = (slot & ((1 << depth) - 1), depth)
            if depth > directory.depth or found.setdefault(bucket, place) != place:
                self.add(4, f"slot {slot} of directory {directory.id} has a wrong bucket")
        if directory.depth > MAX_DEPTH or len(slots) != 1 << directory.depth:
            self.add(4, f"directory {directory.id} lacks slots for depth {directory.depth}")
        return found

    def _file(self, node: Node) -> None:
        try:
            stored = nodes.data(self.session, node.id)
            total = self._list(node.layout, stored) if node.layout else len(stored)
        except AgentFSError as error:
            self.add(5, f"file version {node.id}: {error}")
            return
        if total != node.size:
            self.add(5, f"file version {node.id} has {total} bytes, not {node.size}")

    def _list(self, levels: int, page: bytes) -> int:
        total = 0
        for chunk_id, length in chunks.read_list(self.session, levels, page):
            if self.sizes.get(chunk_id) != length:
                raise Corrupt(f"chunk {chunk_id}", "it is missing or has another size")
            total += length
        return total

    def chunk_bytes(self) -> None:
        """Hash every chunk."""
        verify, self.session.verify = self.session.verify, True
        try:
            for chunk_id in self.sizes:
                try:
                    chunks.get(self.session, chunk_id)
                except Corrupt as error:
                    self.add(6, str(error))
        finally:
            self.session.verify = verify

    def journal(self) -> None:
        """Recompute the chain."""
        outcome = journal.verify(self.session)
        if not outcome.ok:
            self.add(7, f"journal row {outcome.first_bad_seq} does not follow from the one before")

    def counters(self) -> None:
        """Compare ids and generations with the counters they come from."""
        metas = dict(self.session.execute(_METAS))
        for key, sql in _MAXIMA:
            largest = one(self.session.execute(sql), key)[0]
            if largest is not None and largest >= metas.get(key, 0):
                self.add(9, f"id {largest} is not below the counter {key}")
        branches, distinct, newest = one(self.session.execute(_GENERATIONS), "branch")
        if branches != distinct or (newest or 0) >= metas.get("next_generation", 0):
            self.add(8, "two branches share a generation, or one was never handed out")

    def sqlite(self) -> None:
        """Run SQLite's quick check."""
        for (message,) in self.session.execute("PRAGMA quick_check(20)").fetchall():
            if message != "ok":
                self.add(10, message)


def check(session: Session, read_data: bool) -> list[Finding]:
    """Return each broken invariant, in one consistent view."""
    work = Check(session)
    work.sqlite()
    work.roots()
    if read_data:
        work.chunk_bytes()
    work.journal()
    work.counters()
    return work.found
