"""Compares two states, walking only what differs: equal node or bucket ids are equal content."""

from __future__ import annotations

from collections.abc import Iterator

from . import acl, directories, files, links, nodes
from .directories import LINKED_FILE
from .nodes import DIRECTORY, FILE, LINK, ON_HOST, Node
from .paths import LINKS_NAME, SYSTEM_NAME, is_inside, is_system, join
from .posix import lasting
from .transaction import Session
from .types import Change, ChangeKind

_OTHER_BUCKETS = (
    "SELECT a.bucket, b.bucket FROM bucket_ref a JOIN bucket_ref b ON b.slot = a.slot"
    " WHERE a.directory = ? AND b.directory = ? AND a.bucket <> b.bucket"
)
Roots = tuple[Node | None, Node | None]


class Comparison:
    """Collects the changes between two trees in one read."""

    def __init__(
        self, session: Session, system: bool, limits: acl.Limits | None = None,
        roots: Roots | None = None,
    ) -> None:  # fmt: skip
        """Begin with no changes; without `system` the system area is left out.

        With the roots of both states, hard links are compared by their files.
        """
        self.session = session
        self.system = system
        self.limits = limits
        self.roots = roots
        self.changes: list[Change] = []
        # A list of work instead of recursion: paths can be two thousand names deep.
        self._waiting: list[tuple[str, Node | None, Node | None]] = []

    def run(self, path: str, before: Node | None, after: Node | None) -> list[Change]:
        """Return the changes at and below a path, sorted by path."""
        self._waiting.append((path, before, after))
        while self._waiting:
            self._compare(*self._waiting.pop())
        if self.roots is not None:
            self._linked(path, *self.roots)
        return sorted(self.changes, key=lambda each: each.path)

    def finds_nothing(self, path: str, before: Node, after: Node) -> bool:
        """Say whether two nodes are equal, stopping at the first change."""
        self._waiting.append((path, before, after))
        while self._waiting and not self.changes:
            self._compare(*self._waiting.pop())
        return not self.changes

    def _compare(self, path: str, before: Node | None, after: Node | None) -> None:
        """Compare what two states have at a path."""
        before = self._seen(before, False)
        after = self._seen(after, True)
        if before is not None and after is not None:
            if before.id == after.id:
                return
            self._versions(path, before, after)
        elif before is not None:
            self._add(path, "removed", before, None)
            self._below(path, before, added=False)
        elif after is not None:
            self._add(path, "added", None, after)
            self._below(path, after, added=True)

    def _versions(self, path: str, before: Node, after: Node) -> None:
        """Compare two nodes with different ids."""
        if before.kind != after.kind:
            self._add(path, "type", before, after)
            self._below(path, before, added=False)
            self._below(path, after, added=True)
            return
        if before.kind != DIRECTORY and not same_bytes(self.session, before, after):
            self._add(path, "modified", before, after)
        elif (before.mode, lasting(before.xattrs)) != (after.mode, lasting(after.xattrs)):
            self._add(path, "mode", before, after)
        if before.kind == DIRECTORY:
            self._directories(path, before, after)

    def _below(self, path: str, node: Node, added: bool) -> None:
        """Take all names of a directory that only one state has."""
        if node.kind != DIRECTORY:
            return
        for name, child in directories.scan(self.session, node):
            if not self._hidden(path, name):
                before, after = (None, child) if added else (child, None)
                self._waiting.append((join(path, name), before, after))

    def _directories(self, path: str, before: Node, after: Node) -> None:
        for name, (old, new) in differing(self.session, before, after).items():
            if not self._hidden(path, name):
                self._waiting.append((join(path, name), self._node(old), self._node(new)))

    def _hidden(self, path: str, name: str) -> bool:
        if path == "/" and (name == LINKS_NAME or (name == SYSTEM_NAME and not self.system)):
            return True
        return self.limits is not None and not self.limits.visible(join(path, name))

    def _linked(self, path: str, before: Node | None, after: Node | None) -> None:
        """Take every name at and below a path that leads to a hard-linked file that changed."""
        if before is None or after is None:
            return
        old, new = (directories.lookup(self.session, each, LINKS_NAME) for each in (before, after))
        if old is None or new is None or old.id == new.id:
            return
        known = {each.path for each in self.changes}
        for number, (was, now) in differing(self.session, old, new).items():
            if was is None or now is None:
                continue
            sides = [self._file_in(each) for each in (was, now)]
            homes = (nodes.get(self.session, each) for each in (was, now))
            old_names, new_names = (
                {each.path for each in links.names_of(self.session, number, home)} for home in homes
            )
            for name in (old_names & new_names) - known:
                if is_inside(name, path) and (self.system or not is_system(name)):
                    self._compare(name, *sides)

    def _file_in(self, home: int) -> Node | None:
        return directories.lookup(self.session, nodes.get(self.session, home), LINKED_FILE)

    def _seen(self, node: Node | None, after: bool) -> Node | None:
        """Return a node, or the file that it leads to when it is a hard link."""
        if node is None or node.kind != LINK or self.roots is None:
            return node
        root = self.roots[after]
        found = None if root is None else links.file_of(self.session, root, node)
        return node if found is None else found[0]

    def _node(self, node_id: int | None) -> Node | None:
        return None if node_id is None else nodes.get(self.session, node_id)

    def _add(self, path: str, kind: ChangeKind, before: Node | None, after: Node | None) -> None:
        if self.limits is not None and not self.limits.readable(path):
            return
        old = nodes.to_stat(before) if before else None
        new = nodes.to_stat(after) if after else None
        self.changes.append(Change(path, kind, old, new))


def changes(
    session: Session, before: Node | None, after: Node | None, path: str, system: bool,
    limits: acl.Limits | None = None, roots: Roots | None = None,
) -> list[Change]:  # fmt: skip
    """Return what differs between two nodes at a path, sorted by path.

    `roots` are those of both states, where the nodes are not; a change of a hard-linked file is one
    of each of its names. What `limits` do not let the principal read is left out.
    """
    return Comparison(session, system, limits, roots or (before, after)).run(path, before, after)


def new_links(
    session: Session, before: Node | None, after: Node | None
) -> Iterator[tuple[str, Node]]:
    """Yield the hard links that only the second of two trees has, with their paths."""
    waiting: list[tuple[str, Node | None, Node | None]] = [("/", before, after)]
    while waiting:
        path, old, new = waiting.pop()
        for name, (was, now) in differing(session, old, new).items():
            node = None if now is None else nodes.get(session, now)
            if node is not None and node.kind == LINK:
                yield join(path, name), node
            elif node is not None and node.kind == DIRECTORY and name != LINKS_NAME:
                past = None if was is None else nodes.get(session, was)
                plain = past is None or past.kind != DIRECTORY or past.layout == ON_HOST
                # What nobody has listed has no hard links, and the host is not asked.
                if node.layout != ON_HOST:
                    waiting.append((join(path, name), None if plain else past, node))


def differing(
    session: Session, before: Node | None, after: Node | None
) -> dict[str, tuple[int | None, int | None]]:
    """Return the names whose node differs between two directories, with both node ids."""
    old, new = _differing_buckets(session, before, after)
    return directories.differing(session, old, new)


def _differing_buckets(
    session: Session, before: Node | None, after: Node | None
) -> tuple[set[int], set[int]]:
    """Return the buckets that only one of two directories has."""
    if before and after and before.depth == after.depth > 0:
        pairs = session.execute(_OTHER_BUCKETS, (before.id, after.id)).fetchall()
        return {old for old, _ in pairs}, {new for _, new in pairs}
    old, new = (
        set(directories.buckets(session, each).values()) if each else set[int]()
        for each in (before, after)
    )
    return old - new, new - old


def same_bytes(session: Session, one: Node, other: Node) -> bool:
    """Say whether two files or two links lead to the same bytes, however they are stored."""
    if one.size != other.size:
        return False
    stored, other_stored = nodes.data(session, one.id), nodes.data(session, other.id)
    if one.layout == other.layout and stored == other_stored:
        return True
    return one.kind == FILE and files.same_bytes(session, one, other)


def same_state(session: Session, one: Node | None, other: Node | None) -> bool:
    """Say whether two nodes, and all below them, differ in nothing but their times."""
    if one is None or other is None:
        return one is other
    return Comparison(session, True).finds_nothing("/", one, other)
