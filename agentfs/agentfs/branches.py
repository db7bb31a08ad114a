"""Branches and snapshots: generations, fork, snapshot, restore, deletion.

Giving a branch a new generation makes everything it had shared: that is all a fork costs.
"""

from __future__ import annotations

import time

from . import acl, diff, directories, journal, lineage, links, nodes, quota
from .connection import one
from .errors import BranchInUse, BranchNotFound, InvalidArgument, InvalidName, RefExists
from .nodes import Node, View
from .paths import KV_PATH, LINKS_NAME, SYSTEM_NAME, SYSTEM_PATH
from .transaction import PAST_MARK, Session
from .types import Branch, Snapshot

_NAME_BYTES = 255
_BRANCH_FIELDS = "name, root, generation, parent, created_ns, principal"
_BRANCHES = f"SELECT {_BRANCH_FIELDS} FROM branch ORDER BY name"
_SNAPSHOTS = "SELECT name, branch, root, seq, message, created_ns FROM snapshot ORDER BY seq"
_TAKEN = (
    "SELECT 1 FROM branch WHERE name = :name UNION ALL SELECT 1 FROM snapshot WHERE name = :name"
)
_SET_GENERATION = "UPDATE branch SET generation = ? WHERE name = ?"
_SET_ROOT = "UPDATE branch SET root = ?, generation = ? WHERE name = ?"
_FORK = (
    "INSERT INTO branch(name, root, generation, parent, point, created_ns, principal)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_SNAPSHOT = (
    "INSERT INTO snapshot(name, branch, root, seq, message, created_ns, point)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_SNAPSHOT_BRANCH = "SELECT branch FROM snapshot WHERE name = ?"
_DELETE = "DELETE FROM branch WHERE name = ?"
_DEFAULT = "SELECT value FROM meta WHERE key = 'default_branch'"
_SET_DEFAULT = "UPDATE meta SET value = ? WHERE key = 'default_branch'"


def bump(session: Session, name: str) -> None:
    """Give a branch a new generation, so that all its nodes become shared and immutable."""
    state = session.branch(name)
    state.generation = session.new_generation()
    session.execute(_SET_GENERATION, (state.generation, name))


def check_free(session: Session, name: str) -> None:
    """Refuse a name that no branch or snapshot may have, or that one has.

    Raises:
        InvalidName, RefExists.
    """
    if not name or any(ord(each) < 32 or 0xD800 <= ord(each) <= 0xDFFF for each in name):
        raise InvalidName(name, "a branch or snapshot needs a name without control characters")
    if len(name.encode()) > _NAME_BYTES:
        raise InvalidName(name, f"a branch or snapshot name has at most {_NAME_BYTES} bytes")
    if session.execute(_TAKEN, {"name": name}).fetchone():
        raise RefExists(name)


def fork(view: View, name: str, source: str) -> None:
    """Make a branch with the state of a branch, a snapshot or a past state."""
    session = view.session
    check_free(session, name)
    state = session.ref(source)
    parent, mark, _ = source.partition(PAST_MARK)
    if state.generation:
        bump(session, source)
    elif not mark:
        parent = one(session.execute(_SNAPSHOT_BRANCH, (source,)), f"snapshot {source}")[0]
    # What a past state came from is not known any more.
    point = lineage.add(session, state.root, {}) if mark else lineage.mark(session, source)
    source = source.replace(PAST_MARK, "")
    detail = {"source": source, "name": name}
    journal.append(view, "fork", name, source, state.root, state.root, detail)
    row = (name, state.root, session.new_generation(), parent, point)
    session.execute(_FORK, (*row, time.time_ns(), view.principal))
    quota.forked(view, name, parent, state.root)


def snapshot(view: View, name: str, message: str) -> Snapshot:
    """Name the branch's state for ever."""
    session, state = view.session, view.state
    check_free(session, name)
    bump(session, state.name)
    seq = journal.append(view, "snapshot", name, after=state.root, detail={"message": message})
    made = Snapshot(name, state.name, state.root, seq, message, time.time_ns())
    point = lineage.mark(session, state.name)
    row = (name, state.name, state.root, seq, message, made.created_ns, point)
    session.execute(_SNAPSHOT, row)
    return made


def restore(view: View, ref: str) -> None:
    """Set the whole branch to the state of a snapshot or another branch, or to a past one."""
    session, state = view.session, view.state
    source = session.ref(ref)
    if source.generation and source is not state:
        bump(session, ref)
    # Going back to a past state of the branch is an edit of it.
    if PAST_MARK not in ref:
        lineage.continue_from(session, state.name, lineage.mark(session, ref))
    before = state.root
    state.root, state.generation = source.root, session.new_generation()
    state.directories.clear()
    session.execute(_SET_ROOT, (state.root, state.generation, state.name))
    if view.limits is not None:
        old, new = (nodes.get(session, each) for each in (before, state.root))
        acl.require_changes(view, diff.changes(session, old, new, "/", False))
    quota.recount(view)
    journal.append(view, "restore", "/", ref.replace(PAST_MARK, ""), before, state.root)


def restore_paths(view: View, ref: str, paths: list[str]) -> None:
    """Set only some paths back; one that is missing in the other state is removed."""
    session = view.session
    source = session.ref(ref)
    if source.generation:
        bump(session, ref)
    past = View(session, source, view.system, view.principal)
    for path in paths:
        if path == "/":
            raise InvalidArgument(path, "restore without paths sets the whole tree back")
        _restore_path(view, past, path)


def restore_files(view: View, ref: str) -> None:
    """Set the whole branch back but for the system area, of which only the keys come back."""
    session = view.session
    source = session.ref(ref)
    if source.generation:
        bump(session, ref)
    past = View(session, source, view.system, view.principal)
    old, new = (dict(directories.scan(session, directories.root(each))) for each in (past, view))
    for name in sorted({*old, *new} - {LINKS_NAME, SYSTEM_NAME}):
        if old.get(name) != new.get(name):
            _restore_path(view, past, f"/{name}")
    inner = View(session, view.state, True, view.principal)
    there = View(session, source, True, view.principal)
    if _past_node(there, SYSTEM_PATH) and _past_node(inner, SYSTEM_PATH):
        bring_back(inner, there, KV_PATH, KV_PATH)


def _restore_path(view: View, past: View, path: str) -> None:
    bring_back(view, past, path, path)


def bring_back(view: View, past: View, origin: str, path: str) -> None:
    """Let a path have what another state has at `origin`, or nothing where that has nothing."""
    old = _past_node(past, origin)
    place = directories.locate(view, path, follow=False, through=False)
    acl.require_tree(view, place.path, "write")
    directories.forget_below(view, place.path)
    has_links = links.any_at(view, place.path, place.node) or links.any_at(past, origin, old)
    # Nothing changes where both are the same.
    has_links = has_links and (past.state is not view.state or origin != path)
    kept = None
    if has_links:
        bump(view.session, view.state.name)
        kept = links.state(view)
        links.dropped(view, place.path)
    if old is not None:
        directories.set_entry(view, place.directory, place.name, old.id, place.node is None)
        if has_links:
            links.adopt(view, past, origin, place.path)
    elif place.node is not None:
        directories.drop_entry(view, place.directory, place.name)
    before, after = (each.id if each else None for each in (place.node, old))
    source = past.state.name.replace(PAST_MARK, "")
    journal.append(view, "restore", place.path, source, before, after, kept)


def _past_node(past: View, path: str) -> Node | None:
    try:
        return directories.locate(past, path, follow=False, through=False).node
    except (FileNotFoundError, NotADirectoryError):
        return None


def delete(view: View, name: str) -> None:
    """Forget a branch; its journal rows stay."""
    session = view.session
    if name == view.state.name:
        raise BranchInUse(name, "this handle is on it")
    if name == default(session):
        raise BranchInUse(name, "it is the default branch; check out another one first")
    root = session.branch(name).root
    session.execute(_DELETE, (name,))
    quota.drop(session, name)
    session.forget_ref(name)
    journal.append(view, "delete_branch", name, before=root)


def default(session: Session) -> str:
    """Return the branch that a handle opens when none is named."""
    row = session.execute(_DEFAULT).fetchone()
    return row[0] if row else "main"


def set_default(view: View, name: str) -> None:
    """Let handles that name no branch open this one."""
    view.session.branch(name)
    view.session.execute(_SET_DEFAULT, (name,))
    journal.append(view, "checkout", name)


def listing(session: Session) -> list[Branch]:
    """Return all branches, sorted by name."""
    return [Branch(*row) for row in session.execute(_BRANCHES)]


def snapshots(session: Session) -> list[Snapshot]:
    """Return all snapshots, oldest first."""
    return [Snapshot(*row) for row in session.execute(_SNAPSHOTS)]


def require(session: Session, name: str) -> None:
    """Raise BranchNotFound unless a branch has this name."""
    if session.ref(name).generation == 0:
        raise BranchNotFound(name, "it is a snapshot; use `at` to read it or `fork` to write")
