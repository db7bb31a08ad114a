"""Compares two states, walking only what differs: equal node or bucket ids are equal content."""

from __future__ import annotations

from . import directories, nodes
from .nodes import DIRECTORY, FILE, Node
from .paths import SYSTEM_NAME, join
from .transaction import Session
from .types import Change, ChangeKind


class Comparison:
    """Collects the changes between two trees in one read."""

    def __init__(self, session: Session, system: bool) -> None:
        """Begin with no changes; without `system` the system area is left out."""
        self.session = session
        self.system = system
        self.changes: list[Change] = []
        # A list of work instead of recursion: paths can be two thousand names deep.
        self._waiting: list[tuple[str, Node | None, Node | None]] = []

    def run(self, path: str, before: Node | None, after: Node | None) -> list[Change]:
        """Return the changes at and below a path, sorted by path."""
        self._waiting.append((path, before, after))
        while self._waiting:
            self._compare(*self._waiting.pop())
        return sorted(self.changes, key=lambda each: each.path)

    def _compare(self, path: str, before: Node | None, after: Node | None) -> None:
        """Compare what two states have at a path."""
        if before is not None and after is not None:
            if before.id == after.id:
                return
            if before.kind == after.kind == DIRECTORY:
                if (before.mode, before.xattrs) != (after.mode, after.xattrs):
                    self._add(path, "modified", before, after)
                self._directories(path, before, after)
            elif before.kind == DIRECTORY or after.kind == DIRECTORY:
                self._waiting += [(path, before, None), (path, None, after)]
            elif not same_content(self.session, before, after):
                self._add(path, "modified", before, after)
        elif before is not None or after is not None:
            self._one_sided(path, before, after)

    def _one_sided(self, path: str, before: Node | None, after: Node | None) -> None:
        self._add(path, "added" if before is None else "removed", before, after)
        node = before or after
        if node is not None and node.kind == DIRECTORY:
            for name, child in directories.scan(self.session, node):
                if not self._hidden(path, name):
                    below = join(path, name)
                    added = before is None
                    self._waiting.append(
                        (below, None if added else child, child if added else None)
                    )

    def _directories(self, path: str, before: Node, after: Node) -> None:
        for name, (old, new) in differing(self.session, before, after).items():
            if not self._hidden(path, name):
                self._waiting.append((join(path, name), self._node(old), self._node(new)))

    def _hidden(self, path: str, name: str) -> bool:
        return path == "/" and name == SYSTEM_NAME and not self.system

    def _node(self, node_id: int | None) -> Node | None:
        return None if node_id is None else nodes.get(self.session, node_id)

    def _add(self, path: str, kind: ChangeKind, before: Node | None, after: Node | None) -> None:
        old = nodes.to_stat(before) if before else None
        new = nodes.to_stat(after) if after else None
        self.changes.append(Change(path, kind, old, new))


def changes(
    session: Session, before: Node | None, after: Node | None, path: str, system: bool
) -> list[Change]:
    """Return what differs between two nodes at a path, sorted by path."""
    return Comparison(session, system).run(path, before, after)


def differing(
    session: Session, before: Node, after: Node
) -> dict[str, tuple[int | None, int | None]]:
    """Return the names whose node differs between two directories, with both node ids."""
    old_buckets = directories.buckets(session, before)
    new_buckets = directories.buckets(session, after)
    old_mask, new_mask = (1 << before.depth) - 1, (1 << after.depth) - 1
    only_old: set[int] = set()
    only_new: set[int] = set()
    for slot in range(1 << max(before.depth, after.depth)):
        old, new = old_buckets[slot & old_mask], new_buckets[slot & new_mask]
        if old != new:
            only_old.add(old)
            only_new.add(new)
    was = directories.entries(session, only_old)
    now = directories.entries(session, only_new)
    found: dict[str, tuple[int | None, int | None]] = {
        name: (node, now.get(name)) for name, node in was.items() if now.get(name) != node
    }
    found.update({name: (None, node) for name, node in now.items() if name not in was})
    return found


def same_content(session: Session, one: Node, other: Node) -> bool:
    """Say whether two versions differ in nothing but their times."""
    if one.kind == other.kind == DIRECTORY:
        return one.id == other.id
    if (one.kind, one.mode, one.size, one.xattrs) != (
        other.kind,
        other.mode,
        other.size,
        other.xattrs,
    ):
        return False
    if one.kind == FILE and one.layout != other.layout:
        return False
    return nodes.data(session, one.id) == nodes.data(session, other.id)
