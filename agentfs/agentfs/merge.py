"""Three-way merge of a branch into another one, walking only what both sides changed."""

from __future__ import annotations

from . import branches, diff, directories, journal, nodes
from .directories import Directory
from .errors import InvalidArgument, MergeConflict
from .nodes import DIRECTORY, Node, View
from .paths import SYSTEM_NAME, join
from .transaction import Session
from .types import Conflict, ConflictKind, MergeResult, Strategy

_ANCESTRY = "SELECT parent, base_root, base_seq FROM branch WHERE name = ?"
_SET_BASE = "UPDATE branch SET base_root = ?, base_seq = ? WHERE name = ? AND parent = ?"
STRATEGIES = ("fail", "ours", "theirs")


class Merge:
    """One merge in a write transaction; changes the target as it walks."""

    def __init__(self, view: View, strategy: Strategy) -> None:
        """Begin with no conflicts."""
        self.view = view
        self.session = view.session
        self.strategy = strategy
        self.conflicts: list[Conflict] = []
        self._waiting: list[tuple[Directory, Node | None, Node]] = []

    def run(self, ours: Directory, base: Node, theirs: Node) -> None:
        """Bring in what the other side changed at and below a directory."""
        self._waiting.append((ours, base, theirs))
        while self._waiting:
            self._directory(*self._waiting.pop())

    def _directory(self, ours: Directory, base: Node | None, theirs: Node) -> None:
        """Bring into one directory what the other side changed since the base."""
        mine = nodes.get(self.session, ours.id)
        if (base is not None and base.id == theirs.id) or mine.id == theirs.id:
            return
        self._attributes(ours, mine, base, theirs)
        for name, (old, new) in self._their_changes(base, theirs).items():
            if ours.path == "/" and name == SYSTEM_NAME and not self.view.system:
                continue
            self._name(ours, name, old, new)

    def _their_changes(
        self, base: Node | None, theirs: Node
    ) -> dict[str, tuple[int | None, int | None]]:
        if base is not None:
            return diff.differing(self.session, base, theirs)
        wanted = set(directories.buckets(self.session, theirs).values())
        found = directories.entries(self.session, wanted)
        return {name: (None, node) for name, node in found.items()}

    def _attributes(self, ours: Directory, mine: Node, base: Node | None, theirs: Node) -> None:
        """Take mode and attributes of a directory that only the other side changed."""
        if base is None:
            return
        then, new = (base.mode, base.xattrs), (theirs.mode, theirs.xattrs)
        if new != then and (mine.mode, mine.xattrs) == then:
            directories.own(self.view, ours)
            nodes.set_directory(self.view, ours.id, theirs.mode, mine.mtime_ns, theirs.xattrs)

    def _name(self, parent: Directory, name: str, base: int | None, theirs: int | None) -> None:
        mine = directories.lookup(self.session, parent, name)
        ours = mine.id if mine else None
        if ours == theirs:
            return
        if ours == base:
            self._take(parent, name, ours, theirs)
            return
        base_node, their_node = self._node(base), self._node(theirs)
        path = join(parent.path, name)
        if mine and their_node and mine.kind == their_node.kind == DIRECTORY:
            if base_node is not None and base_node.kind != DIRECTORY:
                base_node = None
            ours_below = directories.resolve(self.view, path)
            self._waiting.append((ours_below, base_node, their_node))
        elif not self._same(mine, their_node) and not self._same(base_node, their_node):
            if self._same(base_node, mine):
                self._take(parent, name, ours, theirs)
            else:
                self._conflict(parent, name, base, mine, their_node)

    def _same(self, one: Node | None, other: Node | None) -> bool:
        if one is None or other is None:
            return one is other
        if one.kind == other.kind == DIRECTORY:
            return not diff.changes(self.session, one, other, "/", True)
        return diff.same_content(self.session, one, other)

    def _conflict(
        self, parent: Directory, name: str, base: int | None, mine: Node | None, their: Node | None
    ) -> None:
        kind: ConflictKind = "content"
        if mine is None or their is None:
            kind = "delete/modify"
        elif mine.kind != their.kind:
            kind = "type"
        ours, theirs = mine.id if mine else None, their.id if their else None
        self.conflicts.append(Conflict(join(parent.path, name), kind, base, ours, theirs))
        if self.strategy == "theirs":
            self._take(parent, name, ours, theirs)

    def _take(self, parent: Directory, name: str, ours: int | None, theirs: int | None) -> None:
        directories.forget_below(self.view, join(parent.path, name))
        if theirs is not None:
            directories.set_entry(self.view, parent, name, theirs, ours is None)
        else:
            directories.drop_entry(self.view, parent, name)

    def _node(self, node_id: int | None) -> Node | None:
        return None if node_id is None else nodes.get(self.session, node_id)


def merge(view: View, name: str, strategy: Strategy, dry_run: bool = False) -> MergeResult:
    """Merge a branch into the view's branch; the caller undoes a dry run.

    Raises:
        MergeConflict: both sides changed the same thing and the strategy is "fail".
    """
    session, state = view.session, view.state
    if strategy not in STRATEGIES:
        raise InvalidArgument(strategy, "a strategy is 'fail', 'ours' or 'theirs'")
    if name == state.name:
        raise InvalidArgument(name, "a branch cannot be merged into itself")
    source = session.branch(name)
    before = nodes.get(session, state.root)
    base = common_ancestor(session, state.name, name)
    # What is taken from the source, and what was there before, must not change any more.
    branches.bump(session, name)
    branches.bump(session, state.name)
    work = Merge(view, strategy)
    theirs = nodes.get(session, source.root)
    work.run(directories.root(view), nodes.get(session, base), theirs)
    conflicts = tuple(sorted(work.conflicts, key=lambda each: each.path))
    if conflicts and strategy == "fail" and not dry_run:
        raise MergeConflict(name, conflicts)
    after = nodes.get(session, state.root)
    changed = diff.changes(session, before, after, "/", view.system)
    _record(view, name, source.root, before.id, len(changed), len(conflicts))
    return MergeResult(tuple(changed), conflicts, not dry_run)


def _record(
    view: View, name: str, source_root: int, before: int, changes: int, conflicts: int
) -> None:
    detail = {"changes": changes, "conflicts": conflicts}
    seq = journal.append(view, "merge", "/", name, before, view.state.root, detail)
    for branch, parent in ((name, view.state.name), (view.state.name, name)):
        view.session.execute(_SET_BASE, (source_root, seq, branch, parent))


def common_ancestor(session: Session, one: str, other: str) -> int:
    """Return the root that two branches last had in common.

    Raises:
        InvalidArgument: they have none.
    """
    ours, theirs = _ancestry(session, one), _ancestry(session, other)
    for name, their_base in theirs.items():
        if name in ours:
            candidates = [each for each in (ours[name], their_base) if each is not None]
            return min(candidates, key=lambda each: each[0])[1]
    raise InvalidArgument(other, f"it has no common ancestor with {one!r}")


def _ancestry(session: Session, name: str) -> dict[str, tuple[int, int] | None]:
    """Return each ancestor of a branch with the journal number and the root it left it at."""
    found: dict[str, tuple[int, int] | None] = {name: None}
    while True:
        row = session.execute(_ANCESTRY, (name,)).fetchone()
        if row is None or row[0] is None or row[0] in found:
            return found
        name = row[0]
        found[name] = (row[2], row[1])
